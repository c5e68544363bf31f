#!/bin/sh
# Exact top-k beside faiss-cpu, NumPy and usearch: same data, same machine, in turns. Prints Markdown.
#
#   sh recommender/retrieval/benches/peers.sh [--rows N,N | --bundle DIR] [--turns N] [--threads 1,2]
#
# Needs cargo, python3 with venv, and PyPI (once: the environment is kept under target/).
set -eu
cd "$(dirname "$0")/../../.."
target="${CARGO_TARGET_DIR:-target}"
environment="$target/retrieval-peers"
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet faiss-cpu==1.15.1 usearch==2.26.6 numpy==2.4.6
fi
cargo build --release --quiet -p retrieval --example peers
exec "$environment/bin/python" recommender/retrieval/benches/peers.py \
    --ours "$target/release/examples/peers" --data "$environment/data" "$@"
