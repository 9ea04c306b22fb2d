package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

const base = "/srv/data"

func file(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	p := filepath.Clean(filepath.Join(base, name))
	if !strings.HasPrefix(p, base+string(os.PathSeparator)) {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	os.ReadFile(p)
	os.ReadFile(filepath.Join(base, filepath.Base(r.FormValue("f"))))
}
