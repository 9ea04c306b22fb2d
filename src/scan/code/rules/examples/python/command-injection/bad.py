import os
import subprocess
from flask import Flask, request

app = Flask(__name__)


def ping(host):
    return subprocess.check_output("ping -c 1 " + host, shell=True)  # BAD


@app.route("/ping")
def route():
    return ping(request.args.get("host", "localhost"))


@app.route("/run", methods=["POST"])
def run():
    data = request.get_json()
    os.system(f"echo {data['cmd']}")  # BAD
    subprocess.run(["bash", "-c", data["cmd"]])  # BAD
    return {}
