"""The table of gpu_cost.sh.

usage: gpu_table.py RESULTS [PEAK_TFLOPS]    (a JSON line per run)
"""

import collections
import json
import statistics
import sys

FEATURES, EPOCH_STEPS = 2048, 700

groups = collections.defaultdict(list)
for line in open(sys.argv[1]):
    run = json.loads(line)
    groups[(run["dims"][-1], run["implementation"])].append(run)
peak = float(sys.argv[2]) * 1e12 if len(sys.argv) > 2 and sys.argv[2] else None
print("| dims | implementation | ms per step (min to max) | s per epoch | times ours | of the peak, at most |")
print("|---|---|---|---|---|---|")
for (dim, name), runs in groups.items():
    seconds = [run["wall_s"] for run in runs]
    middle = statistics.median(seconds)
    ours = statistics.median(run["wall_s"] for run in groups[(dim, "this repository")])
    items, positions = runs[0]["items"], runs[0]["positions_a_step"]
    operations = 4 * items * FEATURES * dim + 8 * positions * items * dim
    share = f"{operations / middle / peak:.1%}" if peak and name == "this repository" else ""
    print(f"| 8..{dim} | {name} | {1e3 * middle:.2f} ({1e3 * min(seconds):.2f} to {1e3 * max(seconds):.2f}) "
          f"| {EPOCH_STEPS * middle:.1f} | {middle / ours:.2f} | {share} |")
