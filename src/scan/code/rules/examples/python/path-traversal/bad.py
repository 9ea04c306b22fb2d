import os
from flask import Flask, request, send_file

app = Flask(__name__)
FOLDER = "/srv/files"


@app.route("/download")
def download():
    name = request.args["file"]
    return send_file(os.path.join(FOLDER, name))  # BAD


@app.route("/upload", methods=["POST"])
def upload():
    f = request.files["file"]
    f.save(os.path.join(FOLDER, f.filename))  # BAD
    return {}


@app.route("/read/<path:name>")
def read(name):
    with open(FOLDER + "/" + name) as f:  # BAD
        return {"text": f.read()}
