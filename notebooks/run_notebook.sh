#!/usr/bin/env bash
# Runs quality_by_dim.ipynb head to foot: `notebooks/run_notebook.sh [OUTPUT.html]`.
# The report is REPORT, else the example beside the notebook. PYTHON picks the interpreter.
# Exit code 77 means skipped, with the reason on stderr: no Python, or a package is missing.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python3}"
if ! command -v "$python" >/dev/null 2>&1; then
    echo "skipped: $python is absent" >&2
    exit 77
fi
for module in nbconvert ipykernel pandas matplotlib; do
    if ! "$python" -c "import $module" >/dev/null 2>&1; then
        echo "skipped: $python has no $module (pip install nbconvert ipykernel pandas matplotlib)" >&2
        exit 77
    fi
done

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
output="${1:-$work/quality_by_dim.html}"
# The kernel starts in the notebook's folder, so a relative path is made absolute first.
if [[ -n "${REPORT:-}" ]]; then
    REPORT="$(cd "$(dirname "$REPORT")" && pwd)/$(basename "$REPORT")"
    export REPORT
fi
# The kernel named python3 is the interpreter that runs nbconvert, whatever else is installed.
MPLBACKEND=module://matplotlib_inline.backend_inline "$python" -m nbconvert --to html --execute \
    --ExecutePreprocessor.timeout=120 --output-dir "$(dirname "$output")" --output "$(basename "$output")" \
    "$here/quality_by_dim.ipynb"
test -s "$output"
