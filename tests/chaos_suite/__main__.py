"""`tests/chaos`: many clients work while everything around them dies and comes back; then
what they were told is compared with what is there."""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from api import PASSWORD, Away, call, insist
from breaks import ALL as BREAKS
from checks import LEAST_GRACE, Checks
from clients import Client
from disturbances import Disturbances
from ledger import Ledger
from stack import PARTS, Process, Stack, answers, processes_with

# Hours by which the clean-up at the end looks ahead.
LATER = 72
# Seconds in which each disturbance has its turn.
ROUND = 110


class Run:
    """One run, from an empty folder to the table."""

    def __init__(self, options, folder):
        self.options, self.folder = options, pathlib.Path(folder)
        self.ledger = Ledger()
        self.stack = Stack(folder, options.sluice, options.proxy, options.tools)

    def chance(self, stream):
        """Draws of its own for each thread, so that one seed gives the same draws again."""
        return random.Random(f"{self.options.seed}/{stream}")

    def sign_in(self, base):
        body = {"email": "admin@localhost", "password": PASSWORD}
        return insist(time.monotonic() + 60, base, "POST", "/v1/auth/login", None, body)

    def key(self):
        """A key that does not expire within an hour."""
        token = self.sign_in(self.stack.base)["access_token"]
        made = call(self.stack.base, "POST", "/v1/api-keys/", token, {"name": "chaos"})
        return made["key"]

    def disturb(self):
        """Clients and disturbances, until the time is over; what went wrong with them."""
        token = self.key()
        until = time.monotonic() + self.options.seconds
        clients = [
            Client(
                number, self.chance(f"client-{number}"), self.stack.base, token, self.ledger,
                self.folder / f"client-{number}", until,
                self.options.pushes // self.options.clients,
            )
            for number in range(self.options.clients)
        ]
        lanes = Disturbances(self.stack, self.ledger, self.chance, until)
        for one in [*clients, *([] if self.options.calm else [lanes])]:
            one.start()
        for client in clients:
            client.join(self.options.seconds + 400)
        if not self.options.calm:
            lanes.end()
        wrong = [f"{client.name}: {client.broken}" for client in clients if client.broken]
        wrong += [f"{client.name} does not end" for client in clients if client.is_alive()]
        # A run that disturbs too little, or nobody, says nothing.
        if not self.options.calm and self.options.seconds >= ROUND:
            wrong += [f"in {self.options.seconds} s no {kind}" for kind in lanes.missing()]
            if self.ledger.counts["pushes acknowledged"] < ROUND // 2:
                wrong.append("hardly a push was acknowledged")
        return f"{len(clients)} clients", wrong + lanes.broken + self.ledger.lost

    def check(self):
        """All checks, in an order in which none hides what another would show."""
        checks = Checks(self.stack, self.ledger, self.key())
        self.checks = checks
        if not checks.run("quiet again", lambda: checks.quiet(self.options.quiet)):
            # What follows tells more about what is still under way.
            print("not quiet: the checks go on with what is there", file=sys.stderr)
        if self.options.damage:
            BREAKS[self.options.damage](self)
        checks.read()
        checks.run("no orphan older than the grace", checks.no_old_orphan)
        checks.run("clean-up leaves what rows own", self.cleanup)
        checks.run("refs of acknowledged pushes", checks.refs)
        checks.run("their objects, cloned back", checks.bytes)
        checks.run("their files, as snapshots", checks.files)
        checks.run("every scan ended once", checks.ended_once)
        checks.run("events have no hole", checks.events)
        checks.run("artefacts of scans", checks.artifacts)
        checks.run("findings, none twice", checks.findings)
        checks.run("the bill counts once", checks.billing)
        checks.run("all end when asked to", self.ends)
        checks.run("no process is left", self.left)
        checks.run("nothing left in the folders", self.folders)
        checks.run("no panic, no missing object", self.logs)
        return checks.rows

    def cleanup(self):
        """A server without workers that takes it to be days later removes everything that
        nothing refers to; after that there is nothing more to remove."""
        library = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        port = self.stack.spare_port
        base = f"http://127.0.0.1:{port}"
        door = self.late_door()
        late = Process(
            "server-late", [self.options.sluice, "serve", "--no-worker", "--no-migrate"],
            {
                **self.stack.servers[0].environment, "SLUICE_LISTEN": f"127.0.0.1:{port}",
                "SLUICE_DATA_DIR": str(self.folder / "server-late"),
                "AWS_ENDPOINT_URL_S3": door,
                "LD_PRELOAD": str(library), "FAKETIME": f"+{LATER}h",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
            },
            self.folder, answers(f"{base}/v1/healthz"),
        )
        try:
            late.start()
            late.wait_ready()
            token = self.sign_in(base)["access_token"]
            body = {"older_than": LEAST_GRACE}
            removed = self.checks.call_cleanup(body, base, token)["total"]["objects"]
            again = self.checks.call_cleanup(body, base, token)["removed"]
        finally:
            late.kill()
            os.kill(int((self.folder / "s3-late.pid").read_text()), signal.SIGKILL)
        looked_at, wrong = self.checks.only_what_rows_own(self.stack.objects())
        more = {kind: r["objects"] for kind, r in again.items() if r["objects"]}
        # Whoever works today is long gone in three days, and says so again.
        more.pop("gone_workers", None)
        if more:
            wrong.append(f"a second one removes more: {more}")
        return f"{removed} removed; {looked_at} left", wrong

    def late_door(self):
        """The store lets nobody in whose clock goes wrong; by this door it does."""
        said = subprocess.run(
            [PARTS / "s3-late", self.folder, str(self.stack.s3_port)], check=True,
            stdout=subprocess.PIPE, text=True,
        ).stdout
        return said.strip().partition("=")[2]

    def ends(self):
        ended = self.stack.stop()
        return f"{len(ended)} processes", [f"{n}: {s}" for n, s in ended.items() if s != 0]

    def left(self):
        for process in (self.stack.store, self.stack.queue):
            process.kill()
        self.stack.postgres("stop")
        time.sleep(0.5)
        wrong = []
        for pid in processes_with(str(self.folder)):
            shown = ["ps", "-o", "pid=,args=", "-p", str(pid)]
            said = subprocess.run(shown, check=False, capture_output=True, text=True).stdout
            wrong.append(said.strip())
            # It is one of this run, and nobody else would end it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return "", wrong

    def folders(self):
        """What a process that was killed had begun in its folder is taken away by the next
        one there, or at its next start at the latest."""
        wrong = []
        for process in self.stack.servers + self.stack.workers:
            for name in ("git/incoming", "tmp"):
                folder = self.folder / process.name / name
                left = [str(f) for f in folder.rglob("*") if f.is_file()] if folder.is_dir() else []
                if left:
                    wrong.append(f"{process.name}: {len(left)} files in {name}: {left[:3]}")
        return "", wrong

    def logs(self):
        wrong, errors = [], 0
        for process in self.stack.ours:
            lines = process.log().splitlines()
            # Whoever misses an object looked at refs and objects of different moments.
            bad = [line for line in lines if "panicked at" in line or ": it is missing" in line]
            wrong += [f"{process.name}: {line[:300]}" for line in bad]
            errors += sum(" ERROR " in line for line in lines)
        return f"{errors} lines of errors", wrong


