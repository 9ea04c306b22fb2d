"""Steps that only some clients take: more ways to sign in, to push and to send."""

import shutil
import socket
import threading
from urllib.parse import urlsplit

from story import Failed, files


def _arrived(story, upload, commit):
    """The upload has `main` at this commit."""
    story.same("ls-remote", story.remote(upload).get("refs/heads/main"), commit)


def bearer_header(story):
    """The token in a header of one's own, as CI systems give it."""
    upload = story.made(scan=False)
    environment = {
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Bearer {upload['token']}",
    }
    push = ("push", story.work, upload["remote_url"], "refs/heads/main")
    story.drive(*push, environment=environment)
    _arrived(story, upload, story.local("rev-parse", "main"))
    clone = story.folder / "by-header"
    story.drive("clone", upload["remote_url"], clone, environment=environment)
    story.same("files of the clone", files(clone), files(story.work))
    # It was the header that opened the door.
    story.drive(*push, ok=False)


def bearer_helper(story):
    """A credential helper that gives a Bearer token. Git then sends its probe without one."""
    upload = story.made(scan=False)
    helper = f"echo capability[]=authtype; echo authtype=Bearer; echo credential={upload['token']}"
    environment = {
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper",
        "GIT_CONFIG_VALUE_0": f"!f() {{ test $1 != get || {{ {helper}; }}; }}; f",
        "GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1",
    }
    said = story.drive(
        "push", story.work, upload["remote_url"], "refs/heads/main", environment=environment
    )
    for sign in ["Authorization: Bearer", "Content-Length: 4\n", "Transfer-Encoding: chunked"]:
        if sign.lower() not in said.replace("\r", "").lower():
            raise Failed(f"the push does not show {sign!r}")
    _arrived(story, upload, story.local("rev-parse", "main"))


def shallow(story):
    """A clone of depth 1, as CI makes them, into a fresh remote; and a commit on top."""
    upload, clone = story.made(scan=False), story.folder / "shallow"
    story.git("clone", "-q", "--depth=1", f"file://{story.work}", clone)
    for content in ["", "more\n"]:
        if content:
            (clone / "README.md").write_text(content)
            story.drive("commit", clone, "more")
        story.drive("push", clone, upload["push_url"], "refs/heads/main")
        _arrived(story, upload, story.git("-C", clone, "rev-parse", "main").strip())
    back = story.folder / "shallow-back"
    story.drive("clone", upload["push_url"], back)
    story.git("-C", back, "fsck", "--strict")
    story.same("files of the clone", files(back), files(clone))
    story.same("its history", story.git("-C", back, "rev-list", "--count", "main").strip(), "2")


def lfs(story):
    """What is tracked is a pointer to git and lies with LFS, which has the same locks on its
    door. (The other steps have pushed, fetched and cloned it already.)"""
    bare = story.folder / "bare"
    pointer = story.git("-C", bare, "cat-file", "blob", "main:data.bin")
    if not pointer.startswith("version https://git-lfs.github.com/spec/v1\n"):
        raise Failed(f"not a pointer: {pointer[:100]!r}")
    work = story.work
    listed = story.git("-C", work, "lfs", "ls-files", "--long", "--all").split("\n")
    if len([line for line in listed if line.endswith("data.bin")]) < 3:
        raise Failed(f"not three versions of the file: {listed}")
    # An empty store needs every object of the history.
    upload = story.made(scan=False)
    story.git("-C", work, "lfs", "push", "--all", upload["push_url"])
    story.drive("push", work, upload["push_url"], "refs/heads/main")
    clone = story.folder / "lfs-clone"
    story.drive("clone", upload["push_url"], clone)
    story.same("files of the clone", files(clone), files(work))
    wrong = upload["push_url"].replace(upload["token"], story.made(scan=False)["token"])
    for url, words in [(wrong, "Auth"), (story.short["push_url"], "This remote expired at")]:
        shutil.rmtree(work / ".git/lfs/cache", ignore_errors=True)
        said = story.git("-C", work, "lfs", "push", "--all", url, ok=False)
        if words not in said:
            raise Failed(f"its user does not read {words!r} but {said!r}")


def gzip(story):
    """JGit compresses the bodies of its pushes: one is seen to, and arrives."""
    upload = story.made(scan=False)
    with Tap(urlsplit(upload["push_url"])) as tap:
        url = upload["push_url"].replace(f":{tap.to[1]}/", f":{tap.port}/")
        story.drive("push", story.work, url, "refs/heads/main")
        story.drive("branch", story.work, "small")
        story.drive("push", story.work, url, "refs/heads/small")
        story.drive("push", story.work, url, ":refs/heads/small")
    if b"content-encoding: gzip" not in tap.sent.lower():
        raise Failed("no request was compressed")
    _arrived(story, upload, story.local("rev-parse", "main"))
    story.same("deleted", story.remote(upload).get("refs/heads/small"), None)


class Tap:
    """Hands bytes on to the server, and keeps what clients sent."""

    def __init__(self, url):
        self.to, self.sent = (url.hostname, url.port), b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.to)
            for ends in [(client, server, True), (server, client, False)]:
                threading.Thread(target=self._hand_on, args=ends, daemon=True).start()

    def _hand_on(self, source, target, keep):
        try:
            while data := source.recv(65536):
                if keep:
                    self.sent += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
