"""Installs what the clients need: Debian packages, and below the build folder what comes
from PyPI and npm, in the versions of requirements.txt and package-lock.json.

Each function returns None, or why it could not be done; it does nothing when all is there.
"""

import os
import pathlib
import shutil
import subprocess
import threading

HERE = pathlib.Path(__file__).resolve().parent


def _run(command, **options):
    """None, or the end of what the command printed when it failed."""
    try:
        ended = subprocess.run(
            [str(part) for part in command], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, **options,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if ended.returncode == 0 else f"{command[0]}: {ended.stdout[-2000:]}"


def _present(package):
    shown = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}", package],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
    )
    return shown.stdout == "installed"


def missing(needs):
    """The packages that are not there. A need is a package, or a (command, package): then
    the package is wanted only where the command is missing."""
    found = []
    for need in needs:
        if isinstance(need, tuple):
            if shutil.which(need[0]) is None:
                found.append(need[1])
        elif not _present(need):
            found.append(need)
    return found


def debian(needs):
    """Installs what is missing, all at once."""
    wanted = missing(needs)
    if not wanted:
        return None
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    failed = _run([*sudo, "apt-get", "update", "-qq"])
    # `env` keeps the setting through sudo.
    return failed or _run([
        *sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq",
        "--no-install-recommends", *sorted(set(wanted)),
    ])


def once(step):
    """The step, done by whoever comes first; the others wait and get the same answer."""
    lock, answers = threading.Lock(), []

    def done():
        with lock:
            if not answers:
                answers.append(step())
            return answers[0]

    return done


def _unchanged(folder, wanted):
    """Whether the folder was made from these files; makes it anew and empty if not."""
    stamp = folder / "wanted"
    text = "".join((HERE / name).read_text() for name in wanted)
    if stamp.is_file() and stamp.read_text() == text:
        return True, stamp, text
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return False, stamp, text


def python(folder):
    """The packages of requirements.txt in a virtual environment of their own."""
    done, stamp, text = _unchanged(folder, ["requirements.txt"])
    if done:
        return None
    failed = _run(["python3", "-m", "venv", folder]) or _run([
        folder / "bin/pip", "-q", "--disable-pip-version-check", "install",
        "--no-deps", "-r", HERE / "requirements.txt",
    ])
    if not failed:
        stamp.write_text(text)
    return failed


def node(folder):
    """The packages of package-lock.json, below `folder`/node_modules."""
    files = ["package.json", "package-lock.json"]
    done, stamp, text = _unchanged(folder, files)
    if done:
        return None
    for name in files:
        shutil.copy(HERE / name, folder)
    failed = _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder)
    if not failed:
        stamp.write_text(text)
    return failed


def go(folder):
    """Builds the driver of go-git against Debian's packages, as `folder`/gogit."""
    files = ["drivers/gogit/main.go", "drivers/gogit/go.mod"]
    done, stamp, text = _unchanged(folder, files)
    if done:
        return None
    # Without modules, paths with a version (…/v5) are found only by packages inside GOPATH.
    source = folder / "src/gogit"
    source.mkdir(parents=True)
    for name in files:
        shutil.copy(HERE / name, source)
    settings = {
        **os.environ, "GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": str(folder / "cache"),
        "GOPATH": f"{folder}:/usr/share/gocode",
    }
    failed = _run(["go", "build", "-o", folder / "gogit", "gogit"], cwd=source, env=settings)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    if not failed:
        stamp.write_text(text)
    return failed
