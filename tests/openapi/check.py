"""Starts a server, seeds it for two accounts, lets schemathesis loose on it.

The server is the real one on an empty folder. Each account gets a project, a pushed
and scanned repository, one by URL, an upload, a key, a webhook with a message, and an
older session, so that paths can name objects that are there (of the one who asks, and
of the other). Ends with schemathesis' own status.
"""

import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
SLUICE, SCHEMATHESIS = (str(pathlib.Path(path).absolute()) for path in sys.argv[1:3])
SECONDS = sys.argv[3]
# The same requests each time; another seed looks elsewhere.
SEED = os.environ.get("OPENAPI_SEED", "2026")
PASSWORD = "correct horse battery staple"


def call(base, method, path, token=None, body=None, media="application/json"):
    request = urllib.request.Request(base + path, method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    data = None
    if body is not None:
        request.add_header("Content-Type", media)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(request, data, timeout=120) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def repository(folder):
    """A small repository with something for each engine to find."""
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    (folder / "README.md").write_text("# Parcels\n")
    (folder / "app.py").write_text(
        "import sqlite3\nfrom flask import request\n\n\ndef users():\n"
        "    name = request.args.get('name')\n    cursor = sqlite3.connect('a.db').cursor()\n"
        "    cursor.execute(\"SELECT * FROM t WHERE n = '\" + name + \"'\")\n"
    )
    (folder / "yarn.lock").write_text('lodash@^4.17.0:\n  version "4.17.20"\n')
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)


def session(base, token):
    """An older session: an archive in a form."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        entry = tarfile.TarInfo("README.md")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"text"))
    form = (
        b'--form\r\nContent-Disposition: form-data; name="file"; filename="a.tar.gz"\r\n\r\n'
        + archive.getvalue()
        + b"\r\n--form--\r\n"
    )
    return call(base, "POST", "/v1/sessions/", token, form, "multipart/form-data; boundary=form")


def seed(base, email, work):
    """Objects of one account: {parameter: id}, and a key for it."""
    login = call(base, "POST", "/v1/auth/login", None, {"email": email, "password": PASSWORD})
    token = login["access_token"]
    key = call(base, "POST", "/v1/api-keys", token, {"name": "openapi"})
    spare = call(base, "POST", "/v1/api-keys", token, {"name": "spare"})
    project = call(base, "POST", "/v1/projects", token, {"name": "seeded"})
    upload = call(base, "POST", "/v1/git-uploads", token, {"project_id": project["id"]})
    subprocess.run(["git", "-C", str(work), "push", "-q", upload["push_url"], "main"], check=True)
    path = f"/v1/git-uploads/{upload['id']}?wait=20"
    for _ in range(10):
        upload = call(base, "GET", path, token)
        if upload["status"] == "ready":
            break
    repo = f"/v1/repositories/{upload['repository_id']}"
    for _ in range(10):
        scan = call(base, "GET", f"{repo}/scans/{upload['scan_id']}?wait=20", token)
        if scan["status"] == "completed":
            break
    findings = call(base, "GET", f"{repo}/findings", token)["items"]
    assert findings, "the seeded repository has findings"
    # Names that never resolve (RFC 6761): nothing leaves this machine.
    source = {"name": "fetched", "source_type": "git", "source_url": "https://code.invalid/shop"}
    source["credentials"] = {"token": "a-token-that-opens-nothing"}
    fetched = call(base, "POST", f"/v1/projects/{project['id']}/repositories", token, source)
    hook = {"url": "https://receiver.invalid/hook", "events": ["scan.completed"]}
    webhook = call(base, "POST", f"/v1/projects/{project['id']}/webhooks", token, hook)
    call(base, "POST", f"/v1/webhooks/{webhook['id']}/ping", token)
    deliveries = call(base, "GET", f"/v1/webhooks/{webhook['id']}/deliveries", token)["items"]
    return key["key"], {
        "project_id": [project["id"]],
        "upload_id": [upload["id"]],
        "repo_id": [upload["repository_id"], fetched["id"]],
        "scan_id": [scan["id"]],
        "finding_id": [finding["id"] for finding in findings],
        "key_id": [spare["id"]],
        "webhook_id": [webhook["id"]],
        "delivery_id": [delivery["id"] for delivery in deliveries],
        "session_id": [session(base, token)["id"]],
        "name": ["results.sarif", "sbom.cdx.json", "findings.json", "log.txt"],
        "path": ["README.md", "app.py", "yarn.lock"],
    }


def configure(folder, users, ids):
    auth = {
        "auth": [
            {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {key}"}]}
            for name, key in users.items()
        ]
    }
    (folder / "users.json").write_text(json.dumps(auth))
    text = (HERE / "schemathesis.toml").read_text()
    text += f'\n[auth.wfc]\npath = {json.dumps(str(folder / "users.json"))}\n'
    text += 'user = "ada"\npeers = ["ada", "eve"]\n'
    for name, values in ids.items():
        text += f"\n[dictionaries.{name}]\nvalues = {json.dumps(values)}\n"
    text += "\n[parameters]\n"
    for name in ids:
        text += f'"path.{name}" = {{ dictionary = "{name}", probability = 0.7 }}\n'
    (folder / "schemathesis.toml").write_text(text)


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        environment = {
            **os.environ,
            "SLUICE_LISTEN": "127.0.0.1:0",
            "SLUICE_DATA_DIR": str(folder / "data"),
            "SLUICE_ADMIN_PASSWORD": PASSWORD,
            # Thousands of wrong sign-ins come from one address on purpose.
            "SLUICE_LIMIT_LOGIN_FAILURES": "1000000",
            # Made-up URLs must not leave this machine: whatever they name is refused.
            "SLUICE_ALLOW_PRIVATE_URLS": "false",
        }
        log = open(folder / "log", "w+")
        # One of them operates the server too.
        for email, groups in [("ada@example.org", ["--group", "ops"]), ("eve@example.org", [])]:
            subprocess.run(
                [SLUICE, "user", "add", email, *groups, "--password-stdin"],
                input=PASSWORD + "\n", text=True, check=True, env=environment,
                stdout=subprocess.DEVNULL,
            )
        server = subprocess.Popen([SLUICE, "serve"], env=environment, stdout=log, stderr=log)
        try:
            base = None
            for _ in range(200):
                found = re.search(r"http://127\.0\.0\.1:(\d+)", (folder / "log").read_text())
                if found:
                    base = found.group(0)
                    break
                time.sleep(0.1)
            assert base, (folder / "log").read_text()
            repository(folder / "work")
            users, ids = {}, {}
            for name in ["ada", "eve"]:
                key, objects = seed(base, f"{name}@example.org", folder / "work")
                users[name] = key
                if name == "ada":
                    ids = objects
            configure(folder, users, ids)
            ended = subprocess.run(
                [
                    SCHEMATHESIS, "--config-file", str(folder / "schemathesis.toml"),
                    "run", f"{base}/openapi.json", "--url", base,
                    "--max-time", SECONDS, "--seed", SEED, "--no-color", "--workers", "2",
                ],
                env={**environment, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py")},
                cwd=folder,
            )
            status = ended.returncode
            text = (folder / "log").read_text()
            errors = [line for line in text.splitlines() if " ERROR " in line]
            if errors:
                print("\n".join(errors[:20]))
                status = status or 1
            if server.poll() is not None:
                print("the server ended")
                status = 1
            return status
        finally:
            server.terminate()
            server.wait(60)


sys.exit(main())
