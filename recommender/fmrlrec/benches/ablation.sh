#!/usr/bin/env bash
# What each option of training is worth at each dim: Amazon Beauty at dims 8..128, one change a run from
# the committed configuration, and models of one dim trained alone. Prints one Markdown table.
#
#   recommender/fmrlrec/benches/ablation.sh [EPOCHS=6] [SEED=7]
#
# Needs ../shared/data/amazon-2014. Snapshot and Bundles go to runs; what is there is not made again, and
# an interrupted training goes on from its checkpoint. A run takes 4 to 12 minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
epochs="${1:-6}" seed="${2:-7}"
program="${RECOMMENDER_PROGRAM:-target/release/recommender}"
snapshot=runs/amazon/beauty-snapshot out="runs/ablation/$epochs-epochs-seed-$seed"
[[ -n "${RECOMMENDER_PROGRAM:-}" ]] || cargo build --release --quiet
mkdir -p "$out"
[[ -f "$snapshot/manifest.json" ]] || "$program" build --config pipeline/configs/amazon-beauty.toml --output "$snapshot"

# train NAME SED...: a run whose configuration is the committed one changed by sed.
train() {
    local name="$1" config="$out/$1.toml" resume=()
    shift
    sed -e "s/^epochs = .*/epochs = $epochs/; s/^seed = .*/seed = $seed/" \
        -e 's/^nesting_dims = .*/nesting_dims = [8, 16, 32, 64, 128]/' \
        -e 's/^dim_weights = .*/dim_weights = [1.0, 1.0, 1.0, 1.0, 1.0]/' "$@" \
        recommender/fmrlrec/configs/amazon-beauty.toml >"$config"
    [[ ! -f "$out/$name/bundle.json" ]] || return 0
    [[ ! -f "$out/$name.checkpoint.safetensors" ]] || resume=(--resume)
    "$program" train --config "$config" --snapshot "$snapshot" --output "$out/$name" "${resume[@]}" >&2
}
# alone DIM: a model of this one dim.
alone() { train "alone-$1" -e "s/^nesting_dims = .*/nesting_dims = [$1]/" -e 's/^dim_weights = .*/dim_weights = [1.0]/'; }

train base -e ''
alone 64
alone 16
train normal-start -e 's/"principal"/"normal"/'
train distillation-0.3 -e 's/^distillation = .*/distillation = 0.3/'
train no-item-embedding -e 's/^item_embedding = .*/item_embedding = false/'
train small-dims-weigh-more -e 's/^dim_weights = .*/dim_weights = [3.0, 2.5, 2.0, 1.5, 1.0]/'
train exit-after-block-1 -e '/^distillation = /a\\n[[objective.exits]]\ndepth = 1\ndim = 128\nweight = 0.5'
python3 recommender/fmrlrec/benches/ablation_table.py "$out" base alone-64 alone-16 normal-start \
    distillation-0.3 no-item-embedding small-dims-weigh-more exit-after-block-1
