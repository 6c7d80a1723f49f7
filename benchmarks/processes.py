"""One process against two by torchrun: validation accuracy within noise, and the same metrics for the same weights.

python benchmarks/processes.py [FOLDER]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from measure import data_or_exit, emptied, run

LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "regraft")


def history(work: Path, name: str, *words: str | Path) -> list[dict[str, float]]:
    """The history that a command leaves, one thread in each process."""
    folder = emptied(work / name)
    os.environ["OMP_NUM_THREADS"] = "1"  # as each of two processes on two cores has
    run(*words, "--run", "r", cache=work / "cache", folder=folder)
    return [json.loads(line) for line in (folder / "r" / "history.jsonl").read_text("utf-8").splitlines()]


def main() -> None:
    """Print both accuracies, and how far apart two evaluations of the same weights are."""
    data, work = data_or_exit(sys.argv), Path(tempfile.mkdtemp())
    one = (sys.executable, "-m", "regraft")
    usual: tuple[str | Path, ...] = ("train", data, "--strategy", "finetune", "--epochs", "3", "--force")
    still: tuple[str | Path, ...] = (*usual[:4], "--epochs", "1", "--lr", "1e-12", "--force")
    for name, words in (("3 epochs", usual), ("weights unchanged", still)):
        first, second = history(work, "one", *one, *words), history(work, "two", *LAUNCH, *words)
        for a, b in zip(first, second, strict=True):
            print(
                f"{name}, epoch {a['epoch']}: accuracy {a['val_accuracy']:.4f} and {b['val_accuracy']:.4f}, loss"
                f" {a['val_loss']:.6f} and {b['val_loss']:.6f}, {a['seconds']:.1f} and {b['seconds']:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
