package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
)

var db *sql.DB
var columns = map[string]string{"name": "name", "age": "age"}
var allowed = map[string]bool{"name": true}
var word = regexp.MustCompile(`^[a-z]+$`)

func handler(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	db.Query("SELECT name FROM users WHERE id = $1", id)
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil {
		return
	}
	db.Query(fmt.Sprintf("SELECT name FROM users LIMIT %d", n))
	sort := r.URL.Query().Get("sort")
	col, ok := columns[sort]
	if !ok {
		col = "name"
	}
	db.Query("SELECT name FROM users ORDER BY " + col)
	if !allowed[sort] {
		http.Error(w, "bad", 400)
		return
	}
	db.Query("SELECT name FROM users ORDER BY " + sort)
	other := r.FormValue("other")
	switch other {
	case "name", "age":
	default:
		return
	}
	db.Query("SELECT name FROM users ORDER BY " + other)
	third := r.FormValue("third")
	if !word.MatchString(third) {
		return
	}
	db.Query("SELECT name FROM users ORDER BY " + third)
}
