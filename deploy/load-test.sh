#!/usr/bin/env bash
# Overload on purpose: what the service does at 1, 3 and 10 times what it can do.
#
#   deploy/load-test.sh                 on a synthetic Bundle of 12,000 items, dims 16 to 256
#   deploy/load-test.sh runs/bundle     on a Bundle of yours
#
# Capacity is what a closed loop gets from the largest dim when stepping down is forbidden. Then an
# open loop (latencies count from the scheduled moment) sends that rate, 3 and 10 times it to a tier
# that may step down to the smallest dim. The overload is made of inline histories of 50 items, each
# a forward pass of the model and a search; known users, whose vectors are kept, cost a search only.
# Then the Bundle is loaded again and rolled back three times under known users, to see that no request fails.
# Everything runs on this machine over loopback, so the generator takes CPU from the service: its
# share is in the table. Prints Markdown on stdout.
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
        -e "s#^path = .*#path = \"$work/state\"#" -e "s#^tiers_file = .*#tiers_file = \"$work/tiers.json\"#" \
        >"$work/serve.toml"
key="load-test"
printf '[[access.keys]]\nname = "admin"\nsha256 = "%s"\nscopes = ["admin"]\ntier = ""\n\n' \
    "$(printf %s "$key" | sha256sum | cut -d' ' -f1)" >>"$work/serve.toml"
{ tier bending "$largest" "$smallest" true "$target"; tier fixed "$largest" "$largest" false 60000; } >>"$work/serve.toml"

# Each run gets a fresh process on the same user state, so that runs do not see each other.
start() {
    "$bin/recommender" serve --config "$work/serve.toml" >"$work/log" 2>&1 &
    server=$!
    for _ in $(seq 300); do
        if grep -q 'listening on' "$work/log"; then return; fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/log" >&2
    exit 1
}
stop() { kill "$server"; wait "$server" || true; server=""; }
# measure LABEL VERB ARGUMENTS...: one line for the table, after a short warm-up.
measure() {
    local label="$1" line
    shift
    start
    load capacity --tier fixed --seconds 1 >/dev/null
    line="$(load "$@" --seconds "$seconds")"
    printf '%s\t%s\n' "$label" "$line" >>"$work/lines"
    say "$label: $line"
    stop
}
admin() { curl -sSf -o "$work/answer" -H "x-api-key: $key" -H 'content-type: application/json' "$@"; }
swap() {
    for _ in 1 2 3; do
        sleep 1
        admin "http://127.0.0.1:$port/admin/v1/bundle" -d '{}'
        sleep 1
        admin -X POST "http://127.0.0.1:$port/admin/v1/bundle/rollback"
    done
}
# One line for the table: 300 requests a second while the Bundle is swapped and rolled back.
measure_swaps() {
    local label="known users: 300/s, Bundle swapped and rolled back 3 times" line swapping
    start
    load capacity --tier fixed --seconds 1 >/dev/null
    swap & swapping=$!
    line="$(load run --tier bending --rate 300 --seconds 18)"
    wait "$swapping" || { say "a swap failed: $(cat "$work/answer")"; exit 1; }
    printf '%s\t%s\n' "$label" "$line" >>"$work/lines"
    say "$label: $line"
    stop
}
load() { "$bin/examples/load" "$@" --address "127.0.0.1:$port" --users 500 --pid "$server"; }
field() { tail -n 1 "$work/lines" | sed "s/.*\"$1\":\([0-9.]*\).*/\1/"; }

say "writing histories"
start
load events
stop
for round in $(seq "$rounds"); do
    say "round $round of $rounds"
    measure "known users: capacity, closed loop, dim $largest" capacity --tier fixed --connections 32
    measure "known users: $rate/s, dim $largest only" run --tier fixed --rate "$rate"
    measure "inline histories: capacity, closed loop, dim $largest" capacity --tier fixed --connections 32 --inline
    if [[ "$round" == 1 ]]; then capacity="$(field answered_per_s)"; fi
    for times in 1 3 10; do
        measure "inline histories: ${times}x" run --inline --rate "$(awk "BEGIN { print $capacity * $times }")"
    done
    measure_swaps
done
say "$(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), load average $(cut -d' ' -f1-3 /proc/loadavg)"
cp "$work/lines" "${LOAD_TEST_LINES:-/dev/null}"
"$bin/examples/load" table --lines "$work/lines" --bundle "$bundle"
