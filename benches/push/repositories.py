"""The repositories that are pushed: made on the spot, always the same ones.

Each is packed before it is used, so that every push of it sends nearly the same
pack: git reuses the deltas that are there already.
"""

import os
import random
import subprocess
from pathlib import Path

# Nothing of the person who measures gets into the measurement.
GIT_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "A Person",
    "GIT_AUTHOR_EMAIL": "person@example.org",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_NAME": "A Person",
    "GIT_COMMITTER_EMAIL": "person@example.org",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}

SIGNATURE = "A Person <person@example.org>"


class Git:
    """The git that pushes, with an environment of its own."""

    def __init__(self, command):
        self.command = command
        self.environment = {**os.environ, **GIT_ENVIRONMENT}
        # A repository named by the surroundings is not the one that is meant.
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            self.environment.pop(name, None)

    def __call__(self, directory, *arguments, text=None, timeout=900):
        done = subprocess.run(
            [self.command, "-C", str(directory), *arguments],
            env=self.environment,
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def exec_path(self):
        return Path(self(".", "--exec-path"))


class Import:
    """A stream into `git fast-import`."""

    def __init__(self, git, directory):
        directory.mkdir(parents=True)
        git(directory, "init", "--quiet", "--bare")
        self.process = subprocess.Popen(
            [git.command, "-C", str(directory), "fast-import", "--quiet"],
            env=git.environment,
            stdin=subprocess.PIPE,
        )

    def commit(self, number, message):
        text = message.encode()
        self.process.stdin.write(
            f"commit refs/heads/main\ncommitter {SIGNATURE} {1_600_000_000 + number * 600} +0000\n"
            f"data {len(text)}\n".encode() + text + b"\n"
        )

    def file(self, path, content):
        self.process.stdin.write(
            f"M 644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n"
        )

    def done(self):
        self.process.stdin.close()
        if self.process.wait():
            raise RuntimeError("git fast-import failed")


WORDS = (
    "read write open close index value result buffer length offset entry header object "
    "commit branch remote status error config option context cache parse encode decode "
    "request response session handler stream record field table column query update delete"
).split()


def line(rng):
    """A line that compresses about as well as source code does."""
    name = "_".join(rng.choices(WORDS, k=2))
    shape = rng.randrange(6)
    if shape == 0:
        return f"    if ({name}->{rng.choice(WORDS)} < {rng.randrange(4096)})\n"
    if shape == 1:
        return f"        return {name}({rng.choice(WORDS)}, {rng.choice(WORDS)}_{rng.randrange(99)});\n"
    if shape == 2:
        return f"    {rng.choice(WORDS)} = {name}(&{rng.choice(WORDS)}, 0x{rng.getrandbits(24):x});\n"
    if shape == 3:
        return "\n"
    if shape == 4:
        return f"/* {' '.join(rng.choices(WORDS, k=9))} */\n"
    return "    }\n"


def text(rng, size):
    parts, length = [], 0
    while length < size:
        parts.append(line(rng))
        length += len(parts[-1])
    return "".join(parts).encode()


def tiny(git, directory):
    """One commit, three files."""
    stream = Import(git, directory)
    stream.commit(0, "Begin")
    for name in ("README.md", "src/main.c", "src/main.h"):
        stream.file(name, text(random.Random(name), 600))
    stream.done()


def many_files(git, directory, count=100_000):
    """One commit, `count` small files, about 1.2 KB each."""
    rng = random.Random(1)
    lines = [line(rng) for _ in range(4096)]
    stream = Import(git, directory)
    stream.commit(0, "Begin")
    for number in range(count):
        content = f"/* file {number} */\n" + "".join(rng.choices(lines, k=rng.randrange(4, 76)))
        stream.file(f"src/area{number % 40}/part{number // 40 % 25}/f{number}.c", content.encode())
    stream.done()


def binaries(git, directory, count=4, size=100_000_000):
    """One commit with a few large files that nothing can make smaller."""
    rng = random.Random(3)
    stream = Import(git, directory)
    stream.commit(0, "Begin")
    for number in range(count):
        stream.file(f"data/{number}.bin", rng.randbytes(size))
    stream.done()


def history(git, directory, commits=9_000, files=1_600):
    """A history as a project of ten years has: about 25 MB when packed."""
    rng = random.Random(2)
    paths = [f"src/{rng.choice(WORDS)}/{rng.choice(WORDS)}_{n}.c" for n in range(files)]
    contents = {}
    stream = Import(git, directory)
    for number in range(commits):
        stream.commit(number, f"Change {number}\n\n{' '.join(rng.choices(WORDS, k=30))}")
        for path in rng.sample(paths, rng.choice((1, 1, 2, 3, 5))):
            lines = contents.get(path)
            if lines is None:
                size = int(rng.lognormvariate(8.6, 0.9))
                lines = text(rng, min(size, 200_000)).decode().splitlines(keepends=True)
            else:
                for _ in range(rng.randrange(1, 14)):
                    at = rng.randrange(len(lines) + 1)
                    lines[at : at + rng.randrange(4)] = [line(rng) for _ in range(rng.randrange(1, 12))]
            contents[path] = lines
            stream.file(path, "".join(lines).encode())
    stream.done()


def real(git, directory, source, revision):
    """The history of one revision of a repository on this machine."""
    directory.mkdir(parents=True)
    git(directory, "init", "--quiet", "--bare")
    # A name in `refs` can be fetched from any repository, a bare commit cannot.
    commit = git(source, "rev-parse", "--verify", f"{revision}^{{commit}}")
    pack = directory / "objects" / "pack"
    with subprocess.Popen(
        [git.command, "-C", str(source), "pack-objects", "--revs", "--stdout", "-q"],
        env=git.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as packing:
        packing.stdin.write(commit.encode() + b"\n")
        packing.stdin.close()
        subprocess.run(
            [git.command, "-C", str(pack), "index-pack", "--stdin"],
            env=git.environment,
            stdin=packing.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    if packing.returncode:
        raise RuntimeError(f"cannot read {source}")
    git(directory, "update-ref", "refs/heads/main", commit)


def change(git, directory, branch, count):
    """A commit on top of `main` that adds a line to `count` text files; returns its id."""
    tree = git(directory, "ls-tree", "-r", "-z", "main").split("\0")
    files = []
    for entry in tree:
        meta, _, path = entry.partition("\t")
        if meta.startswith("100") and path.endswith((".c", ".h", ".py", ".rs", ".go", ".js", ".java")):
            files.append((meta.split()[0], meta.split()[2], path))
    if len(files) < count:
        raise RuntimeError(f"{directory}: fewer than {count} source files")
    chosen = [files[len(files) * n // count] for n in range(count)]
    changes = []
    index = {"GIT_INDEX_FILE": str(directory / "bench-index")}
    changed = Git(git.command)
    changed.environment.update(index)
    changed(directory, "read-tree", "main")
    for mode, oid, path in chosen:
        # Bytes as they are: source files are not always UTF-8.
        show = subprocess.run(
            [git.command, "-C", str(directory), "cat-file", "blob", oid],
            env=git.environment, capture_output=True, check=True,
        )
        blob = subprocess.run(
            [git.command, "-C", str(directory), "hash-object", "-w", "--stdin"],
            env=git.environment, input=show.stdout + b"\n/* one line more */\n",
            capture_output=True, check=True,
        )
        changes.append(f"{mode} {blob.stdout.decode().strip()}\t{path}\0")
    changed(directory, "update-index", "-z", "--index-info", text="".join(changes))
    written = changed(directory, "write-tree")
    commit = git(directory, "commit-tree", written, "-p", "main", "-m", f"Change {count} files")
    git(directory, "update-ref", f"refs/heads/{branch}", commit)
    return commit


def pack(git, directory, anew=True):
    """Packs all of it, and tells the size of the pack that a push of `main` sends. With
    `anew`, no delta that is there already is used again."""
    git(directory, "-c", "pack.threads=1", "repack", "-adfq" if anew else "-adq")
    counted = git(directory, "rev-list", "--objects", "--count", "main")
    sizes = [file.stat().st_size for file in (directory / "objects" / "pack").glob("*.pack")]
    return sum(sizes), int(counted)
