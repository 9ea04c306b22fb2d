"""Many at once, and many refs: what one push after another does not show.

The client is [raw], not git, and the same for both servers.
"""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import raw
import repositories


def at_the_same_time(server, body, at_once, total):
    """Pushes `total` times, `at_once` at a time, each into a fresh remote. The seconds of
    each, and of all of them together."""
    remotes = [server.remote() for _ in range(total)]

    def one(remote):
        url, _ = remote
        start = time.perf_counter()
        client = raw.Remote(url)
        client.push(body)
        client.close()
        return time.perf_counter() - start

    with ThreadPoolExecutor(at_once) as pool:
        start = time.perf_counter()
        each = list(pool.map(one, remotes))
        whole = time.perf_counter() - start
    for url, forget in remotes:
        server.settle(url)
        forget()
    return each, whole


def tiny_pushes(bench, directory, at_once, rounds):
    """Prints pushes a second of both servers and the wait of the slowest in a hundred.
    Our server makes snapshots of what was pushed meanwhile, which the peer does not."""
    commit = bench.git(directory, "rev-parse", "main")
    body = raw.creations(commit, ["refs/heads/main"], raw.pack(bench.git, directory, "main"))
    total = at_once * 4
    rates = {bench.apache: [], bench.sluice: []}
    waits = {bench.apache: [], bench.sluice: []}
    cpu = 0.0
    for number in range(rounds):
        pair = (bench.apache, bench.sluice)
        for server in pair if number % 2 else reversed(pair):
            before = bench.sluice.cpu()
            each, whole = at_the_same_time(server, body, at_once, total)
            if server is bench.sluice:
                cpu += bench.sluice.cpu() - before
            rates[server].append(total / whole)
            waits[server] += each
    theirs, ours = (statistics.median(rates[s]) for s in (bench.apache, bench.sluice))
    last = {s: sorted(w)[int(len(w) * 0.99)] for s, w in waits.items()}
    print(
        f"crowd {at_once:3} {theirs:9.1f} {ours:9.1f} pushes/s  ratio {ours / theirs:5.2f}"
        f"   p99 {last[bench.apache] * 1e3:6.0f} {last[bench.sluice] * 1e3:6.0f} ms"
        f" {last[bench.sluice] / last[bench.apache]:5.2f}"
        f"   our cpu, remotes and snapshots included, {cpu / (rounds * total) * 1e3:.1f} ms a push",
        flush=True,
    )


def advertisement(bench, directory, rounds, count=100_000):
    """Prints what the advertisement of many refs costs both servers, read as fast as it
    comes."""
    repositories.tiny(bench.git, directory)
    commit = bench.git(directory, "rev-parse", "main")
    costs = {}
    for server in (bench.apache, bench.sluice):
        url, forget = server.remote(metered=True)
        client = raw.Remote(url)
        pack = raw.pack(bench.git, directory, "main")
        # A push may bring only so many.
        for first in range(0, count, 10_000):
            names = [f"refs/heads/topic/{n:06}" for n in range(first, first + 10_000)]
            client.push(raw.creations(commit, names, pack))
            pack = raw.EMPTY_PACK
        server.settle(url)
        if server is bench.apache:
            server.used()
        seconds = []
        before = bench.sluice.cpu()
        for _ in range(rounds):
            start = time.perf_counter()
            size = len(client.advertisement())
            seconds.append(time.perf_counter() - start)
        cpu = server.used()[0] if server is bench.apache else bench.sluice.cpu() - before
        costs[server] = (statistics.median(seconds), cpu / rounds / count, size)
        client.close()
        forget()
    (theirs, their_cpu, _), (ours, our_cpu, size) = (costs[s] for s in (bench.apache, bench.sluice))
    print(
        f"refs      {count:7} refs, {size / 1e6:.1f} MB"
        f" {theirs * 1e3:9.0f} {ours * 1e3:9.0f} ms  ratio {ours / theirs:5.2f}"
        f"   cpu a ref {their_cpu * 1e6:5.2f} {our_cpu * 1e6:5.2f} µs {our_cpu / their_cpu:5.2f}",
        flush=True,
    )
