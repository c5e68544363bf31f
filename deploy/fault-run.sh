#!/usr/bin/env bash
# Every fault of the stream, at full length, and a table of what became of it: consumers and a broker killed,
# rebalances, full disks, a damaged store, a broker gone for a minute, clocks that jump.
#
#   deploy/fault-run.sh [OUTPUT]   run all and write the table to OUTPUT (target/fault-table.md)
#   deploy/fault-run.sh --short    the shorter run that is part of `cargo test`
#
# Needs Java 17 and Maven for the broker (or RECOMMENDER_KAFKA), and for the full disks the right to mount a
# tmpfs in a namespace of its own (unshare); what is missing is said and skipped. About 20 minutes.
# RECOMMENDER_TEST_FEATURES names cargo features, such as recommender/ort, to test what is built already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

slow=1
[[ "${1:-}" == --short ]] && { slow=0; shift; }
table="${1:-target/fault-table.md}"
mkdir -p "$(dirname "$table")"
rows="$(mktemp)"
log="${table%.md}.log"

if [[ -z "${RECOMMENDER_KAFKA:-}" ]]; then
    RECOMMENDER_KAFKA="$(deploy/kafka-local.sh start target/fault-kafka)"
    export RECOMMENDER_KAFKA
    trap 'deploy/kafka-local.sh stop target/fault-kafka; rm -f "$rows"' EXIT
else
    trap 'rm -f "$rows"' EXIT
fi

status=0
RECOMMENDER_SLOW_TESTS="$slow" RECOMMENDER_FAULT_TABLE="$rows" \
    cargo test --release --workspace ${RECOMMENDER_TEST_FEATURES:+--features "$RECOMMENDER_TEST_FEATURES"} --test it -- \
    --nocapture killed gone_for_a_minute full_disk damaged consumers_come_and_go taken_for_dead clock \
    >"$log" 2>&1 || status=$?
grep -E '^skipped: ' "$log" | sort -u >&2 || true
{
    printf '| fault | times | events | after it |\n|---|---|---|---|\n'
    sort "$rows"
} | tee "$table"
if ((status != 0)); then
    grep -E '^(test .* FAILED|    [a-z_:]+$)' "$log" >&2 || true
    printf '[fault-run] a fault was not survived; %s has the output\n' "$log" >&2
fi
exit "$status"
