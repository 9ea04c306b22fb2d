from flask import Flask, render_template, request
from markupsafe import escape

app = Flask(__name__)


@app.route("/a")
def a():
    return f"<h1>{escape(request.args.get('name'))}</h1>"


@app.route("/b")
def b():
    return render_template("b.html", name=request.args.get("name"))


@app.route("/c")
def c():
    return {"name": request.args.get("name")}
