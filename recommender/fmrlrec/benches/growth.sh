#!/usr/bin/env bash
# How the cost of a training step grows with items, with the length of sequences and with the largest
# dim: one Markdown table, one change a row from the middle case (12,101 items, 256 feature columns,
# dims 8..128, 32 users).
#
#   recommender/fmrlrec/benches/growth.sh [STEPS=3]
#
# Needs about 2.5 GiB for a million items. RAYON_NUM_THREADS sets the threads.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
steps="${1:-3}"
cargo build --release --workspace --examples --quiet
echo "| what grows | value | positions a step | CPU s a step | CPU µs a position | peak MiB |"
echo "|---|---|---|---|---|---|"
row() {
    local what="$1" value="$2"
    shift 2
    target/release/examples/training_cost features=256 steps="$steps" "$@" | python3 -c "
import json, sys
row = json.load(sys.stdin)
positions, cpu = row['positions_a_step'], row['cpu_s']
print(f'| $what | $value | {positions} | {cpu:.3f} | {1e6 * cpu / positions:.0f} | {row[\"peak_mib\"]} |')"
}
for items in 10000 30000 100000 300000 1000000; do row items "$items" items="$items"; done
# The catalogue is small here, so that the recurrence and the layers are what is seen.
for length in 50 200 500 1000 2000; do
    row "sequence length, 1,000 items" "$length" items=1000 max_len="$length" mean_len=100000 users=8
done
for dims in 8,16,32,64,128 8,16,32,64,128,256,512 8,16,32,64,128,256,512,1024 8,16,32,64,128,256,512,1024,2048; do
    row "largest dim" "${dims##*,}" dims="$dims"
done
