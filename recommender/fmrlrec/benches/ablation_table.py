"""The table of ablation.sh: NDCG@10 and Recall@10 of each run at each dim, exits after earlier blocks too.

usage: ablation_table.py NAME=BUNDLE...
"""

import json
import pathlib
import sys

rows = []
for name, folder in (argument.split("=", 1) for argument in sys.argv[1:]):
    report = json.loads(pathlib.Path(folder, "report.json").read_text())
    rows.append((name, report["dims"]))
    rows.extend((f"{name}: at the exit of block {exit['depth']}", exit["dims"]) for exit in report["exits"])
dims = sorted({quality["dim"] for _, qualities in rows for quality in qualities})
print("| run | " + " | ".join(f"dim {dim}" for dim in dims) + " |")
print("|---" * (len(dims) + 1) + "|")
for name, qualities in rows:
    found = {quality["dim"]: quality["metrics"] for quality in qualities}
    cells = [f"{found[dim]['ndcg@10']:.4f} / {found[dim]['recall@10']:.4f}" if dim in found else "" for dim in dims]
    print(f"| {name} | " + " | ".join(cells) + " |")
print("\nNDCG@10 / Recall@10, test split, every item ranked.")
