"""Clients that push, upload and ask for scans, and write down what they are told."""

import base64
import hashlib
import io
import pathlib
import re
import tarfile
import threading
import time
import uuid

from api import Away, Refused, call, git
from ledger import Remote

# Longer than the clean-up at the end looks ahead.
THIRTY_DAYS = 30 * 86_400


def mail_key(label):
    """A made-up key of a mail service, put together here so that nothing in this source
    looks like one."""
    def draw(part, length):
        digest = hashlib.sha256(f"{label}/{part}".encode()).digest()
        text = base64.urlsafe_b64encode(digest).decode()
        return re.sub("[-_=]", "x", text)[:length]
    return f"SG.{draw('a', 22)}.{draw('b', 43)}"


class Client(threading.Thread):
    """One person: their repositories, their pushes, one after the other."""

    def __init__(self, number, chance, base, token, ledger, folder, until, most):
        super().__init__(name=f"client-{number}", daemon=True)
        self.number, self.chance = number, chance
        self.base, self.token, self.ledger = base, token, ledger
        self.folder, self.until, self.most = pathlib.Path(folder), until, most
        self.mine, self.project, self.labels = [], None, 0
        self.broken = None

    def run(self):
        try:
            self.folder.mkdir(parents=True)
            while time.monotonic() < self.until and self.most > 0:
                try:
                    self.step()
                except Away:
                    self.ledger.count("requests without an answer")
                    time.sleep(self.chance.uniform(0.2, 1.0))
        except BaseException as error:  # told by the table, not by a thread nobody looks at
            self.broken = repr(error)

    def step(self):
        if self.project is None:
            self.project = self.make("/v1/projects", {"name": f"project {self.number}"})["id"]
        acts = [(self.first_push, 3), (self.archive, 1)]
        if self.mine:
            acts += [
                (self.next_push, 5), (self.many_refs, 2), (self.forced, 2), (self.deleted, 1),
                (self.scan, 2),
            ]
        acts = [act for act, weight in acts for _ in range(weight)]
        self.chance.choice(acts)()
        time.sleep(self.chance.uniform(0, 0.3))

    # What is made by the API: asked again with the same key until there is an answer, so
    # it is made once.

    def make(self, path, body, media="application/json"):
        key = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        while True:
            try:
                return call(self.base, "POST", path, self.token, body, media, key)
            except Away:
                self.ledger.count("requests without an answer")
                if time.monotonic() > self.until + 60:
                    raise
                time.sleep(0.5)

    # Repositories.

    def write(self, folder, files):
        for _ in range(files):
            self.labels += 1
            label = f"{self.number}-{self.labels}"
            name = f"part{self.chance.randrange(6)}/{label}"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.chance.random() < 0.3:
                (path.with_suffix(".env")).write_text(f"SENDGRID_API_KEY={mail_key(label)}\n")
            else:
                noise = self.chance.randbytes(self.chance.choice([20, 400, 30_000]))
                path.write_text(f"{label} {noise.hex()}\n")

    def commit(self, folder, *options):
        self.write(folder, self.chance.randrange(1, 5))
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "more", *options)
        return git(folder, "rev-parse", "HEAD")[1].strip()

    def push(self, remote, wanted, *options, refspecs):
        """`wanted`: what each ref is to become. Writes down what git was told."""
        self.most -= 1
        if self.chance.random() < 0.15:
            options = (*options, "-o", "wait")
        elif self.chance.random() < 0.1:
            options = (*options, "-o", "no-scan")
        status, out, err = git(
            remote.folder, "push", "--porcelain", *options, remote.url, *refspecs, check=False
        )
        told, moved, unsure = {}, False, False
        for line in out.splitlines():
            parts = line.split("\t")
            if len(parts) >= 3 and ":" in parts[1]:
                told[parts[1].rsplit(":", 1)[1]] = (parts[0].strip(), parts[2])
        for ref, value in wanted.items():
            flag, text = told.get(ref, ("?", ""))
            if flag in ("", "+", "*", "-"):
                # Deleting what is not there is fine with git, and no push that counts.
                before = remote.allowed.get(ref, {None})
                moved = moved or value not in before
                unsure = unsure or (value in before and len(before) > 1)
                remote.acknowledged(ref, value)
            elif flag == "=":
                remote.acknowledged(ref, value)
            elif flag == "!" and "is not known" in text:
                remote.unknown(ref, value)
                self.ledger.reason(text)
                unsure = True
            elif flag == "!" and ("[remote rejected]" in text or "[rejected]" in text):
                remote.refused(ref)
                self.ledger.reason(re.sub("[0-9a-f]{8,}", "…", text))
            elif value is None and "remote ref does not exist" in err:
                if not remote.seen_absent(ref):
                    self.ledger.add("lost", f"{remote.id} {ref} was not there to be deleted")
            elif "unable to access" in err or "Could not resolve" in err:
                # It ended before anything was sent.
                remote.refused(ref)
                self.ledger.reason("before it began: " + err.strip().splitlines()[-1][-60:])
            else:
                remote.unknown(ref, value)
                unsure = True
        if moved:
            remote.acknowledged_pushes += 1
            self.ledger.count("pushes acknowledged")
            if "wait" in options:
                self.ledger.count("of these, waited for the scan")
        elif unsure:
            remote.unknown_pushes += 1
            self.ledger.count("pushes whose end nobody was told")
        else:
            self.ledger.count("pushes refused or of nothing")
        if status is None:
            self.ledger.count("pushes without an end")
        if not moved:
            time.sleep(self.chance.uniform(0.1, 0.6))

    def first_push(self):
        made = self.make(
            "/v1/git-uploads/", {"project_id": self.project, "expires_in": THIRTY_DAYS}
        )
        folder = self.folder / made["id"]
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main", ".")
        # Everything that was ever pushed is needed for the comparison at the end.
        git(folder, "config", "gc.auto", "0")
        remote = Remote(made, folder, self.project)
        self.ledger.add("remotes", remote)
        self.mine.append(remote)
        tip = self.commit(folder)
        self.push(remote, {"refs/heads/main": tip}, refspecs=["main"])

    def next_push(self):
        remote = self.chance.choice(self.mine)
        tip = self.commit(remote.folder)
        # A try whose end nobody was told may be there or not: what was rewritten since
        # is no descendant of it.
        self.push(remote, {"refs/heads/main": tip}, "--force", refspecs=["main"])

    def many_refs(self):
        remote = self.chance.choice(self.mine)
        tip = self.commit(remote.folder)
        wanted = {"refs/heads/main": tip}
        for _ in range(self.chance.randrange(1, 4)):
            wanted[f"refs/heads/side{self.chance.randrange(5)}"] = tip
        wanted[f"refs/tags/v{len(remote.allowed)}-{self.labels}"] = tip
        options = ["--force"] + (["--atomic"] if self.chance.random() < 0.5 else [])
        self.push(remote, wanted, *options, refspecs=[f"{tip}:{ref}" for ref in wanted])

    def forced(self):
        remote = self.chance.choice(self.mine)
        tip = self.commit(remote.folder, "--amend")
        self.push(remote, {"refs/heads/main": tip}, "--force", refspecs=["main"])

    def deleted(self):
        remote = self.chance.choice(self.mine)
        sides = [ref for ref in remote.allowed if ref.startswith("refs/heads/side")]
        if sides:
            ref = self.chance.choice(sides)
            self.push(remote, {ref: None}, refspecs=[f":{ref}"])

    # What is done by the API alone.

    def scan(self):
        remote = self.chance.choice(self.mine)
        now = call(self.base, "GET", f"/v1/git-uploads/{remote.id}", self.token)
        if now["status"] != "ready" or not now["repository_id"]:
            return
        try:
            made = self.make(f"/v1/repositories/{now['repository_id']}/scans", {"history": True})
        except Refused as error:
            # Too many of one repository wait, or it is about to be ingested again.
            self.ledger.reason(f"scan: {error.status}")
            return
        self.ledger.add("scans", (now["repository_id"], made["id"]))
        self.ledger.count("scans asked for")

    def archive(self):
        self.labels += 1
        name, content = f"archive-{self.number}-{self.labels}", io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            for part in range(self.chance.randrange(1, 4)):
                secret = f"SENDGRID_API_KEY={mail_key(f'{name}-{part}')}\n".encode()
                entry = tarfile.TarInfo(f"top/{part}/.env")
                entry.size = len(secret)
                tar.addfile(entry, io.BytesIO(secret))
        mark = uuid.UUID(int=self.chance.getrandbits(128)).hex
        body = (
            f'--{mark}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.tgz"\r\n\r\n'
        ).encode() + content.getvalue() + f"\r\n--{mark}--\r\n".encode()
        made = self.make(
            f"/v1/projects/{self.project}/repositories", body,
            f"multipart/form-data; boundary={mark}",
        )
        self.ledger.add("archives", made["id"])
        self.ledger.count("archives taken")
