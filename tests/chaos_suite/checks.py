"""What has to be true afterwards, seen from outside: by the API, by git, and at the very
end by the listing of the store."""

import collections
import hashlib
import re
import tempfile
import time
import urllib.parse

from api import Away, call, every, git, insist

FINAL = ("completed", "failed", "cancelled")
# The shortest grace that a clean-up takes.
LEAST_GRACE = 3600


class Checks:
    """Each check gives a list of what is wrong, and tells what it looked at."""

    def __init__(self, stack, ledger, token):
        self.stack, self.ledger, self.token = stack, ledger, token
        self.base = stack.base
        self.rows = []
        self.uploads, self.repositories, self.scans = {}, {}, {}
        # Files that each scan said it looks at.
        self.looked_at = {}

    def get(self, path):
        return insist(time.monotonic() + 60, self.base, "GET", path, self.token)

    def run(self, name, check):
        try:
            looked_at, wrong = check()
        except Exception as error:  # a check that cannot be made has failed
            looked_at, wrong = "", [f"the check itself failed: {error!r}"]
        self.rows.append((name, looked_at, wrong))
        return not wrong

    # Quiet.

    def quiet(self, seconds):
        """Waits until nothing is under way; what still is."""
        until, left = time.monotonic() + seconds, ["nobody answered"]
        began = time.monotonic()
        while time.monotonic() < until:
            try:
                left = self.busy()
                if not left:
                    return f"after {time.monotonic() - began:.0f} s", []
            except Away as error:
                left = [str(error)]
            time.sleep(1)
        return f"{seconds} s", left

    def busy(self):
        workers = call(self.base, "GET", "/v1/ops/workers", self.token)
        left = [
            f"{queue['queued']} + {queue['running']} of {queue['kind']}"
            for queue in workers["queue"] if queue["queued"] + queue["running"] > 0
            # It comes back by itself every few hours.
            and queue["kind"] not in ("cleanup", "expire")
        ]
        for upload in every(self.base, "/v1/git-uploads/", self.token):
            if upload["status"] not in ("ready", "failed", "awaiting_push"):
                left.append(f"upload {upload['id']} is {upload['status']}")
        return left

    def read(self):
        """Everything that the API shows, once."""
        for upload in every(self.base, "/v1/git-uploads/", self.token):
            self.uploads[upload["id"]] = self.get(f"/v1/git-uploads/{upload['id']}")
        for project in every(self.base, "/v1/projects/", self.token):
            path = f"/v1/projects/{project['id']}/repositories"
            for repository in every(self.base, path, self.token):
                self.repositories[repository["id"]] = repository
        for repository in self.repositories:
            path = f"/v1/repositories/{repository}/scans"
            self.scans[repository] = list(every(self.base, path, self.token))

    # Pushes.

    def refs(self):
        wrong, refs = [], 0
        for remote in self.ledger.remotes:
            upload = self.uploads.get(remote.id)
            if upload is None:
                wrong.append(f"the remote {remote.id} is gone")
                continue
            there = {ref["name"]: ref["oid"] for ref in upload["refs"]}
            for ref, allowed in remote.allowed.items():
                refs += 1
                if there.get(ref) not in allowed:
                    wrong.append(f"{remote.id} {ref}: {there.get(ref)}, not {allowed}")
            for ref in there.keys() - remote.allowed.keys():
                wrong.append(f"{remote.id} {ref}: nobody pushed it")
            _, listed, _ = git(remote.folder, "ls-remote", "--refs", remote.url)
            seen = {ref: oid for oid, ref in (line.split("\t") for line in listed.splitlines())}
            if seen != there:
                wrong.append(f"{remote.id}: git is shown {seen}, the API {there}")
        return f"{refs} refs of {len(self.ledger.remotes)} remotes", wrong

    def bytes(self):
        """A clone is whole, and each object in it is what was pushed: ids are hashes, and
        fsck computes them again."""
        wrong, objects = [], 0
        for remote in self.ledger.remotes:
            there = {ref["name"]: ref["oid"] for ref in self.uploads[remote.id]["refs"]}
            if not there:
                continue
            with tempfile.TemporaryDirectory() as folder:
                status, _, err = git(folder, "clone", "-q", "--mirror", remote.url, ".", check=False)
                if status != 0:
                    wrong.append(f"{remote.id}: {err.strip()[-200:]}")
                    continue
                status, out, err = git(folder, "fsck", "--full", "--strict", check=False)
                if status != 0 or "missing" in out + err:
                    wrong.append(f"{remote.id}: fsck: {(out + err)[-200:]}")
                _, listed, _ = git(folder, "for-each-ref", "--format=%(refname) %(objectname)")
                cloned = dict(line.split(" ") for line in listed.splitlines())
                if cloned != there:
                    wrong.append(f"{remote.id}: cloned {cloned}, shown {there}")
                reach = ["rev-list", "--objects", "--no-object-names", *sorted(set(there.values()))]
                mine = set(git(remote.folder, *reach, check=False)[1].split())
                got = set(git(folder, *reach)[1].split())
                objects += len(got)
                if mine != got:
                    wrong.append(f"{remote.id}: {len(got)} objects came back of {len(mine)}")
        return f"{objects} objects", wrong

    def files(self):
        """The snapshot of each ready repository is its head commit, file by file."""
        wrong, files = [], 0
        for remote in self.ledger.remotes:
            upload = self.uploads[remote.id]
            repository = self.repositories.get(upload["repository_id"])
            if repository is None or repository["ingest_status"] != "ready":
                if remote.acknowledged_pushes and upload["status"] != "failed":
                    wrong.append(f"{remote.id} was pushed to and is {upload['status']}")
                continue
            head = repository["snapshot"]["commit"]
            if head not in (ref["oid"] for ref in upload["refs"]):
                wrong.append(f"{remote.id}: the snapshot is of {head}, which no ref names")
                continue
            names = git(remote.folder, "ls-tree", "-r", "-z", "--name-only", head)[1]
            names = [name for name in names.split("\0") if name]
            if len(names) != repository["snapshot"]["file_count"]:
                wrong.append(f"{remote.id}: {repository['snapshot']} of {len(names)} files")
            for name in names[:3] + names[-1:]:
                wanted = git(remote.folder, "show", f"{head}:{name}")[1].encode()
                path = urllib.parse.quote(f"/v1/repositories/{repository['id']}/source-files/{name}")
                got = self.get(path)
                files += 1
                if got != wanted:
                    wrong.append(f"{remote.id} {name}: {len(got or b'')} bytes, not {len(wanted)}")
        return f"{files} files", wrong

    # Scans.

    def ended_once(self):
        wrong, seen = [], collections.Counter()
        for repository, scans in self.scans.items():
            for scan in scans:
                seen[scan["status"]] += 1
                if scan["status"] not in FINAL or not scan["finished_at"]:
                    wrong.append(f"scan {scan['id']} is {scan['status']}")
                if scan["status"] == "completed" and len(scan["artifacts"]) != 4:
                    wrong.append(f"scan {scan['id']} has {len(scan['artifacts'])} artefacts")
        there = {scan["id"] for scans in self.scans.values() for scan in scans}
        for repository, scan in self.ledger.scans:
            if scan not in there:
                wrong.append(f"the scan {scan} that was asked for is gone")
        if len(there) != sum(len(scans) for scans in self.scans.values()):
            wrong.append("a scan is listed twice")
        if not seen["completed"]:
            wrong.append("not one was completed")
        return ", ".join(f"{n} {status}" for status, n in sorted(seen.items())), wrong

    def events(self):
        wrong, count = [], 0
        for repository, scans in self.scans.items():
            for scan in scans:
                path = f"/v1/repositories/{repository}/scans/{scan['id']}/events"
                events = list(every(self.base, path, self.token))
                count += len(events)
                if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
                    wrong.append(f"scan {scan['id']}: {[event['seq'] for event in events]}")
                for event in events:
                    if event["type"] == "inventory":
                        self.looked_at[scan["id"]] = event["data"]["to_scan"]
                ends = [event["type"] for event in events if event["type"] in FINAL]
                if ends != [scan["status"]] or events[-1]["type"] not in FINAL:
                    wrong.append(f"scan {scan['id']} is {scan['status']}, its ends: {ends}")
        return f"{count} events", wrong

    def findings(self):
        """None is there twice, and the planted keys of the head are all there."""
        wrong, count = [], 0
        heads = {
            self.uploads[remote.id]["repository_id"]: remote for remote in self.ledger.remotes
        }
        for repository, row in self.repositories.items():
            found = list(every(self.base, f"/v1/repositories/{repository}/findings", self.token))
            count += len(found)
            twice = collections.Counter(finding["fingerprint"] for finding in found)
            for fingerprint, times in twice.items():
                if times > 1:
                    wrong.append(f"{repository}: {fingerprint} is there {times} times")
            remote, last = heads.get(repository), row["last_scan"]
            scan = next((s for s in self.scans[repository] if last and s["id"] == last["id"]), None)
            if not remote or not scan or scan["status"] != "completed":
                continue
            names = git(remote.folder, "ls-tree", "-r", "--name-only", scan["commit"])[1].split()
            planted = {name for name in names if name.endswith(".env")}
            shown = {
                finding["location"]["path"] for finding in found
                if finding["state"] != "fixed" and not finding["location"]["in_history"]
            }
            if planted - shown:
                wrong.append(f"{repository}: the keys in {sorted(planted - shown)} were not found")
        for archive in self.ledger.archives:
            row = self.repositories.get(archive)
            if row is None or row["ingest_status"] not in ("ready", "failed"):
                wrong.append(f"the archive {archive} is {row and row['ingest_status']}")
        return f"{count} findings", wrong

    # Money.

    def billing(self):
        totals = self.get("/v1/billing/summary")["totals"]
        shown = sum(upload["pushes"] for upload in self.uploads.values())
        told = sum(remote.acknowledged_pushes for remote in self.ledger.remotes)
        most = told + sum(remote.unknown_pushes for remote in self.ledger.remotes)
        completed = sum(
            scan["status"] == "completed" for scans in self.scans.values() for scan in scans
        )
        files = sum(
            self.looked_at.get(scan["id"], 0)
            for scans in self.scans.values() for scan in scans if scan["status"] == "completed"
        )
        received = sum(upload["bytes_received"] for upload in self.uploads.values())
        wrong = []
        if not told <= shown <= most:
            wrong.append(f"{shown} pushes are shown; {told} to {most} were accepted")
        for name, wanted in [
            ("pushes", shown), ("scans", completed), ("files_scanned", files),
            ("bytes_received", received),
        ]:
            if totals[name] != wanted:
                wrong.append(f"{totals[name]} {name} on the bill, not {wanted}")
        for remote in self.ledger.remotes:
            pushes = self.uploads[remote.id]["pushes"]
            most = remote.acknowledged_pushes + remote.unknown_pushes
            if not remote.acknowledged_pushes <= pushes <= most:
                wrong.append(
                    f"{remote.id}: {pushes} pushes, of {remote.acknowledged_pushes} to {most}"
                )
        return f"{totals['pushes']} pushes, {totals['scans']} scans", wrong

    # What is kept.

    def no_old_orphan(self):
        """What is older than the grace was referred to all along."""
        body = {"dry_run": True, "older_than": LEAST_GRACE}
        report = self.call_cleanup(body)
        kinds = {kind: r["objects"] for kind, r in report["removed"].items() if r["objects"]}
        # These end by age alone, and are no objects.
        for kind in ("dead_sessions", "idempotency_keys", "gone_workers", "expired_remotes"):
            kinds.pop(kind, None)
        return "a dry run", [f"{n} {kind}" for kind, n in kinds.items()]

    def call_cleanup(self, body, base=None, token=None):
        return insist(
            time.monotonic() + 60, base or self.base, "POST", "/v1/ops/cleanup",
            token or self.token, body,
        )

    def only_what_rows_own(self, objects):
        """After the clean-up: each object belongs to something that the API shows, and
        there are as many as that needs."""
        wrong = []
        packs = collections.defaultdict(set)
        artifacts, snapshots = collections.Counter(), collections.defaultdict(set)
        for key in objects:
            kind, _, rest = key.partition("/")
            owner, _, name = rest.partition("/")
            if kind == "packs":
                packs[owner].add(name)
            elif kind == "artifacts":
                artifacts[owner] += 1
            elif kind == "snapshots":
                snapshots[owner].add(name.split("/")[0])
            elif kind != "health":
                wrong.append(f"{key}: of no known kind")
        for owner, names in packs.items():
            upload = self.uploads.get(owner)
            if upload is None:
                wrong.append(f"packs of {owner}, which nobody has")
                continue
            stems = collections.Counter(re.sub(r"\.(pack|idx)$", "", name) for name in names)
            odd = [name for name, files in stems.items() if files != 2]
            if odd:
                wrong.append(f"{owner}: half a pack: {odd}")
            if len(stems) > upload["pushes"]:
                wrong.append(f"{owner}: {len(stems)} packs of {upload['pushes']} pushes")
        shown = {
            scan["id"]: len(scan["artifacts"]) for scans in self.scans.values() for scan in scans
        }
        for owner, count in artifacts.items():
            if shown.get(owner) != count:
                wrong.append(f"{count} artefacts of {owner}, which shows {shown.get(owner)}")
        for owner, kept in snapshots.items():
            row = self.repositories.get(owner)
            if row is None:
                wrong.append(f"snapshots of {owner}, which nobody has")
            elif not row["snapshot"] or row["snapshot"]["id"] not in kept:
                wrong.append(f"{owner}: its snapshot {row['snapshot']} is not stored")
        for upload in self.uploads.values():
            if upload["bytes_received"] and upload["refs"] and upload["id"] not in packs:
                wrong.append(f"{upload['id']}: no pack of it is stored")
        return f"{len(objects)} objects", wrong

    def artifacts(self):
        """Those of each scan are there with the hash that it names; a few scans."""
        wrong, count = [], 0
        completed = [
            (repository, scan) for repository, scans in self.scans.items() for scan in scans
            if scan["status"] == "completed"
        ]
        for repository, scan in completed[:: max(1, len(completed) // 10)]:
            for artifact in scan["artifacts"]:
                path = f"/v1/repositories/{repository}/scans/{scan['id']}/artifacts/{artifact['name']}"
                got = call_raw(self.base, path, self.token)
                count += 1
                if hashlib.sha256(got).hexdigest() != artifact["sha256"]:
                    wrong.append(f"{scan['id']} {artifact['name']} has another hash")
        return f"{count} artefacts", wrong


def call_raw(base, path, token):
    """The bytes of an answer, whatever they are."""
    import urllib.request
    request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()
