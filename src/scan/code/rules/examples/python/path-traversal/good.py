import os
from pathlib import Path
from flask import Flask, abort, request, send_file
from werkzeug.utils import secure_filename

app = Flask(__name__)
FOLDER = "/srv/files"


@app.route("/a")
def a():
    return send_file(os.path.join(FOLDER, secure_filename(request.args["file"])))


@app.route("/b")
def b():
    base = Path(FOLDER).resolve()
    target = (base / request.args["file"]).resolve()
    if not target.is_relative_to(base):
        abort(403)
    return {"text": open(target).read()}


@app.route("/c")
def c():
    path = os.path.realpath(os.path.join(FOLDER, request.args["file"]))
    if os.path.commonpath([path, FOLDER]) != FOLDER:
        abort(403)
    return {"text": open(path).read()}
