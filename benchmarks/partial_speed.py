"""An epoch of `--strategy partial` (the last stage trained, the rest run once) against one of `--strategy finetune`.

python benchmarks/partial_speed.py [FOLDER]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from measure import data_or_exit, emptied, regraft

BACKBONES = ("efficientnet_lite0",)


def epochs(data: Path, work: Path, strategy: str, backbone: str, count: int) -> list[float]:
    """Seconds of each epoch, evaluation and states included."""
    folder = emptied(work / strategy)
    words = ("train", data, "--strategy", strategy, "--backbone", backbone, "--epochs", str(count), "--force")
    regraft(*words, cache=work / "cache", folder=folder)
    lines = next(folder.glob("runs/*/history.jsonl")).read_text("utf-8").splitlines()
    return [json.loads(line)["seconds"] for line in lines]


def main() -> None:
    """Print the epochs after the first of both, and the ratio."""
    data, work = data_or_exit(sys.argv), Path(tempfile.mkdtemp())
    for backbone in BACKBONES:
        whole = epochs(data, work, "finetune", backbone, 3)[1:]
        part = epochs(data, work, "partial", backbone, 6)
        first, rest = part[0], part[1:]
        ratio = statistics.median(whole) / statistics.median(rest)
        print(
            f"{backbone}: finetune {statistics.median(whole):.2f} s an epoch; partial {first:.2f} s the first, then"
            f" {statistics.median(rest):.3f} s: {ratio:.1f} x faster"
        )


if __name__ == "__main__":
    main()
