"""Time to the tutorial's best validation accuracy: full fine-tuning for 25 epochs, against `--strategy lp-ft`.

Both run as whole processes on the same machine, one after the other. The tutorial's time is that at which it first
reached its own best accuracy, Regraft's is the whole process with imports, features and report, nothing cached.

    python benchmarks/finetune_accuracy.py [FOLDER] [--epochs 25] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from measure import HYMENOPTERA, emptied, metrics, regraft, run

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Print both, and the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, nargs="?", default=HYMENOPTERA)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not here. Name a folder with train/ and val/ of class folders.")
    data = options.data.resolve()
    work = Path(tempfile.mkdtemp())
    found = []
    for seed in range(options.seeds):
        folder, cache = emptied(work / f"run{seed}"), emptied(work / f"cache{seed}")
        taken = regraft(
            "train", data, "--strategy", "lp-ft", "--seed", str(seed), "--force", cache=cache, folder=folder
        )
        rows = [json.loads(line) for line in next(folder.glob("runs/*/history.jsonl")).read_text("utf-8").splitlines()]
        accuracy = metrics(folder)["evaluations"]["val"]["accuracy"]
        found.append((accuracy, taken.seconds))
        best = next(row["epoch"] for row in reversed(rows) if row["best"])
        print(
            f"lp-ft, seed {seed}: {accuracy:.4f} in {taken.seconds:.1f} s, best epoch {best} of {rows[-1]['epoch']}",
            flush=True,
        )
    ours, seconds = (statistics.mean(values) for values in zip(*found, strict=True))
    words = [sys.executable, HERE / "tutorial_loop.py", data, "--finetune", "--epochs", str(options.epochs)]
    epochs = [json.loads(line) for line in run(*words).lines]
    epochs = [row for row in epochs if "epoch" in row]
    best_accuracy = max(row["accuracy"] for row in epochs)
    at = next(n for n, row in enumerate(epochs) if row["accuracy"] == best_accuracy)
    until, whole = sum(row["seconds"] for row in epochs[: at + 1]), sum(row["seconds"] for row in epochs)
    print(f"tutorial: best {best_accuracy:.4f}, first reached after epoch {at + 1}, {until:.0f} s; all {whole:.0f} s")
    print(f"lp-ft: mean {ours:.4f} in {seconds:.1f} s")
    print(f"sooner than the tutorial's best: {until / seconds:.1f} x; than all its epochs: {whole / seconds:.1f} x")


if __name__ == "__main__":
    main()
