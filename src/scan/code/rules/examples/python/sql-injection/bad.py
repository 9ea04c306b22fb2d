import sqlite3
from flask import Flask, request, Blueprint

app = Flask(__name__)
bp = Blueprint("users", __name__)


def build(name):
    return "SELECT * FROM users WHERE name = '" + name + "'"


def run(conn, sql):
    return conn.execute(sql)  # BAD through a parameter


@app.route("/a")
def plain():
    user = request.args.get("user")
    query = f"SELECT * FROM users WHERE name = '{user}'"
    conn = sqlite3.connect("a.db")
    cur = conn.cursor()
    cur.execute(query)  # BAD
    return str(cur.fetchall())


@bp.route("/b", methods=["POST"])
def helper():
    with sqlite3.connect("a.db") as conn:
        cur = conn.cursor()
        cur.execute(build(request.form["name"]))  # BAD
        rows = run(conn, "SELECT * FROM t WHERE id = %s" % request.form["id"])
    return {"rows": rows}


@app.route("/c/<name>")
def path(name):
    sql = "SELECT * FROM t WHERE n = '{}'".format(name)
    db = get_db()
    db.execute(sql)  # BAD
    parts = ["SELECT"]
    parts.append(name)
    db.execute(" ".join(parts))  # BAD
    return "ok"


class Repo:
    def __init__(self, conn):
        self.conn = conn

    def find(self, key):
        q = "SELECT * FROM t WHERE k = '" + key + "'"
        return self.conn.execute(q).fetchall()  # BAD


@app.get("/d")
async def method():
    return Repo(sqlite3.connect("a.db")).find(request.args["k"])
