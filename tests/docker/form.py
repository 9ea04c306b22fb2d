"""Checks docker-compose.yml and Dockerfile for form, since no test here can run Docker.

The commands of the services are tried on the real binary; that they work together is seen
by tests/chaos, which starts servers and workers with the same commands.
"""

import os
import re
import subprocess
import sys

from compose import ROOT, load, sluice, substituted

VARIABLES = {
    "POSTGRES_PASSWORD": "a-password", "S3_SECRET_KEY": "a-secret",
    "SLUICE_JWT_SECRET": "a secret that is long enough for anyone",
    "SLUICE_ADMIN_PASSWORD": "correct horse battery staple",
}
WRONG = []


def expect(holds, what):
    print(f"{'ok' if holds else 'FAILED':<7} {what}")
    if not holds:
        WRONG.append(what)


def run(binary, *arguments, environment=None):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SLUICE_")}
    return subprocess.run(
        [binary, *arguments], env={**clean, **(environment or {})}, cwd="/", check=False,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )


def compose(binary):
    whole, kinds = load(), sluice(VARIABLES)
    services = whole["services"]
    expect(len(kinds["servers"]) == 2 and len(kinds["workers"]) == 2, "two servers, two workers")
    expect([one.command for one in kinds["others"]] == [["migrate"]], "one step that migrates")
    # Servers and workers differ in nothing but their addresses.
    for kind in ("servers", "workers"):
        first, second = kinds[kind]
        expect(
            (first.command, first.environment) == (second.command, second.environment),
            f"{kind} are alike",
        )
    every = [one for kind in kinds.values() for one in kind]
    expect(
        all("--no-worker" in one.command for one in kinds["servers"]), "servers leave jobs to workers"
    )
    expect(
        len({tuple(sorted(one.environment.items())) for one in every}) == 1,
        "all of sluice has one configuration",
    )
    for one in every:
        # What clap does not know it refuses before it prints help.
        said = run(binary, *one.command, "--help")
        expect(said.returncode == 0, f"{one.name}: sluice {' '.join(one.command)} is understood")
        # The configuration is read and checked before anything is reached.
        said = run(
            binary, "check",
            environment={
                **one.environment, "SLUICE_LISTEN": "0.0.0.0:8000",
                "SLUICE_DATA_DIR": "/tmp/sluice-form",
                # Nobody listens there: it fails at once, and behind the configuration.
                "SLUICE_DATABASE_URL": one.environment["SLUICE_DATABASE_URL"].replace(
                    "@postgres:5432", "@127.0.0.1:1"
                ),
            },
        )
        expect(said.stdout.startswith("configuration  ok"), f"{one.name}: its configuration is accepted {said.stderr.strip()}")
        after = one.service["depends_on"]
        wanted = "service_healthy" if one.command == ["migrate"] else "service_completed_successfully"
        expect(
            all(condition["condition"] == wanted for condition in after.values()),
            f"{one.name}: starts after {', '.join(after)}",
        )
    database = every[0].environment["SLUICE_DATABASE_URL"]
    postgres = {k: substituted(v, VARIABLES) for k, v in services["postgres"]["environment"].items()}
    expect(
        database == f"postgres://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}"
        f"@postgres:5432/{postgres['POSTGRES_DB']}",
        "the database is the one of the service postgres",
    )
    secrets = [
        f"{name}: {key}" for name, service in services.items()
        for key, value in (service.get("environment") or {}).items()
        if re.search("PASSWORD|SECRET", key) and not str(value).startswith("${")
    ]
    expect(not secrets, f"no secret is written down {secrets or ''}")
    expect(
        all("${" not in str(value) or ":?" in str(value) or ":-" in str(value)
            for service in services.values() for value in (service.get("environment") or {}).values()),
        "a variable without a value stops the start",
    )
    for name, service in services.items():
        pinned = "build" in service or re.search(r":[^:]*\d[^:]*$", service["image"])
        expect(pinned, f"{name}: its image is built here or has a version")
        if name not in ("migrate",):
            expect(service.get("restart") == "unless-stopped", f"{name}: is started again")
    address = every[0].environment["SLUICE_TRUSTED_PROXIES"]
    expect(
        services["proxy"]["networks"]["sluice"]["ipv4_address"] == address,
        "the trusted proxy is the proxy",
    )
    proxy(whole, [one.service for one in kinds["servers"]])


def proxy(whole, servers):
    """The lines without which pushes break."""
    text = substituted(whole["configs"]["proxy"]["content"], {})
    expect(text.count("{") == text.count("}"), "proxy: braces match")
    behind = re.findall(r"^\s+server ([\d.]+):8000", text, re.M)
    expect(
        behind == [one["networks"]["sluice"]["ipv4_address"] for one in servers],
        "proxy: stands before the servers",
    )
    for line in (
        "client_max_body_size 0;", "proxy_request_buffering off;", "proxy_buffering off;",
        "proxy_http_version 1.1;", "proxy_read_timeout 1h;", "proxy_send_timeout 1h;",
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "proxy_set_header Host $http_host;",
    ):
        expect(line in text, f"proxy: {line}")


def dockerfile(binary):
    text = (ROOT / "Dockerfile").read_text()
    lines = [
        line for line in re.sub(r"\\\n", " ", text).splitlines() if line and not line.startswith("#")
    ]
    said = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest.strip())
    bases = said["FROM"]
    expect(len(bases) == 2, "Dockerfile: has two stages")
    for base in bases:
        name = base.split()[0]
        expect(re.search(r":.*\d", name) and ":latest" not in name, f"Dockerfile: {name} has a version")
    rust = re.search(r'^rust-version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    expect(f"rust:{rust}-" in bases[0], f"Dockerfile: builds with Rust {rust}, as Cargo.toml says")
    last = text.split("\nFROM ")[-1]
    expect(not re.search(r"\bgit\b|cargo|curl", last), "Dockerfile: no tools in the last stage")
    user = said["USER"][-1]
    expect(user.split(":")[0].isdigit() and not user.startswith("0"), f"Dockerfile: runs as {user}")
    expect(last.index("USER ") < last.index("ENTRYPOINT"), "Dockerfile: and starts so")
    expect(not re.search(r"(?i)(password|secret|token|key)\s*=", text), "Dockerfile: holds no secret")
    expect("--locked" in text, "Dockerfile: builds what Cargo.lock says")
    for pair in " ".join(said["ENV"]).split():
        name = pair.partition("=")[0]
        known = not name.startswith("SLUICE_") or f"  {name} " in run(binary, "--help").stdout
        expect(known, f"Dockerfile: {name} is known")
    command = re.search(r"CMD (\[.*\])", said["HEALTHCHECK"][0]).group(1)
    words = re.findall(r'"([^"]*)"', command)
    expect(words[0] == "sluice", f"Dockerfile: health is checked by {' '.join(words)}")
    expect(run(binary, *words[1:], "--help").returncode == 0, "Dockerfile: which is understood")
    # Nobody listens there.
    dead = run(binary, *words[1:], environment={"SLUICE_LISTEN": "127.0.0.1:1"})
    expect(dead.returncode == 1, f"Dockerfile: and fails if nobody answers {dead.stdout.strip()}")
    for line in said["COPY"]:
        source = line.split()[-2]
        expect("--from" in line or (ROOT / source).exists(), f"Dockerfile: {source} is there")


def main():
    binary = sys.argv[1]
    compose(binary)
    dockerfile(binary)
    print(f"{len(WRONG)} of the files' properties do not hold" if WRONG else "all hold")
    return 1 if WRONG else 0


if __name__ == "__main__":
    sys.exit(main())
