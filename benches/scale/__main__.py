"""Pushes and scans with 1, 2, 3 and 4 worker processes, on PostgreSQL, S3 and SQS.

The stack is that of `tests/chaos`, all of it on this machine: PostgreSQL, SeaweedFS,
ministack, the proxy, two servers. So the cores are spent long before any engine is full,
and what the table shows is how far the work spreads until then. Afterwards it prints what
one push with its scan leaves behind, which is what to multiply for a year. Started by
`benches/run scale`.
"""

import argparse
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
for folder in ("tests/chaos_suite", "benches/push"):
    sys.path.append(str(ROOT / folder))

import raw  # noqa: E402
import repositories  # noqa: E402
from api import PASSWORD, call  # noqa: E402
from stack import BUCKET, Process, Stack  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
MOST_WORKERS = 4


def arguments():
    parser = argparse.ArgumentParser(
        prog="benches/run scale",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    parser.add_argument("--pushes", type=int, default=40, metavar="N", help="for each number of workers")
    parser.add_argument("--files", type=int, default=300, metavar="N", help="of each repository")
    parser.add_argument("--at-once", type=int, default=8, metavar="N", help="clients that push")
    parser.add_argument("--sluice", required=True, help="the server")
    parser.add_argument("--proxy", required=True, help="the proxy of the tests")
    parser.add_argument("--tools", required=True, help="where weed and ministack are")
    return parser.parse_args()


class Repositories:
    """Bodies of pushes. No two hold the same file, so that no scan finds results of
    another."""

    def __init__(self, folder, files):
        self.folder, self.files, self.made = folder, files, 0
        self.git = repositories.Git("git")

    def body(self):
        self.made += 1
        directory = self.folder / f"{self.made}.git"
        rng = random.Random(self.made)
        stream = repositories.Import(self.git, directory)
        stream.commit(0, "Begin")
        for number in range(self.files):
            content = repositories.text(rng, rng.randrange(500, 6_000))
            stream.file(f"src/area{number % 12}/f{number}.c", content)
        stream.done()
        commit = self.git(directory, "rev-parse", "main")
        pack = raw.pack(self.git, directory, "main")
        shutil.rmtree(directory)
        return raw.creations(commit, ["refs/heads/main"], pack)


def cpu(processes):
    """CPU seconds of processes so far, their children not included."""
    total = 0
    for process in processes:
        fields = pathlib.Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


class Bench:
    def __init__(self, given, folder):
        self.given = given
        self.stack = Stack(folder, given.sluice, given.proxy, given.tools)
        for process in self.stack.servers + self.stack.workers:
            # One job at a time, so that a process is the unit that is counted.
            process.environment |= {"SLUICE_WORKERS": "1", "SLUICE_LOG": "warn,sluice::queue=info"}
        first = self.stack.workers[0]
        self.workers = list(self.stack.workers)
        while len(self.workers) < MOST_WORKERS:
            name = f"worker{len(self.workers) + 1}"
            environment = first.environment | {"SLUICE_DATA_DIR": str(self.stack.folder / name)}
            self.workers.append(
                Process(name, first.command, environment, self.stack.folder, first.ready)
            )
        # Only what is measured runs.
        self.stack.ours = [self.stack.proxy, *self.stack.servers]
        self.repositories = Repositories(self.stack.folder, given.files)

    def start(self):
        self.stack.start()
        self.token = call(
            self.stack.base, "POST", "/v1/auth/login", None,
            {"email": "admin@localhost", "password": PASSWORD},
        )["access_token"]
        self.token = call(self.stack.base, "POST", "/v1/api-keys/", self.token, {"name": "scale"})["key"]

    def ask(self, method, path, body=None):
        return call(self.stack.base, method, path, self.token, body)

    def round(self, count):
        """All pushes with so many workers."""
        for worker in self.workers[:count]:
            if not worker.alive():
                worker.start()
                worker.wait_ready()
        bodies = [self.repositories.body() for _ in range(self.given.pushes)]
        uploads = [self.ask("POST", "/v1/git-uploads/", {"name": f"{count}-{n}"}) for n in range(len(bodies))]
        ours = [*self.stack.servers, *self.workers[:count]]
        used, start, ends = cpu(ours), time.perf_counter(), []
        lock = threading.Lock()

        def push(upload, body):
            begun = time.perf_counter()
            client = raw.Remote(upload["push_url"])
            client.push(body)
            client.close()
            return time.perf_counter() - begun

        def follow(upload):
            self.follow(upload)
            with lock:
                ends.append(time.perf_counter())

        with ThreadPoolExecutor(self.given.at_once) as pushing, ThreadPoolExecutor(16) as following:
            pushed = list(pushing.map(push, uploads, bodies))
            all_pushed = time.perf_counter() - start
            waiting = [following.submit(follow, upload) for upload in uploads]
            for one in waiting:
                one.result()
        whole = max(ends) - start
        used = cpu(ours) - used
        print(
            f"{count} workers   {len(bodies) / all_pushed:6.1f} pushes/s"
            f" (p50 {statistics.median(pushed) * 1e3:.0f} ms)"
            f"   {len(bodies) / whole * 3600:8.0f} scans/h"
            f"   {used / len(bodies):5.2f} s of our cpu for each,"
            f" {used / whole:.2f} of {os.cpu_count()} cores",
            flush=True,
        )

    def follow(self, upload):
        path = f"/v1/git-uploads/{upload['id']}"
        while True:
            state = self.ask("GET", path)
            if state["status"] == "failed":
                raise RuntimeError(f"not taken in: {state['error']}")
            if state["scan_id"]:
                break
            time.sleep(0.1)
        path = f"/v1/repositories/{state['repository_id']}/scans/{state['scan_id']}"
        while (state := self.ask("GET", f"{path}?wait=20"))["status"] in ("queued", "running"):
            pass
        if state["status"] != "completed":
            raise RuntimeError(f"the scan ended as {state['status']}: {state['error']}")

    def left_behind(self):
        """Rows and bytes of the database, and objects, for each push."""
        pushes = self.given.pushes * MOST_WORKERS
        psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        names = self.sql(psql, "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                               "WHERE relkind = 'r' AND nspname = 'public' ORDER BY relname").split()
        rows = []
        for name in names:
            count, size = self.sql(psql, f"SELECT count(*), pg_total_relation_size('{name}') FROM {name}").split("|")
            rows.append((int(size), int(count), name))
        print(f"\nleft behind by {pushes} pushes of {self.given.files} files with their scans, for each:")
        for size, count, name in sorted(rows, reverse=True):
            if count >= pushes:
                print(f"  {name:24} {count / pushes:8.1f} rows {size / pushes / 1e3:8.1f} kB with indexes")
        print(f"  {'all tables':24} {sum(c for _, c, _ in rows) / pushes:8.1f} rows"
              f" {sum(s for s, _, _ in rows) / pushes / 1e3:8.1f} kB")
        objects = self.stack.objects()
        kinds = {}
        for key, size in objects.items():
            kind = key.split("/")[0]
            known = kinds.get(kind, (0, 0))
            kinds[kind] = (known[0] + 1, known[1] + size)
        for kind, (count, size) in sorted(kinds.items()):
            print(f"  {BUCKET}/{kind:17} {count / pushes:8.1f} objects {size / pushes / 1e3:6.1f} kB")

    def sql(self, psql, statement):
        done = subprocess.run(
            [psql, "-qAt", f"{self.stack.database}/postgres", "-c", statement],
            check=True, capture_output=True, text=True,
        )
        return done.stdout.strip()

    def run(self):
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {self.given.pushes} pushes of"
              f" {self.given.files} files, {self.given.at_once} at once; all parts on this machine")
        for count in range(1, MOST_WORKERS + 1):
            self.round(count)
        self.left_behind()


def main():
    given = arguments()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="scale-"))
    # PostgreSQL has a user of its own here.
    folder.chmod(0o755)
    bench = None
    try:
        bench = Bench(given, folder)
        bench.start()
        bench.run()
    finally:
        if bench:
            for worker in bench.workers:
                worker.kill()
            bench.stack.destroy()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
