"""Whole processes, imports and report included, against the tutorial loop timed in the same run.

The tutorial runs 2 epochs and is scaled to 25. Regraft is measured three times in each of three situations:
very first run (nothing cached), cold store (the converted model is there), everything in the store; and besides with
the default strategy, which compares nine and keeps the best.

    python benchmarks/speed.py [DATA]
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from measure import data_or_exit, emptied, regraft, run

EPOCHS, TIMED = 25, 2
REQUIRED = {"very first run": 25, "cold store": 40, "everything in the store": 100}
REPEATS = 3
DEFAULT = "everything in the store, strategy auto"


def tutorial(data: Path) -> float:
    """Seconds that the tutorial loop takes for 25 epochs."""
    done = run(sys.executable, Path(__file__).with_name("tutorial_loop.py"), data, "--epochs", str(TIMED))
    seconds: list[float] = [json.loads(line)["seconds"] for line in done.lines[:-1]]
    # The first epoch warms up, so the later ones stand for the rest.
    return done.seconds + (EPOCHS - TIMED) * statistics.mean(seconds[1:])


def main() -> None:
    """Print the three ratios, each as the median of its repeats."""
    data = data_or_exit(sys.argv)
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name), Path(name) / "cache"
        times: dict[str, list[float]] = {situation: [] for situation in (*REQUIRED, DEFAULT)}
        baselines = [tutorial(data)]
        for _ in range(REPEATS):
            for situation, taken in times.items():
                if situation == "very first run":
                    shutil.rmtree(cache, ignore_errors=True)
                if situation == "cold store":
                    shutil.rmtree(cache / "features")
                words = () if situation == DEFAULT else ("--strategy", "linear-probe")
                place = emptied(folder / "work")
                taken.append(regraft("train", data, *words, cache=cache, folder=place).seconds)
        baselines.append(tutorial(data))
    baseline = statistics.mean(baselines)
    print(f"tutorial, {EPOCHS} epochs: {baseline:.0f} s (scaled from {TIMED} epochs, before and after: "
          f"{baselines[0]:.0f}, {baselines[1]:.0f})")  # fmt: skip
    for situation, seconds in times.items():
        middle = statistics.median(seconds)
        print(
            f"{situation:<24} {middle:6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
            f"  {baseline / middle:6.1f}x" + (f"  required {REQUIRED[situation]}x" if situation in REQUIRED else "")
        )


if __name__ == "__main__":
    main()
