"""What comparing costs beside one training: whole processes, each with nothing cached.

One `train` of a linear probe on three backbones side by side, and one `compare` of every strategy on features on each
of the three, with 5x3 folds.

    python benchmarks/compare_cost.py [DATA]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from measure import data_or_exit, emptied, regraft

BACKBONES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
WANTED, REPEATS = 2.0, 3


def main() -> None:
    """Print both times, their parts, and the ratio of the medians."""
    data = data_or_exit(sys.argv)
    one: list[float] = []
    all_of_them: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "work", Path(name) / "cache"
        for _ in range(REPEATS):
            words = ("train", data, "--strategy", "linear-probe", "--backbone", "+".join(BACKBONES))
            one.append(regraft(*words, cache=emptied(cache), folder=emptied(folder)).seconds)
            words = ("compare", data, "--backbones", ",".join(BACKBONES), "--folds", "5x3")
            all_of_them.append(regraft(*words, cache=emptied(cache), folder=emptied(folder)).seconds)
        (run,) = (folder / "runs").iterdir()
        candidates = json.loads((run / "leaderboard.json").read_text("utf-8"))["candidates"]
        spent = json.loads((run / "metrics.json").read_text("utf-8"))["seconds"]
    ratio = statistics.median(all_of_them) / statistics.median(one)
    print(f"train, three backbones   {statistics.median(one):6.2f} s ({min(one):.2f} to {max(one):.2f})")
    print(
        f"compare, {len(candidates)} candidates   {statistics.median(all_of_them):6.2f} s ({min(all_of_them):.2f} to"
        f" {max(all_of_them):.2f}); of the last: {', '.join(f'{k} {v:.1f}' for k, v in spent.items())}"
    )
    print(f"ratio {ratio:.2f}, wanted at most {WANTED:g}")


if __name__ == "__main__":
    main()
