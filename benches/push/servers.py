"""The two servers that are pushed to.

Both answer on a free port of the loopback interface, keep everything below a
temporary folder and get fresh remotes for every push.

The peer is set up in its own favour: it asks for no credentials and never collects
garbage. Only the check of incoming objects is switched on, since ours checks too;
the three flaws that are common in old histories are let through on both sides.
"""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(check, what, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return
        time.sleep(0.02)
    raise RuntimeError(f"{what} did not start within {seconds} s")


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def install_apache():
    """Debian's apache2; its own service stays stopped, we start one beside it."""
    if shutil.which("apache2", path="/usr/sbin:" + os.environ.get("PATH", "")):
        return
    print("installing apache2", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    root = [] if os.geteuid() == 0 else ["sudo"]
    command = ["apt-get", "install", "-y", "--no-install-recommends", "apache2"]
    for attempt in (command, ["apt-get", "update"], command):
        done = subprocess.run([*root, *attempt], env=environment, stdout=subprocess.DEVNULL)
        if done.returncode == 0 and attempt is command:
            return
    raise RuntimeError("apache2 is not here and cannot be installed with apt-get")


# Runs git http-backend and writes down what it and everything below it used.
METER = """#!{python}
import resource, subprocess, sys
code = subprocess.call([{backend!r}])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open({log!r}, "a") as log:
    print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, file=log)
sys.exit(code)
"""

APACHE = """
ServerRoot "{folder}"
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile "{folder}/pid"
ErrorLog "{folder}/error.log"
LogLevel warn
Mutex file:{folder} default
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule env_module {modules}/mod_env.so
LoadModule cgid_module {modules}/mod_cgid.so
ScriptSock "{folder}/cgid.sock"
{user}
Timeout 900
SetEnv GIT_PROJECT_ROOT "{repositories}"
SetEnv GIT_HTTP_EXPORT_ALL 1
SetEnv GIT_CONFIG_NOSYSTEM 1
SetEnv GIT_CONFIG_GLOBAL /dev/null
ScriptAlias /git/ "{backend}/"
ScriptAlias /metered/ "{meter}/"
<Directory />
    Require all granted
</Directory>
"""

PEER_CONFIGURATION = {
    "http.receivepack": "true",
    "receive.fsckObjects": "true",
    "receive.fsck.badTimezone": "ignore",
    "receive.fsck.missingSpaceBeforeDate": "ignore",
    "receive.fsck.zeroPaddedFilemode": "ignore",
    "receive.autogc": "false",
}


class Apache:
    """Apache 2.4 with git http-backend by mod_cgid."""

    name = "Apache"

    def __init__(self, git, folder):
        self.git = git
        self.folder = folder
        self.repositories = folder / "repositories"
        self.repositories.mkdir(parents=True)
        self.log = folder / "used"
        self.log.touch()
        meter = folder / "meter"
        backend = git.exec_path() / "git-http-backend"
        if not backend.exists():
            raise RuntimeError(f"{backend} is missing; name a whole git with --git")
        # Apache's user may not be able to reach the Python of the one who measures.
        python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
        meter.write_text(
            METER.format(python=python, backend=str(backend), log=str(self.log))
        )
        meter.chmod(0o755)
        # Apache refuses to serve as root.
        self.owner = pwd.getpwnam("www-data") if os.geteuid() == 0 else None
        self.port = free_port()
        modules = Path("/usr/lib/apache2/modules")
        configuration = folder / "httpd.conf"
        configuration.write_text(
            APACHE.format(
                folder=folder,
                port=self.port,
                modules=modules,
                repositories=self.repositories,
                backend=backend,
                meter=meter,
                user="User www-data\nGroup www-data" if self.owner else "",
            )
        )
        self.own(self.repositories, self.log, folder)
        self.process = subprocess.Popen(
            ["/usr/sbin/apache2", "-f", str(configuration), "-DFOREGROUND"],
            stdout=subprocess.DEVNULL,
        )
        wait_for(lambda: listening(self.port), "Apache")

    def own(self, *paths):
        for path in paths if self.owner else ():
            subprocess.run(["chown", "-R", "www-data:www-data", str(path)], check=True)

    def remote(self, metered=False):
        """A new, empty remote: its URL and what forgets it."""
        name = f"r{time.monotonic_ns()}.git"
        directory = self.repositories / name
        directory.mkdir()
        self.git(directory, "init", "--quiet", "--bare")
        for key, value in PEER_CONFIGURATION.items():
            self.git(directory, "config", key, value)
        self.own(directory)
        alias = "metered" if metered else "git"
        url = f"http://127.0.0.1:{self.port}/{alias}/{name}"
        return url, lambda: shutil.rmtree(directory)

    def settle(self, url):
        """The answer of a push is the last thing that happens."""

    def used(self):
        """CPU seconds and the peak of the largest process since it was last asked, of
        the remotes that are metered: everything but Apache itself."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        self.log.write_text("")
        return (
            sum(float(cpu) for cpu, _ in lines),
            max((int(peak) for _, peak in lines), default=0),
        )

    def stop(self):
        stop(self.process)


class Sluice:
    """`sluice serve` on an empty data folder."""

    name = "sluice"

    def __init__(self, binary, folder):
        self.folder = folder
        folder.mkdir(parents=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        environment |= {
            "SLUICE_LISTEN": "127.0.0.1:0",
            "SLUICE_DATA_DIR": str(folder / "data"),
            "SLUICE_ADMIN_EMAIL": "bench@example.org",
            "SLUICE_ADMIN_PASSWORD": "only for this benchmark",
            "SLUICE_LOG": "warn",
            # The advertisement is measured with more refs than are let in otherwise.
            "SLUICE_LIMIT_UPLOAD_REFS": "200000",
        }
        self.process = subprocess.Popen(
            [str(binary), "serve"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("w"),
            text=True,
        )
        first = self.process.stdout.readline()
        address = re.search(r"http://\S+", first)
        if not address:
            stop(self.process)
            raise RuntimeError(f"sluice did not start: {(folder / 'log').read_text()}")
        self.base = address[0]
        # Nobody else reads the pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.token = None
        credentials = {"email": "bench@example.org", "password": "only for this benchmark"}
        self.token = self.call("POST", "/v1/auth/login", credentials)["access_token"]
        # An access token ends after a quarter of an hour, a key does not.
        self.token = self.call("POST", "/v1/api-keys", {"name": "bench"})["key"]

    def call(self, method, path, body=None):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(
            self.base + path,
            method=method,
            headers=headers,
            data=json.dumps(body).encode() if body is not None else None,
        )
        try:
            with urllib.request.urlopen(request, timeout=90) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()}") from error
        return json.loads(content) if content else None

    def upload(self, scan):
        made = self.call("POST", "/v1/git-uploads", {"scan": scan})
        return made["id"], made["push_url"]

    def remote(self, metered=False):
        """A new, empty remote: its URL and what forgets it."""
        upload, url = self.upload(scan=False)
        return url, lambda: self.call("DELETE", f"/v1/git-uploads/{upload}")

    def settle(self, url):
        """Waits until the snapshot of the push is made, which is no part of it."""
        upload = re.search(r"/git/([^/]+)\.git", url)[1]
        end = time.monotonic() + 300
        while time.monotonic() < end:
            state = self.call("GET", f"/v1/git-uploads/{upload}?wait=1")
            if state["status"] == "ready":
                return
            if state["status"] == "failed":
                raise RuntimeError(f"sluice could not take in the push: {state['error']}")
        raise RuntimeError("sluice did not take in the push within 300 s")

    def cpu(self):
        """CPU seconds of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self, field):
        """`VmRSS` or `VmHWM` in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024

    def forget_peak(self):
        """VmHWM begins anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self):
        stop(self.process)
