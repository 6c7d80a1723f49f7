"""Several tasks at once on frozen features, each against a run of that task alone with the same splits.

python benchmarks/tasks_fashion.py [FOLDER]        # with styles.csv and images/; two to five minutes
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import HYMENOPTERA, regraft

TASKS = ("gender", "masterCategory", "subCategory", "baseColour", "season", "usage")
_WANTED_POINTS, _WANTED_SECONDS = 0.5, 60.0


def main() -> None:
    """Print seconds of the whole command, cold and warm, and each task's accuracy together and alone."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else HYMENOPTERA.parent / "fashion_attr"
    if not (data / "styles.csv").is_file():
        sys.exit(f"{data} is not here. Name a folder with styles.csv and images/.")
    table, root = data.resolve() / "styles.csv", data.resolve() / "images"
    words: list[str | Path] = ["train", "--root", root, "--strategy", "linear-probe"]
    labels = [word for task in TASKS for word in ("--label", task)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        where = {"cache": folder / "cache", "folder": folder}
        cold = regraft(*words, table, *labels, "--run", "cold", **where)
        splits = folder / "splits.csv"
        _with_splits(table, folder / "cold" / "manifest.csv", splits)
        warm = regraft(*words, splits, *labels, "--run", "warm", **where)
        first, together = _metrics(folder / "cold"), _metrics(folder / "warm")
        print(f"{together['images']:,} images, {len(TASKS)} tasks; load average {os.getloadavg()[0]:.1f} beside this")
        print(f"nothing cached  {cold.seconds:6.1f} s (wanted: {_WANTED_SECONDS:.0f})  {_phases(first)}")
        print(f"features stored {warm.seconds:6.1f} s                {_phases(together)}")
        print(f"{'task':<16} {'classes':>7} {'images':>7} {'together':>9} {'alone':>9} {'points':>7} {'constant':>9}")
        largest = 0.0
        for task in TASKS:
            regraft(*words, splits, "--label", task, "--run", f"alone_{task}", **where)
            both, alone = together["tasks"][task], _metrics(folder / f"alone_{task}")
            points = 100 * (both["accuracy"] - alone["accuracy"])
            largest = max(largest, abs(points))
            sizes = f"{len(both['classes']):>7} {both['n']:>7}"
            accuracies = f"{both['accuracy']:>9.4f} {alone['accuracy']:>9.4f} {points:>+7.2f}"
            print(f"{task:<16} {sizes} {accuracies} {both['baseline_accuracy']:>9.4f}{_same(both, alone)}")
    print(f"largest difference {largest:.2f} points (wanted: at most {_WANTED_POINTS})")


def _metrics(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text("utf-8"))
    return found


def _phases(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in metrics["seconds"].items() if seconds >= 1)


def _same(both: dict[str, Any], alone: dict[str, Any]) -> str:
    """Whether even the log loss, which sees every digit of every probability, is the same."""
    return "  the same to the last digit" if both["log_loss"] == alone["log_loss"] else ""


def _with_splits(table: Path, manifest: Path, target: Path) -> None:
    """The table with the splits of the run, so that a run of one task has the same.

    Classes without a training image, which a run of that task alone refuses, are emptied for both.
    """
    with manifest.open(newline="", encoding="utf-8") as handle:
        split = {Path(row["path"]).stem: row["split"] for row in csv.DictReader(handle)}
    with table.open(newline="", encoding="utf-8") as handle:
        rows = [{**row, "split": split[row["id"]]} for row in csv.DictReader(handle) if row["id"] in split]
    for task in TASKS:
        learnt = {row[task] for row in rows if row["split"] == "train"}
        for row in rows:
            row[task] = row[task] if row[task] in learnt else ""
    with target.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
