import os, subprocess, sqlite3, random, hashlib, pickle, yaml, logging, json
from flask import Flask, request, session, g, redirect, url_for, current_app, send_from_directory, render_template, flash, Response
app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
QUERIES = {"all": "SELECT * FROM t", "one": "SELECT 1"}
def get_db():
    if "db" not in g:
        g.db = sqlite3.connect(current_app.config["DATABASE"])
    return g.db
def clean(s):
    return "".join(c for c in s if c.isalnum())
def table_name(kind):
    mapping = {"a": "table_a", "b": "table_b"}
    return mapping.get(kind, "table_a")
@app.route("/login", methods=["POST"])
def login():
    username = request.form["username"]
    password = request.form["password"]
    user = get_db().execute("SELECT * FROM user WHERE username = ?", (username,)).fetchone()
    if user is None:
        flash("Incorrect " + username)
    session["user_id"] = user["id"]
    get_db().execute("SELECT * FROM " + table_name(request.args.get("k")))
    get_db().execute("SELECT * FROM t WHERE x = '" + clean(request.args["x"]) + "'")
    get_db().execute(QUERIES[request.args["q"]])
    return redirect(url_for("index"))
@app.route("/n/<int:n>")
def n(n):
    get_db().execute("SELECT %d" % n)
    return f"<b>{n}</b>"
@app.route("/s/<path:filename>")
def s(filename):
    return send_from_directory("static", filename)
@app.route("/e")
def e():
    cmd = ["git", "log", request.args["ref"]]
    subprocess.run(cmd, check=True)
    subprocess.run(["echo", request.args["x"]], shell=False)
    os.system("ls -l")
    choice = random.choice(["red", "blue"])
    d = {"safe": "ls", "user": request.args["u"]}
    os.system(d["safe"])
    action = request.args.get("action")
    if action == "start":
        os.system("service x " + action)
    fmt = "json" if request.args.get("f") == "json" else "csv"
    os.system("export --" + fmt)
    try:
        num = int(request.args["num"])
    except ValueError:
        num = 0
    os.system("head -n " + str(num))
    return Response(json.dumps({"x": request.args["x"]}), mimetype="application/json")
@app.route("/j")
def j():
    q = request.args.get("q")
    return {"q": q}
@app.route("/k")
def k():
    return "You asked for %s items" % int(request.args["q"]), 200
@app.errorhandler(404)
def nf(err):
    return render_template("404.html", path=request.path), 404
def cache_key(data):
    return hashlib.sha1(data).hexdigest()
def load_state():
    with open("state.pkl", "rb") as f:
        return pickle.load(f)
