"""The real server on an empty folder and a free port, for tests that are not Rust."""

import json
import os
import pathlib
import re
import subprocess
import time
import urllib.request

PASSWORD = "correct horse battery staple"


def call(base, method, path, token=None, body=None, media="application/json"):
    """One request of the API: the JSON of its answer, None if it has no body. Bytes go out
    as they are, under the media type that is given."""
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


def sign_in(base, email):
    """An access token of an account whose password is PASSWORD."""
    login = call(base, "POST", "/v1/auth/login", None, {"email": email, "password": PASSWORD})
    return login["access_token"]


class Server:
    """Runs in `folder` from `with` to its end; `base` is its address."""

    def __init__(self, sluice, folder, settings):
        self.sluice, self.folder, self.base = sluice, pathlib.Path(folder), None
        self.environment = {
            **os.environ,
            "SLUICE_LISTEN": "127.0.0.1:0",
            "SLUICE_DATA_DIR": str(self.folder / "data"),
            "SLUICE_ADMIN_PASSWORD": PASSWORD,
            **settings,
        }

    def add_user(self, email, *more):
        subprocess.run(
            [self.sluice, "user", "add", email, *more, "--password-stdin"],
            input=PASSWORD + "\n", text=True, check=True, env=self.environment,
            stdout=subprocess.DEVNULL,
        )

    def log(self):
        return (self.folder / "log").read_text()

    def faults(self):
        """What no test may leave behind: errors in the log, a server that has ended."""
        errors = [line for line in self.log().splitlines() if " ERROR " in line]
        if self.process.poll() is not None:
            errors.append(f"the server ended with status {self.process.returncode}")
        return errors

    def __enter__(self):
        with open(self.folder / "log", "w") as log:
            self.process = subprocess.Popen(
                [self.sluice, "serve"], env=self.environment, stdout=log, stderr=log
            )
        for _ in range(600):
            found = re.search(r"http://127\.0\.0\.1:\d+", self.log())
            if found:
                self.base = found.group(0)
                return self
            time.sleep(0.1)
        self.__exit__()
        raise RuntimeError(f"the server did not start:\n{self.log()}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
