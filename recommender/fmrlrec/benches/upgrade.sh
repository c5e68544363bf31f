#!/usr/bin/env bash
# What an upgrade that stays compatible is worth, on the sample: an old model (seed 7), a new one of another
# seed trained by itself, and a new one trained to fit the old item vectors too. Prints NDCG@10 of whose
# users against whose items at each dim, as Markdown.
#
#   recommender/fmrlrec/benches/upgrade.sh [EPOCHS=14]
#
# What is in runs/upgrade is not made again. Three trainings of a few minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
epochs="${1:-14}"
program="${RECOMMENDER_PROGRAM:-target/release/recommender}"
out="runs/upgrade/$epochs-epochs"
[[ -n "${RECOMMENDER_PROGRAM:-}" ]] || cargo build --release --quiet
mkdir -p "$out"
[[ -f "$out/snapshot/manifest.json" ]] ||
    "$program" build --config pipeline/sample/movielens-small/build.toml --output "$out/snapshot" >&2
# train NAME SEED COMPATIBILITY [ARGUMENT...]
train() {
    local name="$1" seed="$2" compatibility="$3"
    shift 3
    [[ ! -f "$out/$name/bundle.json" ]] || return 0
    sed -e "s/^epochs = .*/epochs = $epochs/; s/^seed = .*/seed = $seed/" recommender/fmrlrec/configs/demo.toml >"$out/$name.toml"
    printf '%s' "$compatibility" >>"$out/$name.toml"
    "$program" train --config "$out/$name.toml" --snapshot "$out/snapshot" --output "$out/$name" "$@" >&2
}
train old 7 ''
train new 8 ''
train compatible 8 $'\n[compatibility]\nweight = 1.0\n' --compatible-with "$out/old"
for name in new compatible; do
    "$program" evaluate --bundle "$out/$name" --snapshot "$out/snapshot" --against "$out/old" --output "$out/$name-old" >&2
done
python3 - "$out" <<'PYTHON'
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
rows = [("old users, old items", "old"), ("new users, new items", "new"), ("new users, old items", "new-old"),
        ("compatible users, their own items", "compatible"), ("compatible users, old items", "compatible-old")]
reports = [(name, json.loads((folder / place / "report.json").read_text())["dims"]) for name, place in rows]
print("| NDCG@10 | " + " | ".join(f"dim {quality['dim']}" for quality in reports[0][1]) + " |")
print("|---" * (len(reports[0][1]) + 1) + "|")
for name, dims in reports:
    print(f"| {name} | " + " | ".join(f"{quality['metrics']['ndcg@10']:.4f}" for quality in dims) + " |")
PYTHON
