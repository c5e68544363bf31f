#!/usr/bin/env bash
# The paper's protocol on the Amazon 2014 sets: build, train, evaluate (leave-one-out, full ranking,
# seen items not removed), then the published figures and ours side by side as Markdown tables.
#
#   recommender/fmrlrec/benches/amazon.sh [NAME...]      NAME: beauty toys sports clothing; all by default
#
# Needs ../shared/data/amazon-2014. Snapshots and Bundles go to runs/amazon, a Bundle under the name of its set
# and of its configuration's SHA-256: what is there is not made again, what was made of another configuration is
# not taken for it, and an interrupted training goes on from its checkpoint. A set takes half an hour to two hours
# on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
names=("$@")
[[ ${#names[@]} -gt 0 ]] || names=(beauty toys sports clothing)
out=runs/amazon
source recommender/fmrlrec/benches/train_once.sh
mkdir -p "$out"
bundles=()
for name in "${names[@]}"; do
    config="recommender/fmrlrec/configs/amazon-$name.toml"
    snapshot="$out/$name-snapshot" bundle="$(bundle_of "$config" "$out/$name")"
    bundles+=("$name=$bundle")
    [[ -f "$snapshot/manifest.json" ]] || "$program" build --config "pipeline/configs/amazon-$name.toml" --output "$snapshot"
    train_once "$config" "$snapshot" "$bundle"
done
python3 recommender/fmrlrec/benches/amazon_tables.py "${bundles[@]}"
