"""The API and git as a client meets them whose servers may be away at any moment."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request

PASSWORD = "correct horse battery staple"
# Nothing that one request waits for takes longer.
TIMEOUT = 60


class Away(Exception):
    """No answer, or one that says to come again later: nobody knows what became of it."""


class Refused(Exception):
    """An answer that will be the same the next time."""

    def __init__(self, status, text):
        super().__init__(f"{status} {text}")
        self.status = status


def call(base, method, path, token=None, body=None, media="application/json", key=None):
    """One request: the JSON of its answer, None if it has no body. Bytes go out as they
    are. `key` is an Idempotency-Key."""
    request = urllib.request.Request(base + path, method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if key:
        request.add_header("Idempotency-Key", key)
    data = None
    if body is not None:
        request.add_header("Content-Type", media)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, data, timeout=TIMEOUT) as answer:
            raw = answer.read()
            if answer.headers.get_content_type() == "application/json":
                return json.loads(raw)
            return raw or None
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        # A request with the same key is under way, on a server that may be dead.
        if error.code in (429, 502, 503) or (key and error.code == 409):
            raise Away(f"{error.code} {text}") from error
        raise Refused(error.code, text) from error
    except (OSError, ValueError) as error:
        raise Away(repr(error)) from error
    except Exception as error:  # http.client has exceptions of its own
        if type(error).__module__ == "http.client":
            raise Away(repr(error)) from error
        raise


def insist(deadline, *arguments, **options):
    """Asks again until there is an answer; for what may be asked twice."""
    while True:
        try:
            return call(*arguments, **options)
        except Away:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def every(base, path, token, limit=200):
    """All rows of a list, page by page."""
    cursor, mark = "", "&" if "?" in path else "?"
    while cursor is not None:
        page = insist(
            time.monotonic() + 60, base, "GET", f"{path}{mark}limit={limit}{cursor}", token
        )
        yield from page["items"]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"


ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "SLUICE_"))},
    "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
}


def git(folder, *arguments, check=True, timeout=180):
    """Runs git: (status, standard output, standard error). None: it did not end."""
    try:
        ended = subprocess.run(
            ["git", "-C", str(folder), *arguments], env={**ENVIRONMENT, "HOME": str(folder)},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False,
        )
    except subprocess.TimeoutExpired:
        if check:
            raise
        return None, "", "no end"
    out, err = ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")
    if check and ended.returncode != 0:
        raise RuntimeError(f"git {' '.join(arguments)}: {out}{err}")
    return ended.returncode, out, err
