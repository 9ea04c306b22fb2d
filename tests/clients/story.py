"""What every client has to be able to do with the remote, told as steps.

A driver carries a step out with its client (`drivers/`); what became of it is then looked
at from outside: by the API and by real git, never by asking the client.
"""

import os
import pathlib
import random
import re
import shutil
import subprocess
import time

from server import call

GIT = "git"


class Failed(Exception):
    """A step did not go as it should; the text says how."""


class Story:
    """One client's way through all steps, in a folder of its own."""

    def __init__(self, client, server, token, folder):
        self.client, self.server, self.token = client, server, token
        self.folder = pathlib.Path(folder)
        self.work = self.folder / "work"
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        (self.home / ".gitconfig").write_text(
            "[user]\n\tname = Ada\n\temail = ada@example.org\n"
            "[init]\n\tdefaultBranch = main\n[advice]\n\tdetachedHead = false\n"
        )
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
            "HOME": str(self.home), "HGRCPATH": "", "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
            "no_proxy": "localhost,127.0.0.1",
            **client.environment,
        }
        self.transcript = []
        self.expected = {}
        self.upload = self.made(scan=False)
        # Made now so that it has expired when its turn comes.
        self.short = self.made(scan=False, expires_in=1)

    # What runs.

    def run(self, *command, environment=None, ok=True):
        """Runs a command; returns what it printed. `ok` says whether it has to succeed."""
        command = [str(part) for part in command]
        try:
            ended = subprocess.run(
                command, env={**self.environment, **(environment or {})}, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=180, check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{' '.join(command)}: no end after three minutes") from error
        said = ended.stdout.decode(errors="replace")
        self.transcript.append(f"$ {' '.join(command)}\n{said}[status {ended.returncode}]\n")
        if (ended.returncode == 0) != ok:
            verb = "failed" if ok else "went through"
            raise Failed(f"{' '.join(command[-4:])} {verb}: {shortened(said)}")
        return said

    def drive(self, step, *arguments, **options):
        return self.run(*self.client.driver, step, *arguments, **options)

    def git(self, *arguments, **options):
        return self.run(GIT, *arguments, **options)

    def local(self, *arguments):
        """Real git on the client's own store."""
        return self.git("--git-dir", self.work / self.client.store, *arguments).strip()

    # What is seen from outside.

    def made(self, **body):
        return call(self.server.base, "POST", "/v1/git-uploads", self.token, body)

    def state(self, upload, wait=0):
        path = f"/v1/git-uploads/{upload['id']}?wait={wait}"
        return call(self.server.base, "GET", path, self.token)

    def remote(self, upload):
        """Name to id of all refs, tags peeled as well, as real git sees them."""
        lines = self.git("ls-remote", upload["push_url"]).splitlines()
        return {name: oid for oid, name in (line.split("\t") for line in lines)}

    def same(self, what, found, wanted):
        if found != wanted:
            raise Failed(f"{what}: found {found!r}, wanted {wanted!r}")

    def pushed(self, *names):
        """The remote has these refs as the client has them, and all others as before."""
        for name in names:
            self.expected[name] = self.local("rev-parse", name)
            if name.startswith("refs/tags/"):
                self.expected[f"{name}^{{}}"] = self.local("rev-parse", f"{name}^{{commit}}")
        self.settled()

    def settled(self):
        """The remote is as expected, to git and to the API, and the push was taken in."""
        wanted = dict(self.expected)
        wanted["HEAD"] = wanted["refs/heads/main"]
        # A tag that is not an object of its own has nothing to be peeled.
        for name in [name for name in wanted if name.endswith("^{}")]:
            if wanted[name] == wanted[name[:-3]]:
                del wanted[name]
        self.same("ls-remote", self.remote(self.upload), wanted)
        until = time.monotonic() + 120
        while True:
            now = self.state(self.upload, wait=20)
            if now["status"] == "ready" and now["head_commit"] == wanted["HEAD"]:
                break
            if now["status"] == "failed" or time.monotonic() > until:
                raise Failed(f"the push was not taken in: {now}")
        refs = {one["name"]: one["oid"] for one in now["refs"]}
        listed = {k: v for k, v in wanted.items() if k != "HEAD" and not k.endswith("^{}")}
        self.same("refs of the API", refs, listed)

    def untouched(self, upload):
        now = self.state(upload)
        found = [now["pushes"], now["refs"], now["repository_id"], now["bytes_received"]]
        self.same("an upload that took nothing", found, [0, [], None, 0])

    def refused(self, url, says):
        """Pushing there and cloning from there have to fail with these words."""
        never = self.folder / "never"
        for command in [("push", self.work, url, "+refs/heads/main"), ("clone", url, never)]:
            said = self.drive(*command, ok=False)
            if not re.search(says, said):
                raise Failed(f"its user does not read {says!r} but {shortened(said)!r}")
            shutil.rmtree(never, ignore_errors=True)

    # The steps, in this order.

    def create(self):
        self.drive("init", self.work)
        self.write(1)
        self.drive("commit", self.work, "first")
        self.drive("push", self.work, self.upload["push_url"], "refs/heads/main")
        self.pushed("refs/heads/main")

    def clone(self):
        self.cloned("clone")

    def update(self):
        self.write(2)
        self.drive("commit", self.work, "second")
        self.drive("push", self.work, self.upload["push_url"], "refs/heads/main")
        self.pushed("refs/heads/main")

    def fetch(self):
        """The clone of before gets what came since."""
        clone = self.folder / "clone"
        self.drive("fetch", clone, self.upload["push_url"])
        store = clone / self.client.store
        found = self.git("--git-dir", store, "rev-parse", self.client.tracking).strip()
        self.same("the tracked branch", found, self.expected["refs/heads/main"])
        self.git("--git-dir", store, "fsck", "--strict")

    def tag(self):
        self.drive("tag", self.work, "v1", "the first one")
        self.drive("push", self.work, self.upload["push_url"], "refs/tags/v1")
        self.pushed("refs/tags/v1")
        kind = self.local("cat-file", "-t", "refs/tags/v1")
        self.same("kind of tag", kind, self.client.tags)

    def force(self):
        """A rewritten branch: refused as it is, taken by force."""
        self.drive("branch", self.work, "side")
        self.drive("push", self.work, self.upload["push_url"], "refs/heads/side")
        self.pushed("refs/heads/side")
        self.write(3)
        self.drive("rewrite", self.work, "second, another one")
        self.drive("push", self.work, self.upload["push_url"], "refs/heads/main", ok=False)
        self.settled()
        old = self.expected["refs/heads/main"]
        self.drive("push", self.work, self.upload["push_url"], "+refs/heads/main")
        self.pushed("refs/heads/main")
        if self.local("merge-base", old, "refs/heads/main") == old:
            raise Failed("the branch was not rewritten")

    def delete(self):
        self.drive("push", self.work, self.upload["push_url"], ":refs/heads/side")
        del self.expected["refs/heads/side"]
        self.settled()

    def clone_again(self):
        self.cloned("again")
        # Whole for real git too: nothing missing, nothing that fsck minds.
        bare = self.folder / "bare"
        self.git("clone", "-q", "--mirror", self.upload["push_url"], bare)
        self.git("-C", bare, "fsck", "--strict")
        self.same("HEAD", self.git("-C", bare, "symbolic-ref", "HEAD").strip(), "refs/heads/main")

    def wrong(self):
        """Wrong credentials: said as such, and nothing has changed."""
        other, fresh = self.made(scan=False), self.made(scan=False)
        url = fresh["push_url"].replace(fresh["token"], other["token"])
        self.refused(url, self.client.says["wrong"])
        self.untouched(fresh)
        self.refused(self.upload["push_url"].replace(self.upload["token"], "nonsense"),
                     self.client.says["wrong"])
        self.settled()

    def expired(self):
        until = time.monotonic() + 30
        while (now := self.state(self.short, wait=5))["status"] != "expired":
            if time.monotonic() > until:
                raise Failed(f"it does not expire: {now}")
        self.refused(self.short["push_url"], self.client.says["expired"])
        self.untouched(self.short)

    def deleted(self):
        """A deleted remote takes nothing more; what was made of it stays as it was."""
        before = self.state(self.upload)
        path = f"/v1/repositories/{before['repository_id']}"
        repository = call(self.server.base, "GET", path, self.token)
        self.write(4)
        self.drive("commit", self.work, "too late")
        call(self.server.base, "DELETE", f"/v1/git-uploads/{before['id']}", self.token)
        self.refused(self.upload["push_url"], self.client.says["deleted"])
        now = call(self.server.base, "GET", path, self.token)
        for field in ["head_commit", "updated_at"]:
            self.same(field, now[field], repository[field])
        self.same("head", now["head_commit"], self.expected["refs/heads/main"])

    # Parts of steps.

    def write(self, times):
        """The files of the first, second, … commit."""
        work = self.work
        (work / "src/größe").mkdir(parents=True, exist_ok=True)
        (work / "README.md").write_text(f"# Parcels\n\nWritten {times} times.\n")
        (work / "src/größe/maß.py").write_text("print('ünïcode')\n" * 50 * times)
        (work / f"src/part{times}.txt").write_text(f"part {times}\n")
        (work / "empty").write_text("")
        (work / "run.sh").write_text("#!/bin/sh\nexit 0\n")
        (work / "run.sh").chmod(0o755)
        if not (work / "link").is_symlink():
            (work / "link").symlink_to("README.md")
        # More than git's buffer for a request (1 MiB), which makes it probe and send chunks;
        # and later a small change in it, which makes a delta.
        data = random.Random(7).randbytes(1_300_000)
        (work / "data.bin").write_bytes(data + b"end" * times)

    def cloned(self, name):
        """The client clones what it pushed: same head, same tree, same files."""
        clone = self.folder / name
        self.drive("clone", self.upload["push_url"], clone)
        store = clone / self.client.store
        main = self.git("--git-dir", store, "rev-parse", self.client.cloned).strip()
        self.same("head of the clone", main, self.expected["refs/heads/main"])
        self.git("--git-dir", store, "fsck", "--strict")
        self.same("files of the clone", files(clone), files(self.work))


def shortened(said):
    said = said.strip()
    return said if len(said) < 700 else f"{said[:450]} … {said[-200:]}"


def files(folder):
    """What lies in a work tree: path to kind and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] in (".git", ".hg") or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            found[str(name)] = ("link", os.readlink(path))
        else:
            runs = bool(path.stat().st_mode & 0o100)
            found[str(name)] = ("program" if runs else "file", hash(path.read_bytes()))
    return found
