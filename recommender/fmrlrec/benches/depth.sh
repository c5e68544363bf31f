#!/usr/bin/env bash
# What an exit after the first block is worth at each dim, on the sample: the committed demo configuration
# with and without it, and a cut whose second block works on 32 columns. Prints the tables of `evaluate`.
#
#   recommender/fmrlrec/benches/depth.sh [EPOCHS=8]
#
# Bundles go to runs/depth under the SHA-256 of their configurations; what is there is not made again, and an
# interrupted training goes on from its checkpoint. Two trainings of a few minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
epochs="${1:-8}"
out="runs/depth/$epochs-epochs"
source recommender/fmrlrec/benches/train_once.sh
mkdir -p "$out"
[[ -f "$out/snapshot/manifest.json" ]] ||
    "$program" build --config pipeline/sample/movielens-small/build.toml --output "$out/snapshot" >&2
for name in plain exit; do
    sed -e "s/^epochs = .*/epochs = $epochs/" recommender/fmrlrec/configs/demo.toml >"$out/$name.toml"
done
sed -i '/^distillation = /a\\n[[objective.exits]]\ndepth = 1\ndim = 128\nweight = 0.5' "$out/exit.toml"
declare -A bundles
for name in plain exit; do
    bundles[$name]="$(bundle_of "$out/$name.toml" "$out/$name")"
    train_once "$out/$name.toml" "$out/snapshot" "${bundles[$name]}" >&2
done
# evaluate LABEL NAME [ARGUMENT...]
evaluate() {
    local label="$1" bundle="${bundles[$2]}"
    shift 2
    printf '\n%s\n' "$label"
    "$program" evaluate --bundle "$bundle" --snapshot "$out/snapshot" --output "$out/report" "$@"
}
evaluate "trained without an exit" plain
evaluate "trained without an exit, cut after block 1" plain --block-dims 128,0
evaluate "trained with an exit" exit
evaluate "trained with an exit, block 2 on 32 columns" exit --block-dims 128,32
