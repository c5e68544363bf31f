#!/usr/bin/env bash
# What each option of training is worth at each dim: Amazon Beauty at dims 16, 64, 128, what a row's name says changed from
# the base (the committed configuration with equal weights, dropout .3, weight decay .01 and one softmax temperature), and
# models of one dim trained alone. Rows named committed-... change the committed configuration itself. Prints one Markdown
# table.
#
#   recommender/fmrlrec/benches/ablation.sh [EPOCHS=6] [SEED=7] [ROW...]
#
# Needs ../shared/data/amazon-2014. Snapshot and Bundles go to runs, Bundles under the SHA-256 of their
# configurations; what is there is not made again, and an interrupted training goes on from its checkpoint. Two
# trainings run side by side, one thread each; one takes about 7 minutes of a core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
epochs="${1:-6}" seed="${2:-7}"
snapshot=runs/amazon/beauty-snapshot out="runs/ablation/$epochs-epochs-seed-$seed"
source recommender/fmrlrec/benches/train_once.sh
mkdir -p "$out"
[[ -f "$snapshot/manifest.json" ]] || "$program" build --config pipeline/configs/amazon-beauty.toml --output "$snapshot"

# train NAME SED...: a run whose configuration is the base changed by sed.
train() {
    local name="$1" config="$out/$1.toml"
    shift
    # Rows of one table stay comparable when the committed configuration changes.
    local base=(-e 's/^dropout = .*/dropout = 0.3/' -e 's/^weight_decay = .*/weight_decay = 0.01/'
        -e 's/^scaled_logits = .*/scaled_logits = false/')
    [[ "$name" != committed-* ]] || base=()
    sed -e "s/^epochs = .*/epochs = $epochs/; s/^seed = .*/seed = $seed/" "${base[@]}" \
        -e 's/^nesting_dims = .*/nesting_dims = [16, 64, 128]/' \
        -e 's/^dim_weights = .*/dim_weights = [1.0, 1.0, 1.0]/' "$@" \
        recommender/fmrlrec/configs/amazon-beauty.toml >"$config"
    RAYON_NUM_THREADS=1 train_once "$config" "$snapshot" "$(bundle_of "$config" "$out/$name")" >"$out/$name.log" 2>&1 ||
        { tail -n 3 "$out/$name.log" >&2; return 1; }
}
# alone NAME DIM SED...: a model of this one dim.
alone() { train "$1" -e "s/^nesting_dims = .*/nesting_dims = [$2]/" -e 's/^dim_weights = .*/dim_weights = [1.0]/' "${@:3}"; }

# run NAME: one row of the table.
run() {
    case "$1" in
        base) train "$1" -e '' ;;
        alone-*) alone "$1" "${1#alone-}" ;;
        # Rows of the committed weight decay and temperatures, to be compared with one another.
        committed-dropout-0.3) train "$1" -e 's/^dropout = .*/dropout = 0.3/' ;;
        committed-dropout-by-slice) train "$1" -e 's/^dropout = .*/dropout = [0.0, 0.1, 0.3]/' ;;
        committed-dropout-and-weights) train "$1" -e 's/^dropout = .*/dropout = [0.0, 0.1, 0.3]/' \
            -e 's/^dim_weights = .*/dim_weights = [4.0, 2.0, 1.0]/' ;;
        # To be compared with the committed run of all dims.
        committed-alone-*-dropout-*)
            local dim="${1#committed-alone-}"
            alone "$1" "${dim%%-*}" -e "s/^dropout = .*/dropout = ${1##*-}/"
            ;;
        no-vector-norm) train "$1" -e 's/^vector_norm = .*/vector_norm = false/' ;;
        principal-start) train "$1" -e 's/"whitened"/"principal"/' ;;
        normal-start) train "$1" -e 's/"whitened"/"normal"/' ;;
        no-item-embedding) train "$1" -e 's/^item_embedding = .*/item_embedding = false/' ;;
        weight-decay-0.9) train "$1" -e 's/^weight_decay = .*/weight_decay = 0.9/' ;;
        dropout-0.5) train "$1" -e 's/^dropout = .*/dropout = 0.5/' ;;
        distillation-0.3) train "$1" -e 's/^distillation = .*/distillation = 0.3/' ;;
        scaled-logits) train "$1" -e 's/^scaled_logits = .*/scaled_logits = true/' ;;
        scaled-logits-and-weights) train "$1" -e 's/^scaled_logits = .*/scaled_logits = true/' \
            -e 's/^dim_weights = .*/dim_weights = [3.0, 2.0, 1.0]/' ;;
        small-dims-weigh-more) train "$1" -e 's/^dim_weights = .*/dim_weights = [3.0, 2.0, 1.0]/' ;;
        neither) train "$1" -e 's/^vector_norm = .*/vector_norm = false/' -e 's/"whitened"/"principal"/' ;;
        exit-after-block-1) train "$1" -e '/^distillation = /a\\n[[objective.exits]]\ndepth = 1\ndim = 128\nweight = 0.5' ;;
        *) echo "$1 is no row of this bench" >&2; return 2 ;;
    esac
}

names=("${@:3}")
[[ ${#names[@]} -gt 0 ]] || names=(base alone-64 scaled-logits no-vector-norm principal-start neither no-item-embedding alone-16
    small-dims-weigh-more scaled-logits-and-weights dropout-0.5 weight-decay-0.9 distillation-0.3 normal-start
    exit-after-block-1 committed-dropout-0.3 committed-dropout-by-slice committed-dropout-and-weights)
# Through xargs, so that Ctrl-C reaches both trainings; each then leaves a checkpoint.
export -f bundle_of train_once train alone run
export out snapshot program epochs seed
printf '%s\n' "${names[@]}" | xargs -P 2 -I {} bash -euo pipefail -c 'run {}'
rows=()
for name in "${names[@]}"; do rows+=("$name=$(bundle_of "$out/$name.toml" "$out/$name")"); done
python3 recommender/fmrlrec/benches/ablation_table.py "${rows[@]}"
