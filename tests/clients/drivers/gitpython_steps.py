"""GitPython: runs git, and reads what it prints."""

import git

import steps


class GitPython:
    def version(self):
        print("GitPython", git.__version__)

    def init(self, folder):
        git.Repo.init(folder, initial_branch="main")

    def commit(self, folder, message):
        repo = git.Repo(folder)
        repo.git.add(all=True)
        repo.index.commit(message)

    def rewrite(self, folder, message):
        repo = git.Repo(folder)
        repo.git.add(all=True)
        repo.git.commit("--amend", "-m", message)

    def branch(self, folder, name):
        git.Repo(folder).create_head(name)

    def tag(self, folder, name, message):
        git.Repo(folder).create_tag(name, message=message)

    def push(self, folder, url, refspec):
        remote = git.Remote.create(git.Repo(folder), "there", url)
        # Of what the server says, the exception has nothing: it went to the progress.
        progress = git.RemoteProgress()
        try:
            # Errors are kept in the answer unless one asks for them.
            done = remote.push(refspec, progress=progress)
            done.raise_if_error()
            for one in done:
                if one.flags & (one.REJECTED | one.REMOTE_REJECTED | one.ERROR):
                    raise RuntimeError(one.summary)
        finally:
            print("\n".join(progress.other_lines))
            git.Remote.remove(git.Repo(folder), "there")

    def fetch(self, folder, url):
        git.Repo(folder).remotes.origin.fetch()

    def clone(self, url, folder):
        git.Repo.clone_from(url, folder)


steps.run(GitPython())
