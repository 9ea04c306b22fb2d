"""dulwich, by its porcelain."""

import pathlib
import sys

import dulwich
from dulwich import porcelain
from dulwich.repo import Repo

import steps


class Dulwich:
    def version(self):
        print("dulwich", ".".join(str(part) for part in dulwich.__version__))

    def init(self, folder):
        porcelain.init(folder)
        Repo(folder).refs.set_symbolic_ref(b"HEAD", b"refs/heads/main")

    def commit(self, folder, message, amend=False):
        here = pathlib.Path(folder)
        paths = [
            str(path) for path in here.rglob("*")
            if (path.is_symlink() or path.is_file()) and ".git" not in path.relative_to(here).parts
        ]
        porcelain.add(folder, paths)
        porcelain.commit(folder, message=message.encode(), amend=amend)

    def rewrite(self, folder, message):
        self.commit(folder, message, amend=True)

    def branch(self, folder, name):
        porcelain.branch_create(folder, name)

    def tag(self, folder, name, message):
        porcelain.tag_create(folder, name, message=message.encode(), annotated=True)

    def push(self, folder, url, refspec):
        porcelain.push(
            folder, url, [refspec], outstream=sys.stdout.buffer, errstream=sys.stderr.buffer
        )

    def fetch(self, folder, url):
        porcelain.fetch(folder, "origin", errstream=sys.stderr.buffer)

    def clone(self, url, folder):
        porcelain.clone(url, folder, errstream=sys.stderr.buffer)


steps.run(Dulwich())
