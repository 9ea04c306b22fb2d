import httpx
import requests
from fastapi import FastAPI, Request

app = FastAPI()


@app.get("/a")
def a(url: str):
    return requests.get(url, timeout=5).json()  # BAD


@app.get("/b")
async def b(request: Request):
    async with httpx.AsyncClient() as client:
        return await client.get("http://" + request.query_params["host"])  # BAD
