"""What was acknowledged, written down by those who were told.

A ref of a remote is pushed to by one client, one push at a time. So what it may be
afterwards is known: what the last acknowledged push made it, or what one of the tries
after that would have made it whose end nobody was told.
"""

import threading
from collections import Counter


class Remote:
    """One upload and the refs that were pushed to it. None: the ref is not there."""

    def __init__(self, made, folder, project):
        self.id, self.url = made["id"], made["push_url"]
        self.folder, self.project = folder, project
        self.allowed = {}
        self.acknowledged_pushes = 0
        self.unknown_pushes = 0
        self.expects_scan = False

    def acknowledged(self, ref, value):
        self.allowed[ref] = {value}

    def unknown(self, ref, value):
        self.allowed.setdefault(ref, {None}).add(value)

    def seen_absent(self, ref):
        """Git was shown that it is not there. Whether it may be absent."""
        fine = None in self.allowed.get(ref, {None})
        if fine:
            self.allowed[ref] = {None}
        return fine

    def refused(self, ref):
        self.allowed.setdefault(ref, {None})


class Ledger:
    """Everything that clients were told, of all of them."""

    def __init__(self):
        self.lock = threading.Lock()
        self.remotes, self.archives, self.scans = [], [], []
        # What clients saw that cannot be.
        self.lost = []
        self.counts = Counter()
        self.reasons = Counter()

    def count(self, what, more=1):
        with self.lock:
            self.counts[what] += more

    def reason(self, text):
        with self.lock:
            self.reasons[text] += 1

    def add(self, kind, thing):
        with self.lock:
            getattr(self, kind).append(thing)
