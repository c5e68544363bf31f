"""What adding an item costs, by the number of items added before: standard library only.

    python3 new_items.py http://127.0.0.1:8080 KEY [MOST]

The service must run with limits.added_items of at least MOST (10000), on a Bundle with features, and KEY
needs the scopes items and recommend. Prints Markdown: the time of one PUT while nobody else puts, and
items a second from 8 connections at once, whose changes share a layout of the vectors.
"""

import http.client
import json
import random
import statistics
import sys
import threading
import time
from urllib.parse import urlparse


class Service:
    """One connection."""

    def __init__(self, url, key):
        self.connection = http.client.HTTPConnection(urlparse(url).netloc, timeout=60)
        self.headers = {"content-type": "application/json", "x-api-key": key}

    def call(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body is not None else None, self.headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())


DRAW = random.Random(7)


def body(known):
    """Short vectors, so that no item is far longer than the trained ones."""
    vector = lambda width: [DRAW.uniform(-0.01, 0.01) for _ in range(width)]
    return {"features": {name: vector(width) for name, width in known.items()}}


def put(service, number, features):
    status, answer = service.call("PUT", f"/v1/items/bench-{number}", features)
    if status != 200:
        sys.exit(f"a PUT was answered {status}: {answer}")


def widths(service):
    """Feature names and widths, as the refusal of an unknown one lists them."""
    _, problem = service.call("PUT", "/v1/items/bench-probe", {"features": {"no-such-feature": [0.0]}})
    listed = problem["detail"].rsplit(": ", 1)[1]
    pairs = [part.strip().rstrip(")").split(" (") for part in listed.split(",")]
    return {name: int(width) for name, width in pairs}


def main():
    url, key = sys.argv[1], sys.argv[2]
    most = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
    service = Service(url, key)
    known = widths(service)
    print("| items before | PUT, median ms | spread of 30 | 8 connections, items/s |")
    print("|---|---|---|---|")
    added = 0
    for before in [0, 100, 1_000, most - 300]:
        bodies = [body(known) for _ in range(min(before - added, 200))]
        workers = [threading.Thread(target=fill, args=(url, key, bodies, added + at, before)) for at in range(8)]
        begun = time.perf_counter()
        for worker in workers if before > added else []:
            worker.start()
        for worker in workers if before > added else []:
            worker.join()
        rate = (before - added) / (time.perf_counter() - begun) if before > added else 0
        added = max(added, before)
        times = []
        # The one of before may have been closed for being idle.
        service = Service(url, key)
        for one in [body(known) for _ in range(30)]:
            begun = time.perf_counter()
            put(service, added, one)
            times.append((time.perf_counter() - begun) * 1e3)
            added += 1
        times.sort()
        shown = f"{rate:.0f}" if rate else "-"
        print(f"| {before} | {statistics.median(times):.1f} | {times[0]:.1f} to {times[-1]:.1f} | {shown} |", flush=True)


def fill(url, key, bodies, first, end):
    service = Service(url, key)
    for number in range(first, end, 8):
        put(service, number, bodies[number % len(bodies)])


if __name__ == "__main__":
    main()
