"""Prints published figures beside those of trained Bundles, and quality by dim, as Markdown.

usage: amazon_tables.py NAME=BUNDLE...    (the data set's name, the folder)
"""

import json
import pathlib
import sys

# Leave-one-out, full ranking: NDCG@5, Recall@5, NDCG@10, Recall@10 (arXiv 2409.16627, main table).
PUBLISHED = {
    "beauty": {"LRURec, ids": (0.0339, 0.0565, 0.0438, 0.0871), "fMRLRec, text + image, dim 1024": (0.0415, 0.0613, 0.0520, 0.0939)},
    "clothing": {"LRURec, ids": (0.0104, 0.0192, 0.0140, 0.0304), "fMRLRec, text + image, dim 1024": (0.0193, 0.0333, 0.0259, 0.0541)},
    "sports": {"LRURec, ids": (0.0204, 0.0344, 0.0266, 0.0536), "fMRLRec, text + image, dim 1024": (0.0230, 0.0349, 0.0284, 0.0516)},
    "toys": {"LRURec, ids": (0.0366, 0.0601, 0.0463, 0.0901), "fMRLRec, text + image, dim 1024": (0.0461, 0.0672, 0.0552, 0.0956)},
}
METRICS = ("ndcg@5", "recall@5", "ndcg@10", "recall@10")


def row(*cells):
    print("| " + " | ".join(cells) + " |")


bundles = dict(argument.split("=", 1) for argument in sys.argv[1:])
reports = {name: json.loads(pathlib.Path(folder, "report.json").read_text()) for name, folder in bundles.items()}
row("set", "model", "NDCG@5", "Recall@5", "NDCG@10", "Recall@10")
row(*["---"] * 6)
for name, report in reports.items():
    for model, values in PUBLISHED.get(name, {}).items():
        row(name, model, *(f"{value:.4f}" for value in values))
    for baseline in report["baselines"]:
        row(name, baseline["name"], *(f"{baseline['metrics'][metric]:.4f}" for metric in METRICS))
    largest = report["dims"][-1]
    row(name, f"this repository, dim {largest['dim']}", *(f"{largest['metrics'][metric]:.4f}" for metric in METRICS))
print()
row("set", "dim", "NDCG@10", "Recall@10", "of the largest dim's Recall@10")
row(*["---"] * 5)
for name, report in reports.items():
    largest = report["dims"][-1]["metrics"]["recall@10"]
    for dim in report["dims"]:
        recall = dim["metrics"]["recall@10"]
        row(name, str(dim["dim"]), f"{dim['metrics']['ndcg@10']:.4f}", f"{recall:.4f}", f"{recall / largest:.0%}")
