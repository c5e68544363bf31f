"""Exact top-k beside its peers, in turns (see peers.sh).

Every engine gets the same vectors: peers a contiguous copy of the prefix, which is their best case; ours one
table for all dims. A turn times each engine once, so that a noisy neighbour meets all of them. Every
engine's result for every query is checked against scores computed in float64.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

K = 10
PAUSE_S = 0.3
DIMS = [8, 16, 32, 64, 128, 256, 512, 1024]


class Ours:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"our program ended at: {' '.join(map(str, words))}")
        return json.loads(line)

    def run(self, dim, batch, threads):
        self.ask("run", dim, batch, threads, K, 1)  # Warms threads and caches, as `timed` does for peers.
        answer = self.ask("run", dim, batch, threads, K, 1)
        return answer["cpu_ms" if threads == 1 else "ms"], answer["ids"]


def timed(queries, batch, search, threads):
    """Milliseconds a batch, and ids from 1."""
    # One thread: CPU time, so that a process that waits for its core is not charged for it.
    clock = time.process_time if threads == 1 else time.perf_counter
    times, ids = [], []
    search(queries[:batch])  # Warms threads and caches after the pause.
    for start in range(0, len(queries) - batch + 1, batch):
        begin = clock()
        found = search(queries[start : start + batch])
        times.append((clock() - begin) * 1e3)
        ids.extend((found + 1).tolist())
    return times, ids


def peers(table, threads):
    """Name -> search function [q, dim] -> ids [q, K] from 0."""
    import faiss
    import numpy as np
    import usearch.index

    faiss.omp_set_num_threads(threads)
    flat = faiss.IndexFlatIP(table.shape[1])
    flat.add(table)

    def with_faiss(queries):
        # The default threshold is 20 queries; at small batches it is several times slower.
        faiss.cvar.distance_compute_blas_threshold = 1 if len(queries) > 1 else 20
        return flat.search(queries, K)[1]

    def with_numpy(queries):
        scores = table @ queries[0] if len(queries) == 1 else queries @ table.T
        scores = scores.reshape(len(queries), -1)
        best = np.argpartition(scores, -K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        return np.take_along_axis(best, order, 1)

    def with_usearch(queries):
        matches = usearch.index.search(table, queries, K, usearch.index.MetricKind.IP, exact=True, threads=threads)
        return np.asarray(matches.keys, dtype=np.int64).reshape(len(queries), K)

    return {"faiss": with_faiss, "NumPy": with_numpy, "usearch": with_usearch}


def check(name, ids, truth, best):
    """Every id's true score is that of its place, up to rounding: so ties may come in any order."""
    import numpy as np

    ids = np.asarray(ids)
    if len({*map(len, ids)}) != 1 or ids.shape[1] != K or any(len(set(row)) != K for row in ids):
        sys.exit(f"{name} did not return {K} different ids for every query")
    got = np.take_along_axis(truth[: len(ids)], ids - 1, 1)
    worst = float(np.abs(got - best[: len(ids)]).max())
    if worst > 1e-3:
        sys.exit(f"{name} returned an item whose score is off by {worst}")


def cases(rows, dims):
    if rows > 500_000:
        return [(1024, 1), (64, 1), (64, 32)]
    return [(dim, batch) for batch in (1, 32, 256) for dim in (16, 64, 256, 1024) if dim in dims]


def normals(rows):
    """Vectors of a synthetic table [rows, 1024] and 256 queries."""
    import numpy as np

    generator = np.random.default_rng(7)
    shape = lambda count: generator.standard_normal((count, DIMS[-1]), dtype=np.float32)
    return shape(rows), shape(256), DIMS


