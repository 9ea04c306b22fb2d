package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
)

var db *sql.DB

type Server struct {
	db *sql.DB
}

type input struct {
	Name string
}

func byName(name string) string {
	return fmt.Sprintf("SELECT id FROM users WHERE name = '%s'", name)
}

func handler(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	q := "SELECT name FROM users WHERE id = " + id
	rows, err := db.Query(q) // BAD
	if err != nil {
		http.Error(w, "no", http.StatusInternalServerError)
		return
	}
	defer rows.Close()
}

func (s *Server) find(w http.ResponseWriter, r *http.Request) {
	row := s.db.QueryRowContext(r.Context(), byName(r.FormValue("name"))) // BAD
	_ = row
	var in input
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return
	}
	s.db.Exec(fmt.Sprintf("DELETE FROM users WHERE name = '%s'", in.Name)) // BAD
}

func main() {
	http.HandleFunc("/c", func(w http.ResponseWriter, req *http.Request) {
		name := req.PostFormValue("name")
		_, _ = db.Exec("DELETE FROM t WHERE n = '" + name + "'") // BAD
	})
}
