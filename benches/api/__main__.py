"""How fast the API reads: `benches/run api` and `benches/run flat`.

api   requests a second of an authenticated GET of one repository, against a bare axum
      route (benches/bare.rs) that makes the same read through the same pool, in turn,
      medians of the rounds. Needs wrk.
flat  times of pages over 1,000 findings in 60 repositories and over 1,000,000 in
      10,000, each on a server of its own, and their ratio.

The embedded run (SQLite) on the loopback interface, release build.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "push"))

from servers import free_port, listening, stop, wait_for  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a password of the benchmark"


def build():
    """The server and the bare route, as cargo built them."""
    command = ["cargo", "build", "--release", "--locked", "--bin", "sluice", "--bench", "bare"]
    told = subprocess.run(
        [*command, "--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    built = {}
    for line in told.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            built[message["target"]["name"]] = message["executable"]
    return built["sluice"], built["bare"]


class Server:
    """A server in a folder of its own, signed in."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.process = binary, folder, None
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")},
            "SLUICE_DATA_DIR": str(folder / "data"),
            "SLUICE_ADMIN_PASSWORD": PASSWORD,
            "SLUICE_LOG": os.environ.get("SLUICE_LOG", "info"),
        }

    def start(self):
        self.port = free_port()
        self.environment["SLUICE_LISTEN"] = f"127.0.0.1:{self.port}"
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [self.binary], env=self.environment, cwd=self.folder, stdout=log, stderr=log
        )
        wait_for(lambda: listening(self.port), "sluice")
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.token = None
        body = {"email": "admin@localhost", "password": PASSWORD}
        access = self.post("/v1/auth/login", body)["access_token"]
        self.token = access
        # A session ends after 15 minutes; a key does not.
        self.token = self.post("/v1/api-keys/", {"name": "benchmark"})["key"]
        return self

    def ask(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
        return json.loads(data)

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, body):
        return self.ask("POST", path, body)

    @property
    def database(self):
        (found,) = (self.folder / "data").glob("*.db")
        return found

    def stop(self):
        self.connection.close()
        stop(self.process)


def place(server, name):
    """A project with one repository that nothing is pushed to."""
    project = server.post("/v1/projects/", {"name": name})["id"]
    body = {"name": "shop", "source_type": "git_upload"}
    repository = server.post(f"/v1/projects/{project}/repositories", body)["id"]
    return project, repository


# --- api ---------------------------------------------------------------------


