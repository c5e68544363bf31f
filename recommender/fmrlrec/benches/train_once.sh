# Sourced by the benches that train, after they have gone to the root of the repository: the program, and trainings
# that are made once.
#
# RECOMMENDER_PROGRAM names a program to use; without it the release build is brought up to date.

program="${RECOMMENDER_PROGRAM:-target/release/recommender}"
[[ -n "${RECOMMENDER_PROGRAM:-}" ]] || cargo build --release --quiet

# bundle_of CONFIG PREFIX: where the Bundle of this configuration lies; that of another one is not taken for it.
bundle_of() { echo "$2-$(sha256sum "$1" | cut -c1-8)"; }

# train_once CONFIG SNAPSHOT BUNDLE [ARGUMENT...]: trains unless the Bundle is there, and goes on from the checkpoint that
# an interrupted training left.
train_once() {
    local config="$1" snapshot="$2" bundle="$3" resume=()
    shift 3
    [[ ! -f "$bundle/bundle.json" ]] || return 0
    [[ ! -f "$bundle.checkpoint.safetensors" ]] || resume=(--resume)
    "$program" train --config "$config" --snapshot "$snapshot" --output "$bundle" "${resume[@]}" "$@"
}
