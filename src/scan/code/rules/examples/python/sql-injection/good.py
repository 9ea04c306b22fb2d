import re
import sqlite3
from flask import Flask, request, abort

app = Flask(__name__)
COLUMNS = {"name": "name", "age": "age"}
ALLOWED = ["name", "age"]


def constant(value):
    return "fixed"


def checked(value):
    return value in ALLOWED


@app.route("/a")
def parameters():
    user = request.args.get("user")
    conn = sqlite3.connect("a.db")
    conn.execute("SELECT * FROM users WHERE name = ?", (user,))
    n = int(request.args.get("n"))
    conn.execute(f"SELECT * FROM users LIMIT {n}")
    conn.execute("SELECT * FROM t WHERE id = %d" % request.args.get("p", 1, type=int))
    return {"ok": True}


@app.route("/b")
def allow_list():
    conn = sqlite3.connect("a.db")
    sort = request.args.get("sort", "name")
    if sort not in ALLOWED:
        sort = "name"
    conn.execute("SELECT * FROM users ORDER BY " + sort)
    column = COLUMNS.get(request.args.get("col"), "name")
    conn.execute("SELECT * FROM users ORDER BY " + column)
    other = request.args.get("other")
    if not checked(other):
        abort(400)
    conn.execute("SELECT * FROM users ORDER BY " + other)
    third = request.args.get("third")
    if not re.fullmatch(r"[a-z]+", third):
        raise ValueError("no")
    conn.execute("SELECT * FROM users ORDER BY " + third)
    return {"ok": True}


@app.route("/c")
def constants():
    conn = sqlite3.connect("a.db")
    user = request.args.get("user")
    conn.execute("SELECT * FROM t WHERE n = '" + constant(user) + "'")
    if 7 * 6 > 50:
        value = user
    else:
        value = "safe"
    conn.execute("SELECT * FROM t WHERE n = '" + value + "'")
    values = ["a", user, "b"]
    conn.execute("SELECT * FROM t WHERE n = '" + values[0] + "'")
    values.pop(0)
    conn.execute("SELECT * FROM t WHERE n = '" + values[1] + "'")
    data = {"x": user, "y": "fixed"}
    conn.execute("SELECT * FROM t WHERE n = '" + data["y"] + "'")
    return {"ok": True}
