"""libgit2, by pygit2."""

import pygit2

import steps


class Refused(pygit2.RemoteCallbacks):
    """libgit2 tells of each ref apart and calls a push a success all the same."""

    def push_update_reference(self, refname, message):
        if message is not None:
            raise RuntimeError(f"{refname}: {message}")

    def sideband_progress(self, text):
        print(text, end="")


class Pygit2:
    def version(self):
        print("pygit2", pygit2.__version__, "libgit2", pygit2.LIBGIT2_VERSION)

    def init(self, folder):
        pygit2.init_repository(folder, initial_head="main")

    def commit(self, folder, message):
        repo = pygit2.Repository(folder)
        parents = [] if repo.head_is_unborn else [repo.head.target]
        self._commit(repo, message, "refs/heads/main", parents)

    def rewrite(self, folder, message):
        repo = pygit2.Repository(folder)
        made = self._commit(repo, message, None, repo.head.peel(pygit2.Commit).parent_ids)
        repo.references["refs/heads/main"].set_target(made)

    def _commit(self, repo, message, ref, parents):
        repo.index.add_all()
        repo.index.write()
        by = repo.default_signature
        return repo.create_commit(ref, by, by, message, repo.index.write_tree(), parents)

    def branch(self, folder, name):
        repo = pygit2.Repository(folder)
        repo.branches.local.create(name, repo.head.peel(pygit2.Commit))

    def tag(self, folder, name, message):
        repo = pygit2.Repository(folder)
        of = repo.head.target
        repo.create_tag(name, of, pygit2.enums.ObjectType.COMMIT, repo.default_signature, message)

    def push(self, folder, url, refspec):
        source = refspec.lstrip("+")
        full = refspec if ":" in refspec else f"{refspec}:{source}"
        remote = pygit2.Repository(folder).remotes.create_anonymous(url)
        remote.push([full], callbacks=Refused())

    def fetch(self, folder, url):
        pygit2.Repository(folder).remotes["origin"].fetch(callbacks=Refused())

    def clone(self, url, folder):
        pygit2.clone_repository(url, folder, callbacks=Refused())


steps.run(Pygit2())
