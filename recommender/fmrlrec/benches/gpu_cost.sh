#!/usr/bin/env bash
# Milliseconds of a training step on a GPU at the paper's shapes (batch 32, 50 positions, 12,101 items, 2,048 feature
# columns, one block), compared with PyTorch on the same card: implementations interleaved, TURNS rounds, medians and
# ratios as a Markdown table.
#
#   [DEVICE=cuda] [PEAK_TFLOPS=P] recommender/fmrlrec/benches/gpu_cost.sh [TURNS=5] [STEPS=50]
#
# An epoch is 700 steps, as on Amazon Beauty. With PEAK_TFLOPS, the card's peak from its data sheet, the table has the
# share of it that the products of a step make up: 4 n f D to project the n items and 8 p n D to score p positions. It is
# an upper bound where wide slices are scored without their table columns, which takes fewer. Both sides may use TF32.
# Needs what training on the device needs (README of this crate), and Python 3 with venv; PyTorch comes from PyPI.
# DEVICE=wgpu times this repository alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
turns="${1:-5}" steps="${2:-50}" device="${DEVICE:-cuda}"
venv=target/bench-python
cargo build --release -p fmrlrec --features "$device" --example training_cost --quiet
if [[ "$device" == cuda ]] && ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check torch numpy
fi
results="$(mktemp)"
trap 'rm -f "$results"' EXIT
for dims in 8,16,32,64,128 8,16,32,64,128,256 8,16,32,64,128,256,512,1024; do
    for _ in $(seq "$turns"); do
        target/release/examples/training_cost device="$device" dims="$dims" steps="$steps" >>"$results"
        [[ "$device" == cuda ]] || continue
        for variant in prefix padded; do
            "$venv/bin/python" recommender/fmrlrec/benches/training_cost.py "$variant" device=cuda dims="$dims" \
                steps="$steps" >>"$results"
        done
    done
done
python3 recommender/fmrlrec/benches/gpu_table.py "$results" "${PEAK_TFLOPS:-}"
