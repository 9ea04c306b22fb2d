"""Runs the clients' stories against one server: `matrix.py SLUICE FOLDER [CLIENT…]`.

Prints a line for each client, then `N passed, N failed` (steps). A client that cannot be
installed has failed.
"""

import concurrent.futures
import os
import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import extras  # noqa: E402
import install  # noqa: E402
from clients import clients  # noqa: E402
from server import Server, sign_in  # noqa: E402
from story import Failed, Story  # noqa: E402

STEPS = [
    "create", "clone", "update", "fetch", "tag", "force", "delete", "clone_again",
    "wrong", "expired", "deleted",
]


def tell(client, server, token, folder, debian):
    """Runs all steps of a client. Returns (its line, steps passed, transcript if failed).
    `debian` is what went wrong with Debian's packages, if anything did."""
    if missing := install.missing(client.debian):
        return f"FAIL {client.name}: {', '.join(missing)} cannot be installed: {debian}", 0, ""
    for step in client.install:
        if reason := step():
            return f"FAIL {client.name}: cannot be installed: {reason}", 0, ""
    begun, passed = time.monotonic(), []
    story = Story(client, server, token, folder / client.name)
    step = "version"
    try:
        version = " ".join(story.drive("version").split())
        # What goes on with the upload comes before the last step, which deletes it.
        for step in [*STEPS[:-1], *client.extra, STEPS[-1]]:
            if step in client.without:
                continue
            if step in client.extra:
                getattr(extras, step)(story)
            else:
                getattr(story, step)()
            passed.append(step)
    except Exception as error:
        if not isinstance(error, Failed):
            error = f"{type(error).__name__}: {error}"
        line = f"FAIL {client.name}: {step}: {error}"
        return line, len(passed), "".join(story.transcript[-8:])
    took = time.monotonic() - begun
    without = "".join(f"; no {step}: {why}" for step, why in client.without.items())
    line = f"ok   {client.name} ({version}): {' '.join(passed)}{without} ({took:.1f} s)"
    return line, len(passed), ""


def main():
    sluice, target = (pathlib.Path(path).absolute() for path in sys.argv[1:3])
    known = clients(target)
    names = sys.argv[3:] or [client.name for client in known]
    if unknown := set(names) - {client.name for client in known}:
        sys.exit(f"no such client: {', '.join(sorted(unknown))}; there are "
                 f"{', '.join(client.name for client in known)}")
    chosen = [client for client in known if client.name in names]
    # All at once, which is fastest; a client whose packages are not there says so itself.
    debian = install.debian([need for client in chosen for need in client.debian])
    passed = failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        with Server(str(sluice), folder, {}) as server:
            token = sign_in(server.base, "admin@localhost")
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                told = [pool.submit(tell, c, server, token, folder, debian) for c in chosen]
                for future in concurrent.futures.as_completed(told):
                    line, steps, transcript = future.result()
                    print(line, flush=True)
                    passed += steps
                    if line.startswith("FAIL"):
                        failed += 1
                        print(transcript, flush=True)
            if faults := server.faults():
                print("FAIL the server:", *faults[:20], sep="\n")
                failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())
