#!/bin/sh
# Encoders beside Python onnxruntime on this machine: one thread each, in turns, medians of five.
# Needs ../shared beside the checkout and Python 3 with venv. Makes a virtual environment in runs/.
set -eu
cd "$(dirname "$0")/../.."
shared=../shared
[ -d "$shared/models" ] || { echo "skipped: $shared is absent (encoders and posters)" >&2; exit 0; }
venv=runs/encoder-venv
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet onnxruntime numpy pillow tokenizers
fi
cargo build --release --workspace --example encoder_throughput
set -- "$shared/models" "$shared/fixtures/encoders/minilm-sentences.txt" "$shared/data/movielens-small/posters" 100
log=runs/encoder-throughput.log
: > "$log"
for turn in 1 2 3 4 5; do
    OMP_NUM_THREADS=1 target/release/examples/encoder_throughput "$@" | tee -a "$log"
    OMP_NUM_THREADS=1 "$venv/bin/python" pipeline/benches/encoder_throughput.py "$@" | tee -a "$log"
done
echo "medians:"
for what in "tract sentences/s" "onnxruntime sentences/s" "tract images/s" "onnxruntime images/s"; do
    printf '%s ' "$what"
    grep "^$what " "$log" | sed 's/.* //' | sort -n | sed -n 3p
done
