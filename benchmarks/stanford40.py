"""Six ways to transfer on stanford40_mini: 40 actions, 5 images each to learn from, to choose by, and to test on.

Everything is chosen on dev (the manifest's val); test is told once for each run.

    python benchmarks/stanford40.py [FOLDER] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from measure import HYMENOPTERA, emptied, metrics, regraft

STRATEGIES = ("linear-probe", "lp-ft", "finetune", "gradual", "partial", "scratch")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, nargs="?", default=HYMENOPTERA.parent / "stanford40_mini")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not here. Name a data set with train, val and test parts.")
    data, work = options.data.resolve(), Path(tempfile.mkdtemp())
    print("| strategy | dev, mean (each) | test, mean (each) | seconds |\n|---|---|---|---|")
    for strategy in options.strategies:
        dev, test, seconds = [], [], []
        for seed in range(options.seeds):
            folder = emptied(work / "run")
            force = () if strategy == "linear-probe" else ("--force",)
            words = ("train", data, "--strategy", strategy, "--seed", str(seed), *force)
            seconds.append(regraft(*words, cache=work / "cache", folder=folder).seconds)
            parts = metrics(folder)["evaluations"]
            dev.append(parts["val"]["accuracy"])
            test.append(parts["test"]["accuracy"])
        cells = [f"{statistics.mean(v):.3f} ({', '.join(f'{x:.3f}' for x in v)})" for v in (dev, test)]
        print(f"| {strategy} | {cells[0]} | {cells[1]} | {statistics.mean(seconds):.0f} |", flush=True)
        print(json.dumps({"strategy": strategy, "dev": dev, "test": test}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
