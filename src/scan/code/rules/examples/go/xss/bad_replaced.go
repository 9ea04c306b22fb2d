package main

import (
	"fmt"
	"net/http"
	"strings"
)

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "<h1>Hello %s</h1>", strings.ReplaceAll(r.FormValue("name"), "'", "")) // BAD
	fmt.Fprintf(w, "<h1>Hello %s</h1>", strings.Replace(r.FormValue("q"), "<", "&lt;", 1)) // BAD
}