def trained(folder):
    """A Bundle's item table, 256 of its own vectors as queries, and its dims."""
    import numpy as np

    with open(os.path.join(folder, "item_table.safetensors"), "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        tensor, data = header["features"], file.read()
        start, end = tensor["data_offsets"]
        kind = {"F32": np.float32, "F16": np.float16}[tensor["dtype"]]
        table = np.frombuffer(data[start:end], kind).reshape(tensor["shape"]).astype(np.float32)[1:]
    with open(os.path.join(folder, "config.json")) as file:
        dims = json.load(file)["train"]["model"]["nesting_dims"]
    places = np.random.default_rng(7).choice(len(table), 256, replace=False)
    return np.ascontiguousarray(table), table[places], dims


def measure(options, vectors, threads):
    import numpy as np

    table, queries, dims = vectors
    rows = len(table)
    os.makedirs(options.data, exist_ok=True)
    table_file, query_file = (os.path.join(options.data, name) for name in (f"table-{rows}.f32", "queries.f32"))
    with open(table_file, "wb") as file:
        np.zeros(dims[-1], np.float32).tofile(file)
        table.tofile(file)
    queries.tofile(query_file)
    ours = Ours(options.ours)
    ours.ask("table", table_file, rows + 1, ",".join(map(str, dims)))
    os.remove(table_file)
    for dim, batch in cases(rows, dims):
        # Few single queries of a large table; all 256 where they are quick.
        count = 256 if batch == 256 else 64 if batch == 32 else 32
        ours_queries, prefix = np.ascontiguousarray(queries[:count, :dim]), np.ascontiguousarray(table[:, :dim])
        ours_queries.tofile(query_file)
        ours.ask("queries", query_file, count, dim)
        truth = np.concatenate([ours_queries.astype(np.float64) @ part.astype(np.float64).T
                                for part in np.array_split(prefix, max(1, rows // 50_000))], axis=1)
        best = -np.sort(-np.partition(truth, -K, axis=1)[:, -K:], axis=1)
        engines = peers(prefix, threads)
        medians = {"ours": []} | {name: [] for name in engines}
        for turn in range(options.turns):
            for name in medians:
                if name == "usearch" and batch > 1 and turn > 0:
                    continue  # Many times slower in batches: one turn shows it.
                # OpenMP's workers go on spinning for a while: the next engine must not pay for that.
                time.sleep(PAUSE_S)
                if name == "ours":
                    times, ids = ours.run(dim, batch, threads)
                else:
                    times, ids = timed(ours_queries, batch, engines[name], threads)
                check(name, ids, truth, best)
                medians[name].append(statistics.median(times))
        report(rows, dim, batch, threads, medians)
        del truth, engines, prefix


def report(rows, dim, batch, threads, medians):
    mid = {name: statistics.median(values) for name, values in medians.items()}
    ours, spread = mid["ours"], (min(medians["ours"]), max(medians["ours"]))
    rate = f"{rows * dim * 4 / ours / 1e6:.0f} GB/s" if batch == 1 else f"{2 * rows * dim * batch / ours / 1e6:.0f} GFLOP/s"
    others = " | ".join(f"{mid[name]:.3g} ({mid[name] / ours:.1f}x)" for name in ("faiss", "NumPy", "usearch"))
    print(f"| {rows // 1000}k x {dim} | {batch} | {threads} | **{ours:.3g}** | {spread[0]:.3g} to {spread[1]:.3g} | {rate} | {others} |",
          flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rows", default="12000,100000", help="sizes of the synthetic tables; 1000000 needs 14 GiB")
    parser.add_argument("--bundle", help="folder of a Bundle: its trained item table instead of synthetic ones")
    parser.add_argument("--inner", type=int, help="used by itself: one number of threads a process")
    options = parser.parse_args()
    if options.inner:
        if options.bundle:
            measure(options, trained(options.bundle), options.inner)
            return
        for rows in options.rows.split(","):
            measure(options, normals(int(rows)), options.inner)
        return
    print(f"Load average before: {os.getloadavg()[0]:.1f}. Milliseconds per call (one thread: CPU time), medians of {options.turns} rounds; in brackets times ours; k = {K}.\n")
    print("| items x dim | queries per call | threads | ours | least to most | our rate | faiss flat | NumPy | usearch exact |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for threads in options.threads.split(","):
        limit = {name: threads for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}
        subprocess.run([sys.executable, *sys.argv, "--inner", threads], env=os.environ | limit, check=True)
    print(f"\nLoad average after: {os.getloadavg()[0]:.1f}. Every result of every query was checked.")


main()
