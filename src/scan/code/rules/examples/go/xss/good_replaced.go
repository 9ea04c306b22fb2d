package main

import (
	"fmt"
	"net/http"
	"strings"
)

func clean(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "&", "&amp;"), "<", "&lt;")
}

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "<h1>Hello %s</h1>", clean(r.FormValue("name")))
	fmt.Fprintf(w, "<h1>Hello %s</h1>", strings.Replace(r.FormValue("q"), "<", "&lt;", -1))
}
