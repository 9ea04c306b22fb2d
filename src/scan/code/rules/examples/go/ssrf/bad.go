package main

import "net/http"

func proxy(w http.ResponseWriter, r *http.Request) {
	u := r.URL.Query().Get("url")
	resp, err := http.Get(u) // BAD
	_, _ = resp, err
	req, _ := http.NewRequest("GET", "http://"+r.FormValue("host")+"/x", nil) // BAD
	_ = req
}
