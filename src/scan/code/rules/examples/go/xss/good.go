package main

import (
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"net/http"
)

var page = template.Must(template.New("p").Parse("<h1>{{.}}</h1>"))

func hello(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	fmt.Fprintf(w, "<h1>Hello %s</h1>", html.EscapeString(name))
	page.Execute(w, name)
	json.NewEncoder(w).Encode(map[string]string{"name": name})
	fmt.Fprintf(w, "hello, %s", name)
}

func plain(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write([]byte(r.FormValue("x")))
	fmt.Fprintf(w, "<%s>", r.FormValue("y"))
}
