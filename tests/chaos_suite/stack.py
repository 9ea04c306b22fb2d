"""The stack: what runs, how it is started, killed, frozen and started again."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from api import ENVIRONMENT, PASSWORD

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "docker"))
import compose  # noqa: E402
PARTS = HERE.parent / "parts"
BUCKET = "sluice-chaos"
QUEUE = "sluice-chaos"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"}
REGION = "us-east-1"


def free_ports(count):
    """Free ports that follow each other, and so do those 10,000 above, which SeaweedFS
    takes too. All are below those that systems give out for connections."""
    first = 12_000 + os.getpid() % 900 * 10
    while True:
        taken = []
        try:
            for port in [*range(first, first + count), *range(first + 10_000, first + 10_005)]:
                one = socket.socket()
                taken.append(one)
                one.bind(("127.0.0.1", port))
            return first
        except OSError:
            first = first + 10 if first < 21_900 else 12_000
        finally:
            for one in taken:
                one.close()


class Process:
    """One process that can be started again as it was. Its output goes to a file."""

    def __init__(self, name, command, environment, folder, ready):
        self.name, self.command, self.environment = name, command, environment
        self.log_file = pathlib.Path(folder) / f"{name}.log"
        self.ready, self.process, self.starts = ready, None, 0
        # Ids of all processes that ever were.
        self.pids = []

    def start(self, environment=None):
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command, env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.log_file.parent,
            )
        self.pids.append(self.process.pid)
        self.starts += 1

    def wait_ready(self, seconds=60):
        until = time.monotonic() + seconds
        while not self.ready(self):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at once: {self.log()[-2000:]}")
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} is not ready: {self.log()[-2000:]}")
            time.sleep(0.1)

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def kill(self):
        if self.alive():
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def ended(self, seconds):
        """Its status once it has ended by itself."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None


def answers(url):
    """Ready once this URL answers."""
    def ready(_):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False
    return ready


def says(text):
    """Ready once its last start has said this."""
    return lambda process: process.log().count(text) >= process.starts


