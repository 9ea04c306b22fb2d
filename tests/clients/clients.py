"""The clients: how each is installed and driven, and what its user reads when refused."""

import dataclasses
import pathlib
import re
import subprocess

import install

DRIVERS = pathlib.Path(__file__).resolve().parent / "drivers"


@dataclasses.dataclass
class Client:
    name: str
    driver: list
    """The command that carries out a step."""
    says: dict
    """What a refused user has to read, by step: a regular expression."""
    debian: list = dataclasses.field(default_factory=list)
    install: list = dataclasses.field(default_factory=list)
    """What installs it; each returns why it could not."""
    environment: dict = dataclasses.field(default_factory=dict)
    store: str = ".git"
    """Where the git objects lie in a work tree."""
    cloned: str = "refs/heads/main"
    """Where a fresh clone has the branch that was cloned."""
    tracking: str = "refs/remotes/origin/main"
    """Where a fetch puts it."""
    tags: str = "tag"
    """What its tags are: "tag" (annotated) or "commit"."""
    without: dict = dataclasses.field(default_factory=dict)
    """Steps that the client has no means for, and why."""
    extra: list = dataclasses.field(default_factory=list)
    """Steps of `extras.py` that only it takes."""


# What git prints; those that run git hand it on.
GIT_SAYS = {
    "wrong": "Authentication failed",
    "expired": r"remote: This remote expired at \S+Z\. Make a new upload and push there\.",
    "deleted": r"remote: This remote was deleted\. Make a new upload and push there\.",
}


def says(wrong):
    """What others print: their own words for wrong credentials, and our sentence."""
    return {
        "wrong": wrong,
        "expired": r"This remote expired at \S+Z\. Make a new upload and push there\.",
        "deleted": r"This remote was deleted\. Make a new upload and push there\.",
    }


def version_of(git):
    try:
        return subprocess.run([git, "version"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def clients(target):
    """All of them; what is not a Debian package goes below `target`."""
    python = install.once(lambda: install.python(target / "venv"))
    node = install.once(lambda: install.node(target / "node"))
    go = install.once(lambda: install.go(target / "go"))

    def git(name, program, extra, **more):
        environment = {"GIT": program, **more.pop("environment", {})}
        driver = [str(DRIVERS / "git.sh")]
        return Client(name, driver, GIT_SAYS, environment=environment, extra=extra, **more)

    def of_python(name, words):
        driver = [str(target / "venv/bin/python"), str(DRIVERS / f"{name}_steps.py")]
        return Client(name, driver, words, install=[python])

    def of_node(name, script, words):
        return Client(
            name, ["node", str(DRIVERS / script)], words, install=[node],
            debian=[("node", "nodejs"), ("npm", "npm")],
            environment={"NODE_PATH": str(target / "node/node_modules")},
        )

    found = [git("git", "/usr/bin/git", ["bearer_header", "shallow"], debian=["git"])]
    # Another git of this machine. None can be had as a package, so it is not missed.
    local = "/usr/local/bin/git"
    if (version := version_of(local)) and version != version_of("/usr/bin/git"):
        # Helpers that give Bearer tokens came with git 2.46.
        number = tuple(int(part) for part in re.findall(rb"\d+", version)[:2])
        helper = ["bearer_helper"] if number >= (2, 46) else []
        found.append(git("git-local", local, ["bearer_header", *helper, "shallow"]))
    # Those that take longest begin first.
    return [
        Client(
            "jgit", [str(DRIVERS / "jgit.sh")], says("not authorized"),
            debian=[("java", "default-jre-headless"), "jgit-cli"], extra=["gzip"],
        ),
        Client(
            "hg-git", [str(DRIVERS / "hg.sh")], says("abort: authorization failed"),
            debian=["mercurial", "mercurial-git"],
            store=".hg/git", tags="commit",
            cloned="refs/remotes/default/main", tracking="refs/remotes/default/main",
            without={"delete": "it has no means to"},
        ),
        *found,
        git("git-lfs", "git", ["lfs"], debian=["git-lfs"], environment={"LFS": "1"}),
        of_python("dulwich", says("HTTPUnauthorized: No valid credentials")),
        of_python("pygit2", says("AuthError: .*authentication")),
        of_python("gitpython", GIT_SAYS),
        of_node("isomorphic-git", "isomorphic.mjs", says("401 Unauthorized The token")),
        of_node("simple-git", "simple.mjs", GIT_SAYS),
        Client(
            "go-git", [str(target / "go/gogit")], says("authentication required"), install=[go],
            debian=["golang-go", "golang-github-go-git-go-git-dev"],
        ),
    ]
