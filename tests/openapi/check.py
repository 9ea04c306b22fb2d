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
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from server import Server, call, sign_in  # noqa: E402

SLUICE, SCHEMATHESIS = (str(pathlib.Path(path).absolute()) for path in sys.argv[1:3])
SECONDS = sys.argv[3]
# The same requests each time; another seed looks elsewhere.
SEED = os.environ.get("OPENAPI_SEED", "2026")


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
    token = sign_in(base, email)
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
        server = Server(SLUICE, folder, {
            # Thousands of wrong sign-ins come from one address on purpose.
            "SLUICE_LIMIT_LOGIN_FAILURES": "1000000",
            # Made-up URLs must not leave this machine: whatever they name is refused.
            "SLUICE_ALLOW_PRIVATE_URLS": "false",
        })
        # One of them operates the server too.
        server.add_user("ada@example.org", "--group", "ops")
        server.add_user("eve@example.org")
        with server:
            repository(folder / "work")
            users, ids = {}, {}
            for name in ["ada", "eve"]:
                key, objects = seed(server.base, f"{name}@example.org", folder / "work")
                users[name] = key
                if name == "ada":
                    ids = objects
            configure(folder, users, ids)
            ended = subprocess.run(
                [
                    SCHEMATHESIS, "--config-file", str(folder / "schemathesis.toml"),
                    "run", f"{server.base}/openapi.json", "--url", server.base,
                    "--max-time", SECONDS, "--seed", SEED, "--no-color", "--workers", "2",
                ],
                env={**server.environment, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py")},
                cwd=folder,
            )
            faults = server.faults()
            if faults:
                print("\n".join(faults[:20]))
            return ended.returncode or int(bool(faults))


sys.exit(main())