class Stack:
    """PostgreSQL, object store, queue, proxy, two servers, two workers."""

    def __init__(self, folder, sluice, proxy, tools):
        self.folder, self.tools = pathlib.Path(folder), pathlib.Path(tools)
        self.sluice = sluice
        first = free_ports(10)
        self.s3_port, self.sqs_port = first, first + 5
        proxy_port, server_ports = first + 6, (first + 7, first + 8)
        self.base = f"http://127.0.0.1:{proxy_port}"
        self.spare_port = first + 9
        self.s3_url = f"http://127.0.0.1:{self.s3_port}"
        self.sqs_url = f"http://127.0.0.1:{self.sqs_port}"
        self.database = self.postgres("start", "fsync=on")
        self.store, self.queue = self.seaweedfs(), self.ministack()
        # Commands and settings are those of docker-compose.yml; only addresses differ.
        settings = {
            **KEYS,
            "AWS_ENDPOINT_URL_S3": self.s3_url, "AWS_ENDPOINT_URL_SQS": self.sqs_url,
            "SLUICE_DATABASE_URL": f"{self.database}/postgres",
            "SLUICE_STORAGE": f"s3://{BUCKET}/chaos",
            "SLUICE_QUEUE": f"sqs://{QUEUE}",
            "SLUICE_PUBLIC_URL": self.base,
            "SLUICE_WORKERS": "2",
        }
        services = compose.sluice({
            "POSTGRES_PASSWORD": "", "S3_SECRET_KEY": "", "SLUICE_ADMIN_PASSWORD": PASSWORD,
            "SLUICE_JWT_SECRET": "a secret for tests that is long enough",
        })

        def process(service, port, ready):
            return Process(
                service.name, [sluice, *service.command],
                {
                    **ENVIRONMENT, **service.environment, **settings,
                    "SLUICE_LISTEN": f"127.0.0.1:{port}",
                    "SLUICE_DATA_DIR": str(self.folder / service.name),
                },
                folder, ready,
            )

        self.migration = process(services["others"][0], 0, says("up to date"))
        listens, works = says(" listens on "), says("workers started")
        self.servers = [
            process(one, port, listens) for one, port in zip(services["servers"], server_ports)
        ]
        self.workers = [process(one, 0, works) for one in services["workers"]]
        self.proxy = Process(
            "proxy", [proxy, f"127.0.0.1:{proxy_port}", *(f"127.0.0.1:{p}" for p in server_ports)],
            ENVIRONMENT, folder, says("listens on "),
        )
        self.ours = [self.proxy, *self.servers, *self.workers]

    # The parts that are not ours.

    def postgres(self, act, *settings):
        """Starts or stops PostgreSQL; where it is."""
        said = subprocess.run(
            [PARTS / "postgres", act, self.folder / "postgres", *settings],
            check=act != "stop", capture_output=True, text=True,
        ).stdout
        return said.strip().partition("=")[2]

    def seaweedfs(self):
        port, data = self.s3_port, self.folder / "s3"
        data.mkdir()
        ports = ["s3.port", "master.port", "volume.port", "filer.port", "admin.port"]
        return Process(
            "seaweedfs",
            [
                self.tools / "weed", "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                *(f"-{name}={port + more}" for more, name in enumerate(ports)),
                "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
                "-s3.autoCreateBucket=false", "-master.telemetry=false", f"-bucket={BUCKET}",
                f"-filer.localSocket={data}/filer.sock", f"-s3.localSocket={data}/s3.sock",
            ],
            {**ENVIRONMENT, **KEYS, "HOME": str(data)}, self.folder, self.has_bucket,
        )

    def has_bucket(self, _):
        """The store answers before it has made its bucket."""
        from botocore.exceptions import BotoCoreError, ClientError
        try:
            self.aws("s3").head_bucket(Bucket=BUCKET)
            return True
        except (BotoCoreError, ClientError):
            return False

    def ministack(self):
        return Process(
            "ministack", [self.tools / "ministack"],
            {
                **ENVIRONMENT, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.sqs_port),
                "SERVICES": "sqs", "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0",
                "HOME": str(self.folder),
            },
            self.folder, answers(f"{self.sqs_url}/_ministack/health"),
        )

    def aws(self, service):
        """A client of the store or the queue, which is no client of ours."""
        import boto3
        from botocore.config import Config
        return boto3.client(
            service, endpoint_url=self.s3_url if service == "s3" else self.sqs_url,
            region_name=REGION, aws_access_key_id="test", aws_secret_access_key="testtest",
            config=Config(
                connect_timeout=2, read_timeout=5, retries={"max_attempts": 2},
                s3={"addressing_style": "path"},
            ),
        )

    queue_name = QUEUE

    def sql(self, statement):
        """Behind the back of the servers, for `--break`."""
        folder = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        subprocess.run(
            [folder, "-q", "-v", "ON_ERROR_STOP=1", f"{self.database}/postgres", "-c", statement],
            check=True, stdout=subprocess.DEVNULL,
        )

    # All of it.

    def start(self):
        for part in (self.store, self.queue):
            part.start()
            part.wait_ready()
        self.migration.start()
        if self.migration.process.wait(120) != 0:
            raise RuntimeError(f"sluice migrate: {self.migration.log()}")
        for process in self.ours:
            process.start()
        for process in self.ours:
            process.wait_ready()

    def stop(self):
        """Ends all that is ours as an operator does: name and status of each."""
        for process in self.servers + self.workers:
            process.signal(signal.SIGTERM)
        ended = {process.name: process.ended(40) for process in self.servers + self.workers}
        self.proxy.kill()
        return ended

    def destroy(self):
        for process in [*self.ours, self.store, self.queue]:
            if process.process is None:
                continue
            process.signal(signal.SIGCONT)
            process.kill()
        self.postgres("stop")

    def objects(self):
        """Keys and sizes of all that is stored, by the store itself."""
        pages = self.aws("s3").get_paginator("list_objects_v2")
        found = {}
        for page in pages.paginate(Bucket=BUCKET):
            found.update({o["Key"].removeprefix("chaos/"): o["Size"] for o in page.get("Contents", [])})
        return found


def processes_with(text):
    """Ids of processes whose command or environment names this, but this one's."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            state = re.search(r"^State:\s+(\S)", (folder / "status").read_text(), re.M).group(1)
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except (OSError, AttributeError):
            continue
        if state != "Z" and text.encode() in told:
            found.append(int(folder.name))
    return found
