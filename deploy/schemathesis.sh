#!/usr/bin/env bash
# The running service against its own OpenAPI description, by schemathesis.
#
#   deploy/schemathesis.sh BUNDLE_DIR [arguments of `schemathesis run`...]
#
# Starts `recommender serve` on a free port with state of its own and a key for every scope, generates
# requests from /openapi.json and checks every answer against it; ends with schemathesis's exit code.
# Everything is on loopback. Needs Python with schemathesis: RECOMMENDER_PYTHON names it (python3 if not
# set). SCHEMATHESIS_EXAMPLES (50) is the number of cases an operation; RECOMMENDER_PROGRAM names a built
# `recommender`, so that nothing is built.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [[ $# -lt 1 || ! -f "$1/bundle.json" ]]; then
    echo "usage: deploy/schemathesis.sh BUNDLE_DIR, the folder of a Bundle" >&2
    exit 2
fi
bundle="$(cd "$1" && pwd)"
shift
python="${RECOMMENDER_PYTHON:-python3}"
if ! "$python" -c 'import schemathesis' 2>/dev/null; then
    echo "$python has no schemathesis: pip install schemathesis, or name another by RECOMMENDER_PYTHON" >&2
    exit 2
fi
bin="${RECOMMENDER_PROGRAM:-}"
if [[ -z "$bin" ]]; then
    (cd "$root" && cargo build --release) >&2
    bin="$root/target/release/recommender"
fi
work="$(mktemp -d)"
server=""
finish() {
    if [[ -n "$server" ]]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT

key="schemathesis-key"
sha256="$(printf %s "$key" | sha256sum | cut -d' ' -f1)"
dims="$(tr -d ' \n' <"$bundle/config.json" | sed 's/.*"nesting_dims":\[\([0-9,]*\)\].*/\1/')"
# The example config up to its keys and tiers, with a key and a tier for this run.
sed -e '/^\[\[tiers\]\]/,$d' -e '/^\[\[access.keys\]\]/,/^tier = /d' "$root/recommender/service/configs/serve.toml" |
    sed -e 's#^bind = .*#bind = "127.0.0.1:0"#' -e "s#^bundle = .*#bundle = \"$bundle\"#" \
        -e "s#^path = .*#path = \"$work/state\"#" -e "s#^tiers_file = .*#tiers_file = \"$work/tiers.json\"#" \
        >"$work/serve.toml"
cat >>"$work/serve.toml" <<TOML
[[access.keys]]
name = "schemathesis"
sha256 = "$sha256"
scopes = ["recommend", "events", "items", "admin"]
tier = ""
[[tiers]]
name = "standard"
dim = ${dims##*,}
min_dim = ${dims%%,*}
default = true
max_k = 200
latency_target_ms = 5000
rate_per_s = 0
burst = 0
share_permille = 1000
header_values = []
TOML
"$bin" serve --config "$work/serve.toml" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 300); do
    address="$(sed -n 's#.*listening on \(http://[0-9.:]*\).*#\1#p' "$work/log" | head -n 1)"
    if [[ -n "$address" ]]; then break; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [[ -z "${address:-}" ]]; then cat "$work/log" >&2; exit 1; fi

# One check is left out: it wants every request that the description allows to succeed, and which dims,
# tiers, features and keys exist is the Bundle's to say, not the description's.
cd "$work"
code=0
"$python" -m schemathesis.cli run "$address/openapi.json" --checks all \
    --exclude-checks positive_data_acceptance --header "x-api-key: $key" \
    --max-examples "${SCHEMATHESIS_EXAMPLES:-50}" --seed "${SCHEMATHESIS_SEED:-7}" "$@" || code=$?
if grep -q 'panicked' "$work/log"; then
    grep -A3 'panicked' "$work/log" >&2
    code=1
fi
exit "$code"