def wrk(url, token, seconds, connections):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    if token:
        command[1:1] = ["-H", f"Authorization: Bearer {token}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise RuntimeError(said)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    p99 = re.search(r"99%\s+(\S+)", said)[1]
    return rate, p99


def api(given, binary, bare, folder):
    if not shutil.which("wrk"):
        raise RuntimeError("wrk is not here; on Debian: apt-get install wrk")
    server = Server(binary, folder).start()
    _, repository = place(server, "p")
    owner = server.get("/v1/auth/me")["id"]
    peer = subprocess.Popen(
        [bare, f"sqlite://{server.database}", owner], stdout=subprocess.PIPE, text=True
    )
    try:
        address = peer.stdout.readline().strip()
        sides = {
            "sluice": (f"http://127.0.0.1:{server.port}/v1/repositories/{repository}", server.token),
            "bare route": (f"http://{address}/{repository}", None),
            "no database": (f"http://127.0.0.1:{server.port}/v1/healthz", None),
        }
        rates = {name: [] for name in sides}
        for url, token in sides.values():
            wrk(url, token, 1, given.connections)
        for _ in range(given.rounds):
            for name, (url, token) in sides.items():
                rate, p99 = wrk(url, token, given.seconds, given.connections)
                rates[name].append(rate)
                print(f"  {name:12} {rate:9.0f}/s   p99 {p99}", file=sys.stderr)
        medians = {name: statistics.median(all) for name, all in rates.items()}
        for name, rate in medians.items():
            print(f"{name:12} {rate:9.0f} requests a second")
        print(f"sluice / bare route: {medians['sluice'] / medians['bare route']:.2f} (goal 0.85)")
    finally:
        stop(peer)
        server.stop()


# --- flat --------------------------------------------------------------------

FINDINGS = """
INSERT INTO findings (id, repository_id, project_id, owner_id, fingerprint, engine, rule_id,
    title, severity, confidence, status, state, path, start_line, priority, in_history, body,
    first_seen_scan_id, last_seen_scan_id, first_seen_at, last_seen_at, updated_at)
WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < :findings)
SELECT randomblob(16), :repository, :project, :owner, 'f' || n,
    CASE n % 3 WHEN 0 THEN 'secrets' ELSE 'code' END, 'rule/' || (n % 200),
    CASE WHEN n % :rare = 1 THEN 'A needle' ELSE 'Hay in a stack' END,
    CASE WHEN n % :rare = 2 THEN 'critical' WHEN n % 2 = 0 THEN 'high' ELSE 'low' END,
    'high', CASE WHEN n % :rare = 3 THEN 'confirmed' ELSE 'open' END,
    CASE n % 5 WHEN 0 THEN 'new' ELSE 'unchanged' END,
    CASE WHEN n % :rare = 4 THEN 'src/rare/' || n WHEN n % :some = 5 THEN 'src/some/' || n
        ELSE 'lib/' || (n / 5 % 997) || '/' || (n / 5) || '.py' END,
    n % 300, n % 101, 0, '{"message":"","location":null}', :scan, :scan, :at, :at, :at FROM s
"""


# What a scan does with its findings, and the migration did with those it met.
TEXTS = (ROOT / "migrations/sqlite/0021_finding_texts.sql").read_text()


def fill(server, findings, repositories):
    """Rows straight into the database, while the server is down."""
    project, repository = place(server, "flat")
    for _ in range(9):
        server.post("/v1/projects/", {"name": "other"})
    server.stop()
    database = sqlite3.connect(server.database, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -1000000")
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute("PRAGMA foreign_keys = OFF")
    blob = lambda text: uuid.UUID(text).bytes  # noqa: E731
    (owner,) = database.execute(
        "SELECT owner_id FROM projects WHERE id = ?", [blob(project)]
    ).fetchone()
    at = int(time.time() * 1e6)
    database.execute("BEGIN")
    database.executemany(
        "INSERT INTO repositories (id, project_id, owner_id, name, description, source_type, "
        "ingest_status, languages, created_at, updated_at) "
        "VALUES (randomblob(16), ?, ?, ?, '', 'git_upload', 'ready', '[]', ?, ?)",
        [(blob(project), owner, f"r{n}", at, at) for n in range(repositories - 1)],
    )
    database.execute(
        FINDINGS,
        {
            "findings": findings,
            # Sixty on either side, so that a page of them is full on both.
            "rare": findings // 60,
            # A hundred, and two thousand.
            "some": max(10, findings // 2000),
            "repository": blob(repository),
            "project": blob(project),
            "owner": owner,
            "scan": uuid.uuid4().bytes,
            "at": at,
        },
    )
    for statement in TEXTS.split("-- What is there already.")[1].split("\n", 1)[1].split(";"):
        database.execute(statement)
    database.execute("COMMIT")
    database.execute("ANALYZE")
    database.close()
    server.start()
    return project, repository


def pages(server, project, repository):
    """The pages that are timed, by name."""
    of = {"repository": f"/v1/repositories/{repository}/findings", "project": f"/v1/projects/{project}/findings"}
    found = {
        "project with its figures": f"/v1/projects/{project}",
        "projects": "/v1/projects/",
        "repositories": f"/v1/projects/{project}/repositories?limit=50",
    }
    for scope, path in of.items():
        queries = {
            "newest": "",
            "by priority": "sort=-priority",
            "worst first": "sort=-severity",
            "critical (rare)": "severity=critical",
            "confirmed (rare)": "status=confirmed&sort=-priority",
            "secrets and new": "engine=secrets&state=new",
            "one rule": "rule_id=rule%2F7&sort=-priority",
            "a rare folder": "path=src%2Frare",
            "a folder": "path=src%2Fsome",
            "a folder by priority": "path=src%2Fsome&sort=-priority",
            "a common folder": "path=lib",
            "rare in a common folder": "path=lib&status=confirmed",
            "low in a folder": "path=src%2Fsome&severity=low&sort=-priority",
            "a file": "path=lib%2F7%2F7.py",
            "a search": "q=needle",
            "a search by priority": "q=needle&sort=-priority",
            "a search in paths": "q=src%2Fsome",
            "a common search": "q=stack",
            "a search for nothing": "q=nothing+of+the+kind",
        }
        for name, query in queries.items():
            found[f"{scope}: {name}"] = f"{path}?limit=50&{query}".rstrip("&")
        # Far behind the beginning: the tenth page of two hundred each.
        cursor = None
        for _ in range(3):
            more = f"&cursor={urllib.parse.quote(cursor)}" if cursor else ""
            cursor = server.get(f"{path}?limit=200&sort=-priority{more}")["next_cursor"] or cursor
        found[f"{scope}: a later page"] = f"{path}?limit=50&sort=-priority&cursor={cursor}"
    return found


def timed(server, path, rounds):
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        server.get(path)
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def flat(given, binary, folder):
    results = {}
    for size, (findings, repositories) in {
        "small": (1_000, 60),
        "large": (given.findings, 10_000),
    }.items():
        own = folder / size
        own.mkdir()
        server = Server(binary, own).start()
        try:
            begin = time.perf_counter()
            where = fill(server, findings, repositories)
            print(f"filled {size} in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
            for name, path in pages(server, *where).items():
                timed(server, path, 3)
                results.setdefault(name, {})[size] = timed(server, path, given.rounds)
        finally:
            server.stop()
    print(f"{'page':34} {'1,000':>9} {given.findings:>9,} {'ratio':>6}")
    for name, times in results.items():
        ratio = times["large"] / times["small"]
        print(f"{name:34} {times['small']:6.2f} ms {times['large']:6.2f} ms {ratio:6.2f}")
    print(f"worst ratio {max(t['large'] / t['small'] for t in results.values()):.2f} (goal 2)")


def main():
    parser = argparse.ArgumentParser(
        prog="benches/run api|flat",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    parser.add_argument("which", choices=("api", "flat"))
    parser.add_argument("--rounds", type=int, help="rounds (api: 5, flat: 30 requests a page)")
    parser.add_argument("--seconds", type=int, default=5, help="of one round of api (default 5)")
    parser.add_argument("--connections", type=int, default=16, help="of api (default 16)")
    parser.add_argument("--findings", type=int, default=1_000_000, help="of the large side of flat")
    given = parser.parse_args()
    given.rounds = given.rounds or (5 if given.which == "api" else 30)
    binary, bare = build()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        if given.which == "api":
            api(given, binary, bare, Path(folder))
        else:
            flat(given, binary, Path(folder))


main()