def table(rows):
    """Prints the rows; whether all is well."""
    print()
    for name, looked_at, wrong in rows:
        print(f"{'FAILED' if wrong else 'ok':<7} {name:<34} {looked_at}")
        for line in wrong[:10]:
            print(f"        {line}")
        if len(wrong) > 10:
            print(f"        and {len(wrong) - 10} more")
    return not any(wrong for *_, wrong in rows)


def main():
    parser = argparse.ArgumentParser(prog="tests/chaos", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3600, help="how long it is disturbed")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--pushes", type=int, default=1_000_000, help="at most, of all clients")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--quiet", type=int, default=180, help="seconds until all is done")
    parser.add_argument("--calm", action="store_true", help="disturbs nothing")
    parser.add_argument("--keep", action="store_true", help="keeps the folder in any case")
    parser.add_argument(
        "--break", dest="damage", choices=sorted(BREAKS), help="damages this, to see a check fail"
    )
    for name in ("sluice", "proxy", "tools"):
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="chaos-")
    # Whoever runs PostgreSQL has to get in.
    os.chmod(folder, 0o755)
    print(f"chaos for {options.seconds} s, seed {options.seed}", flush=True)
    well, run = False, None
    try:
        run = Run(options, folder)
        run.stack.start()
        rows = [("clients and disturbances", *run.disturb())]
        rows += run.check()
        well = table(rows)
        counts = run.ledger.counts
        print("\n" + "\n".join(f"{counts[what]:>7} {what}" for what in sorted(counts)))
        for reason, times in run.ledger.reasons.most_common(12):
            print(f"{times:>7} refused: {reason}")
    finally:
        if run is not None:
            run.stack.destroy()
        if well and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"\nthe logs are in {folder}; the same draws again: --seed {options.seed}")
    print(f"chaos: {'all is well' if well else 'FAILED'} after {time.monotonic() - began:.0f} s")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
