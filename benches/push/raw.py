"""A client of two requests, for what git itself is too slow for: its processes take more
time than a server does, and it compares every ref that it pushes with every other."""

import base64
import hashlib
import http.client
import subprocess
import urllib.parse

NULL = "0" * 40
EMPTY_PACK = b"PACK\0\0\0\2\0\0\0\0"
EMPTY_PACK += hashlib.sha1(EMPTY_PACK).digest()


def pack(git, directory, revision):
    """The pack that a push of this revision into an empty remote sends."""
    done = subprocess.run(
        [git.command, "-C", str(directory), "pack-objects", "--revs", "--stdout", "-q"],
        env=git.environment, input=f"{revision}\n".encode(), capture_output=True, check=True,
    )
    return done.stdout


def line(text):
    return f"{len(text.encode()) + 4:04x}{text}".encode()


def creations(commit, names, body):
    """The body of a push that makes refs: these names, all of this commit."""
    lines = [f"{NULL} {commit} {name}" for name in names]
    lines[0] += "\0report-status object-format=sha1 agent=bench"
    return b"".join(map(line, lines)) + b"0000" + body


class Remote:
    """One connection to one remote."""

    def __init__(self, url):
        self.url = urllib.parse.urlsplit(url)
        self.headers = {}
        if self.url.password:
            pair = f"{self.url.username}:{self.url.password}".encode()
            self.headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        self.connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=300)

    def ask(self, method, path, body=None, **headers):
        headers = {**self.headers, **headers}
        try:
            self.connection.request(method, self.url.path + path, body=body, headers=headers)
            response = self.connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            # A server in need closes what is idle; git asks again then, too.
            self.connection.close()
            self.connection.request(method, self.url.path + path, body=body, headers=headers)
            response = self.connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {content[:300]!r}")
        return content

    def advertisement(self):
        return self.ask("GET", "/info/refs?service=git-receive-pack")

    def push(self, body):
        """Both requests of a push; fails unless all of it was taken."""
        self.advertisement()
        kind = {"Content-Type": "application/x-git-receive-pack-request"}
        report = self.ask("POST", "/git-receive-pack", body, **kind)
        if b"unpack ok" not in report or b"ng refs/" in report:
            raise RuntimeError(f"the push was refused: {report[:300]!r}")

    def close(self):
        self.connection.close()
