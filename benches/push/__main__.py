"""Pushes to sluice and to Apache with git http-backend, in turn, and compares.

Prints medians of what the client waits, their ratio, and what the server used. See
--help; started by `benches/run push`.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import crowd  # noqa: E402
import repositories  # noqa: E402
from servers import Apache, Sluice, install_apache  # noqa: E402

CASES = ("tiny", "history", "commit", "files", "scan", "binary", "large", "onto", "crowd", "refs")
ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(
        prog="benches/run push",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog="cases: tiny (3 files) · history (a repository of about 25 MB, see --repo) · "
        "commit (one more commit onto it) ·\n"
        "files (100,000 small files) · scan (from the start of the push of `history`, and of\n"
        "3 changed files in it, to the last event of the scan) · binary (4 files of 100 MB) ·\n"
        "large (about 300 MB and 400,000 objects, see --large) · onto (one more commit onto it) ·\n"
        "crowd (16 and 64 tiny pushes at once) · refs (the advertisement of 100,000 refs)",
    )
    parser.add_argument("--repo", type=Path, metavar="DIR", help="a real repository for `history`")
    parser.add_argument("--rev", default="HEAD", help="what to push of it (default HEAD)")
    parser.add_argument(
        "--large", type=Path, metavar="DIR",
        help="a real repository for `large`; one that is made takes a quarter of an hour",
    )
    parser.add_argument("--large-rev", default="HEAD", help="what to push of it (default HEAD)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="pushes a side (default 7)")
    parser.add_argument("--cases", default=",".join(CASES), help=f"default {','.join(CASES)}")
    parser.add_argument("--git", default="git", help="git of both the client and Apache")
    parser.add_argument("--binary", type=Path, help="sluice; built with cargo if not given")
    parser.add_argument("--dir", type=Path, help="where to work (default: the temporary folder)")
    given = parser.parse_args()
    given.cases = given.cases.split(",")
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    return given


def build():
    subprocess.run(["cargo", "build", "--release", "--bin", "sluice"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "sluice"


class Bench:
    def __init__(self, given, folder, binary, running):
        self.given = given
        self.git = repositories.Git(given.git)
        self.folder = folder
        self.apache = Apache(self.git, folder / "apache")
        running.callback(self.apache.stop)
        self.sluice = Sluice(binary, folder / "sluice")
        running.callback(self.sluice.stop)
        # The first requests meet cold code; they are not counted.
        time.sleep(1)
        self.idle = self.sluice.memory("VmRSS")
        self.made = {}

    def repository(self, name):
        """The folder of a repository, its size in bytes and its number of objects."""
        if name not in self.made:
            print(f"making the repository `{name}`", file=sys.stderr)
            directory = self.folder / f"{name}.git"
            if name == "tiny":
                repositories.tiny(self.git, directory)
            elif name == "files":
                repositories.many_files(self.git, directory)
            elif name == "binary":
                repositories.binaries(self.git, directory)
            elif name == "large" and self.given.large:
                repositories.real(self.git, directory, self.given.large, self.given.large_rev)
            elif name == "large":
                repositories.history(self.git, directory, commits=90_000, files=8_000)
            elif self.given.repo:
                repositories.real(self.git, directory, self.given.repo, self.given.rev)
            else:
                repositories.history(self.git, directory)
            # What is random is stored as it is; a large history is packed well already.
            anew = name not in ("binary", "large")
            size = repositories.pack(self.git, directory, anew)
            if name in ("history", "large"):
                repositories.change(self.git, directory, "one", 1)
                repositories.change(self.git, directory, "three", 3)
            self.made[name] = (directory, *size)
        return self.made[name]

    def push(self, directory, url, refspec):
        """Seconds that the client waits."""
        start = time.perf_counter()
        self.git(directory, "push", "--quiet", url, refspec)
        return time.perf_counter() - start

    def one(self, server, directory, before, refspec, metered=False):
        """One push into a fresh remote, to which `before` was pushed first."""
        url, forget = server.remote(metered)
        if before:
            self.push(directory, url, before)
            server.settle(url)
        if metered and server is self.apache:
            server.used()
        if server is self.sluice:
            server.forget_peak()
        cpu = self.sluice.cpu()
        seconds = self.push(directory, url, refspec)
        cpu = self.sluice.cpu() - cpu
        peak = self.sluice.memory("VmHWM")
        server.settle(url)
        used = server.used() if metered and server is self.apache else (cpu, peak)
        forget()
        return seconds, *used

    def compare(self, name, repository, before, refspec, rounds):
        directory, size, objects = self.repository(repository)
        for server in (self.apache, self.sluice):
            self.one(server, directory, before, refspec)
        times = {self.apache: [], self.sluice: []}
        cpu, peak = [], []
        for number in range(rounds):
            pair = (self.apache, self.sluice)
            for server in pair if number % 2 else reversed(pair):
                seconds, used, most = self.one(server, directory, before, refspec)
                times[server].append(seconds)
                if server is self.sluice:
                    cpu.append(used)
                    peak.append(most)
        metered = [self.one(self.apache, directory, before, refspec, metered=True) for _ in range(3)]
        theirs, ours = (statistics.median(times[s]) for s in (self.apache, self.sluice))
        their_cpu = statistics.median(used for _, used, _ in metered)
        their_peak = max(most for _, _, most in metered)
        our_cpu = statistics.mean(cpu)
        # The job that makes the snapshot may begin before the client has ended.
        print(
            f"{name:9} {size / 1e6:7.1f} MB {objects:8} objects"
            f" {theirs * 1e3:9.0f} {ours * 1e3:9.0f} ms  ratio {ours / theirs:5.2f}"
            f"   cpu {their_cpu:6.2f} {our_cpu:6.2f} s {our_cpu / their_cpu:5.2f}"
            f"   peak {their_peak / 1e6:5.0f} {max(peak) / 1e6:5.0f} MB"
            f"   after it {self.rested() / 1e6:5.0f} MB",
            flush=True,
        )

    def rested(self):
        """Memory of our server once it has nothing to do."""
        time.sleep(1.5)
        return self.sluice.memory("VmRSS")

    def scanned(self, directory, upload, url, refspec):
        """Seconds from the start of a push to its end and to the scan's last event."""
        start = time.perf_counter()
        before = self.sluice.call("GET", f"/v1/git-uploads/{upload}")["scan_id"]
        self.git(directory, "push", "--quiet", url, refspec)
        pushed = time.perf_counter() - start
        while True:
            state = self.sluice.call("GET", f"/v1/git-uploads/{upload}")
            if state["scan_id"] not in (None, before):
                break
            if state["status"] == "failed":
                raise RuntimeError(f"sluice could not take in the push: {state['error']}")
            if time.perf_counter() - start > 600:
                raise RuntimeError("no scan began within 600 s")
            time.sleep(0.002)
        scan = f"/v1/repositories/{state['repository_id']}/scans/{state['scan_id']}"
        after = 0
        while time.perf_counter() - start < 900:
            items = self.sluice.call("GET", f"{scan}/events?after={after}&limit=200&wait=30")["items"]
            if not items:
                state = self.sluice.call("GET", scan)
                if state["status"] in ("completed", "failed", "cancelled"):
                    break
                continue
            after, last = items[-1]["seq"], time.perf_counter() - start
        if state["status"] != "completed":
            raise RuntimeError(f"the scan did not complete: {state['error']}")
        return pushed, last, sum(state["summary"][s] for s in ("critical", "high", "medium", "low"))

    def scan(self, rounds):
        directory, size, _ = self.repository("history")
        whole, three = [], []
        for _ in range(rounds):
            upload, url = self.sluice.upload(scan=True)
            whole.append(self.scanned(directory, upload, url, "main"))
            three.append(self.scanned(directory, upload, url, "three:main"))
            self.sluice.call("DELETE", f"/v1/git-uploads/{upload}")
        for name, runs, goal in (
            ("scan", whole, "goal: push to last event <= 3 pushes"),
            ("scan of 3", three, "goal: <= 500 ms after the push"),
        ):
            pushed, last = (statistics.median(run[n] for run in runs) for n in (0, 1))
            print(
                f"{name:9} {size / 1e6:7.1f} MB   push {pushed * 1e3:8.0f} ms,"
                f" to the last event {last * 1e3:8.0f} ms ({(last - pushed) * 1e3:.0f} ms after it,"
                f" {(last - pushed) / pushed:.2f} pushes), {runs[-1][2]} findings; {goal}",
                flush=True,
            )

    def run(self):
        rounds = self.given.rounds
        version = self.git(".", "--version")
        load = os.getloadavg()[0]
        print(f"{version}, {os.cpu_count()} cores, load {load:.1f}; Apache first, then sluice")
        for case in self.given.cases:
            if case == "tiny":
                self.compare("tiny", "tiny", None, "main", rounds * 3)
            elif case == "history":
                self.compare("history", "history", None, "main", rounds)
            elif case == "commit":
                self.compare("commit", "history", "main", "one:main", rounds)
            elif case in ("files", "binary", "large"):
                self.compare(case, case, None, "main", rounds)
            elif case == "onto":
                self.compare(case, "large", "main", "one:main", rounds)
            elif case == "crowd":
                directory, *_ = self.repository("tiny")
                for at_once in (16, 64):
                    crowd.tiny_pushes(self, directory, at_once, max(3, rounds // 2))
            elif case == "refs":
                crowd.advertisement(self, self.folder / "refs.git", rounds * 3)
            else:
                self.scan(max(3, rounds // 2))
        time.sleep(1)
        print(
            f"memory of sluice: {self.idle / 1e6:.0f} MB at the start,"
            f" {self.sluice.memory('VmRSS') / 1e6:.0f} MB at the end;"
            f" load {os.getloadavg()[0]:.1f}"
        )


def main():
    given = arguments()
    if not shutil.which(given.git):
        sys.exit(f"there is no {given.git}")
    with contextlib.ExitStack() as running:
        try:
            install_apache()
            binary = given.binary or build()
            folder = Path(tempfile.mkdtemp(prefix="push-bench-", dir=given.dir))
            running.callback(shutil.rmtree, folder, ignore_errors=True)
            # Apache's user has to reach its repositories.
            folder.chmod(0o755)
            Bench(given, folder, binary, running).run()
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            sys.exit(f"push benchmark: {error}")


if __name__ == "__main__":
    main()
