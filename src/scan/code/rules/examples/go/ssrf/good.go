package main

import (
	"net/http"
	"net/url"
)

var hosts = map[string]bool{"a.example": true}

func proxy(w http.ResponseWriter, r *http.Request) {
	http.Get("https://api.example.com/" + r.FormValue("id"))
	u, err := url.Parse(r.FormValue("url"))
	if err != nil || !hosts[u.Host] {
		return
	}
	http.Get(u.String())
}
