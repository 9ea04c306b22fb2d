package main

import (
	"net/http"
	"os"
	"path/filepath"
)

func file(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	p := filepath.Join("data", name)
	b, _ := os.ReadFile(p) // BAD
	_ = b
	http.ServeFile(w, r, "static/"+r.FormValue("f")) // BAD
}
