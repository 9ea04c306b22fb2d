package main

import (
	"net/http"
	"os/exec"
)

func ping(w http.ResponseWriter, r *http.Request) {
	host := r.URL.Query().Get("host")
	out, _ := exec.Command("sh", "-c", "ping -c 1 "+host).CombinedOutput() // BAD
	w.Header().Set("Content-Type", "text/plain")
	_ = out
	cmd := exec.Command(r.FormValue("tool"), "x") // BAD
	cmd.Run()
}
