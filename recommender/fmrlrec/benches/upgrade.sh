#!/usr/bin/env bash
# What an upgrade that stays compatible is worth, on the sample: an old model (seed 7), a new one of another
# seed trained by itself, and a new one trained to fit the old item vectors too. Prints NDCG@10 of whose
# users against whose items at each dim, as Markdown.
#
#   recommender/fmrlrec/benches/upgrade.sh [EPOCHS=14]
#
# Bundles go to runs/upgrade under the SHA-256 of their configurations; what is there is not made again, and an
# interrupted training goes on from its checkpoint. Three trainings of a few minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
epochs="${1:-14}"
out="runs/upgrade/$epochs-epochs"
source recommender/fmrlrec/benches/train_once.sh
mkdir -p "$out"
[[ -f "$out/snapshot/manifest.json" ]] ||
    "$program" build --config pipeline/sample/movielens-small/build.toml --output "$out/snapshot" >&2
declare -A bundles
# train NAME SEED COMPATIBILITY [ARGUMENT...]
train() {
    local name="$1" seed="$2" compatibility="$3" config="$out/$1.toml"
    shift 3
    sed -e "s/^epochs = .*/epochs = $epochs/; s/^seed = .*/seed = $seed/" recommender/fmrlrec/configs/demo.toml >"$config"
    printf '%s' "$compatibility" >>"$config"
    bundles[$name]="$(bundle_of "$config" "$out/$name")"
    train_once "$config" "$out/snapshot" "${bundles[$name]}" "$@" >&2
}
train old 7 ''
train new 8 ''
train compatible 8 $'\n[compatibility]\nweight = 1.0\n' --compatible-with "${bundles[old]}"
for name in new compatible; do
    "$program" evaluate --bundle "${bundles[$name]}" --snapshot "$out/snapshot" --against "${bundles[old]}" \
        --output "$out/$name-old" >&2
done
python3 - "${bundles[old]}" "${bundles[new]}" "$out/new-old" "${bundles[compatible]}" "$out/compatible-old" <<'PYTHON'
import json, pathlib, sys

rows = ["old users, old items", "new users, new items", "new users, old items", "compatible users, their own items",
        "compatible users, old items"]
reports = [(name, json.loads(pathlib.Path(folder, "report.json").read_text())["dims"])
           for name, folder in zip(rows, sys.argv[1:])]
print("| NDCG@10 | " + " | ".join(f"dim {quality['dim']}" for quality in reports[0][1]) + " |")
print("|---" * (len(reports[0][1]) + 1) + "|")
for name, dims in reports:
    print(f"| {name} | " + " | ".join(f"{quality['metrics']['ndcg@10']:.4f}" for quality in dims) + " |")
PYTHON
