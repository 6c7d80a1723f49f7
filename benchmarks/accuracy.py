"""Validation accuracy of `regraft train` with default settings, against the tutorial loop in the same run.

python benchmarks/accuracy.py [DATA]        # about five minutes, nearly all of it the tutorial
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from measure import data_or_exit, metrics, regraft, run


def main() -> None:
    """Print both accuracies and both times."""
    data = data_or_exit(sys.argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = regraft("train", data, "--strategy", "linear-probe", cache=folder / "cache", folder=folder)
        found = metrics(folder)
    low, high = found["intervals"]["accuracy"]
    print(f"regraft   {found['accuracy']:.4f} (95 % interval {low:.3f} to {high:.3f}) in {ours.seconds:.1f} s, cold")
    baseline = run(sys.executable, Path(__file__).with_name("tutorial_loop.py"), data)
    epochs = [json.loads(line) for line in baseline.lines]
    print(f"tutorial  {epochs[-1]['best']:.4f} at its best epoch in {baseline.seconds:.1f} s")
    print(f"required  0.945: {'reached' if found['accuracy'] >= 0.945 else 'missed'}")  # noqa: PLR2004


if __name__ == "__main__":
    main()
