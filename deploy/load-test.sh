#!/usr/bin/env bash
# Overload on purpose: what the service does at 1, 3 and 10 times what it can do.
#
#   deploy/load-test.sh                 on a synthetic Bundle of 12,000 items, dims 16 to 256
#   deploy/load-test.sh runs/bundle     on a Bundle of yours
#
# Capacity is what a closed loop gets from the largest dim when stepping down is forbidden. Then an
# open loop (latencies count from the scheduled moment) sends that rate, 3 and 10 times it to a tier
# that may step down to the smallest dim. Everything runs on this machine over loopback, so the
# generator takes CPU from the service: its share is in the table. Prints Markdown on stdout.
#
# LOAD_TEST_SECONDS (8) and LOAD_TEST_ROUNDS (3) set the length; LOAD_TEST_RATE (3000) is one more
# rate, sent with stepping down forbidden; LOAD_TEST_TARGET_MS (20) is the tier's latency target;
# LOAD_TEST_BIN names a folder with built `recommender` and `examples/load`, so that nothing is built.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
seconds="${LOAD_TEST_SECONDS:-8}" rounds="${LOAD_TEST_ROUNDS:-3}" rate="${LOAD_TEST_RATE:-3000}"
target="${LOAD_TEST_TARGET_MS:-20}" port="${LOAD_TEST_PORT:-18399}"
say() { printf '[load] %s\n' "$*" >&2; }

bin="${LOAD_TEST_BIN:-}"
if [[ -z "$bin" ]]; then
    (cd "$root" && cargo build --release --workspace && cargo build --release --package service --example load) >&2
    bin="$root/target/release"
fi
work="$(mktemp -d)"
server=""
finish() {
    if [[ -n "$server" ]]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT

bundle="${1:-$root/runs/load/bundle}"
if [[ ! -f "$bundle/bundle.json" ]]; then
    say "making a synthetic Bundle in $bundle (a few minutes, once)"
    "$bin/examples/load" bundle --output "$bundle"
fi
bundle="$(cd "$bundle" && pwd)"
# The first and the last nesting dim, from config.json: the smallest and the largest.
dims="$(tr -d ' \n' <"$bundle/config.json" | sed 's/.*"nesting_dims":\[\([0-9,]*\)\].*/\1/')"
smallest="${dims%%,*}" largest="${dims##*,}"

tier() {
    printf '[[tiers]]\nname = "%s"\ndim = %s\nmin_dim = %s\ndefault = %s\nmax_k = 200\nlatency_target_ms = %s\n' "$@"
    printf 'rate_per_s = 0\nburst = 0\nshare_permille = 1000\nheader_values = []\n\n'
}
# The example config up to its tiers and without its keys, which name those tiers.
sed -n -e '/^\[\[tiers\]\]/q' -e '/^\[\[access.keys\]\]/,/^tier = /d' -e 'p' "$root/recommender/service/configs/serve.toml" |
    sed -e "s#^bind = .*#bind = \"127.0.0.1:$port\"#" -e "s#^bundle = .*#bundle = \"$bundle\"#" \
        -e "s#^path = .*#path = \"$work/state.redb\"#" -e "s#^tiers_file = .*#tiers_file = \"$work/tiers.json\"#" \
        -e 's#^required = false#required = false\nkeys = []#' >"$work/serve.toml"
{ tier bending "$largest" "$smallest" true "$target"; tier fixed "$largest" "$largest" false 60000; } >>"$work/serve.toml"

"$bin/recommender" serve --config "$work/serve.toml" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 100); do
    if grep -q 'listening on' "$work/log"; then break; fi
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
load() { "$bin/examples/load" "$@" --address "127.0.0.1:$port" --users 500 --pid "$server"; }
field() { sed "s/.*\"$1\":\([0-9.]*\).*/\1/"; }
# Back at its own dim before the next run, so that runs do not see each other.
calm() {
    for _ in $(seq 300); do
        if ! exec 3<>"/dev/tcp/127.0.0.1/$port"; then return; fi
        printf 'GET /v1/bundle HTTP/1.0\r\n\r\n' >&3
        if tr -d '\r' <&3 | grep -q "\"dim\":$largest,\"default\":true,\"dim_now\":$largest"; then exec 3>&-; return; fi
        exec 3>&-
        sleep 0.2
    done
    say "the tier did not climb back within 60 s"
}

say "writing histories"
load events
load capacity --tier fixed --seconds 2 >/dev/null
for round in $(seq "$rounds"); do
    say "round $round of $rounds"
    line="$(load capacity --tier fixed --seconds "$seconds" --connections 32)"
    printf 'capacity, closed loop, dim %s\t%s\n' "$largest" "$line" >>"$work/lines"
    if [[ "$round" == 1 ]]; then capacity="$(field answered_per_s <<<"$line")"; fi
    printf '%s/s, dim %s only\t%s\n' "$rate" "$largest" "$(load run --tier fixed --rate "$rate" --seconds "$seconds")" >>"$work/lines"
    for times in 1 3 10; do
        calm
        line="$(load run --rate "$(awk "BEGIN { print $capacity * $times }")" --seconds "$seconds")"
        printf '%sx capacity\t%s\n' "$times" "$line" >>"$work/lines"
    done
    calm
done
say "$(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), load average $(cut -d' ' -f1-3 /proc/loadavg)"
cp "$work/lines" "${LOAD_TEST_LINES:-/dev/null}"
"$bin/examples/load" table --lines "$work/lines" --bundle "$bundle"
