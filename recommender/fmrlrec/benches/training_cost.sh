#!/usr/bin/env bash
# Seconds and memory of a training step at the paper's shapes (batch 32, 50 positions, 12,101 items,
# 2,048 feature columns, one block), beside PyTorch on the same machine: implementations in turns,
# TURNS rounds, medians and ratios as a Markdown table.
#
#   recommender/fmrlrec/benches/training_cost.sh [TURNS=3] [STEPS=5]
#
# Needs Python 3 with venv; installs PyTorch from PyPI into target/bench-python. That may be a wheel for CUDA,
# which brings gigabytes and runs on the CPU here all the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
turns="${1:-3}" steps="${2:-5}"
venv=target/bench-python
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check torch numpy
fi
cargo build --release --workspace --examples --quiet
results="$(mktemp)"
trap 'rm -f "$results"' EXIT
for dims in 8,16,32,64,128 8,16,32,64,128,256 8,16,32,64,128,256,512,1024; do
    for _ in $(seq "$turns"); do
        RAYON_NUM_THREADS=1 target/release/examples/training_cost dims="$dims" steps="$steps" >>"$results"
        RAYON_NUM_THREADS=2 target/release/examples/training_cost dims="$dims" steps="$steps" |
            sed 's/this repository/this repository, 2 threads/' >>"$results"
        for variant in prefix padded; do
            "$venv/bin/python" recommender/fmrlrec/benches/training_cost.py "$variant" dims="$dims" \
                steps="$steps" threads=1 >>"$results"
        done
    done
done
# The configuration of Amazon Beauty, which has no peer: a learned vector for each item, norms, two blocks.
beauty=(dims=8,16,32,64,128,256 features=384 blocks=2 users=142 embedding=1 norm=1 dropout=0.3)
for _ in $(seq "$turns"); do
    for threads in 1 2; do
        RAYON_NUM_THREADS=$threads target/release/examples/training_cost "${beauty[@]}" steps="$steps" |
            sed "s/this repository/this repository, as on Beauty, threads: $threads/" >>"$results"
    done
done
"$venv/bin/python" - "$results" <<'PYTHON'
import collections, json, statistics, sys
groups = collections.defaultdict(list)
for line in open(sys.argv[1]):
    row = json.loads(line)
    groups[(row["dims"][-1], row["implementation"])].append(row)
print("| dims | implementation | positions a step | CPU s a step (min to max) | wall s | peak MiB | CPU, times ours "
      "| wall, times ours | evaluated users/s |")
print("|---|---|---|---|---|---|---|---|---|")
for (dim, name), rows in groups.items():
    middle = lambda key, rows=rows: statistics.median(row[key] for row in rows)
    cpu = [row["cpu_s"] for row in rows]
    ours = {key: statistics.median(row[key] for row in groups[(dim, "this repository")]) for key in ("cpu_s", "wall_s")}
    evaluated = f"{middle('evaluated_a_second'):.0f}" if "evaluated_a_second" in rows[0] else ""
    print(f"| 8..{dim} | {name} | {rows[0]['positions_a_step']} | {middle('cpu_s'):.2f} ({min(cpu):.2f} to {max(cpu):.2f}) "
          f"| {middle('wall_s'):.2f} | {middle('peak_mib'):.0f} | {middle('cpu_s') / ours['cpu_s']:.1f} "
          f"| {middle('wall_s') / ours['wall_s']:.2f} | {evaluated} |")
PYTHON
