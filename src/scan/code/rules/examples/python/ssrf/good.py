from urllib.parse import urlparse

import requests
from fastapi import FastAPI, HTTPException

app = FastAPI()
HOSTS = {"api.example.com"}


@app.get("/a")
def a(url: str):
    if urlparse(url).hostname not in HOSTS:
        raise HTTPException(400)
    return requests.get(url, timeout=5).json()


@app.get("/b")
def b(name: str):
    return requests.get(f"https://api.example.com/users/{name}").json()
