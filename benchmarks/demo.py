"""From the installed package to the report of the textile demo, on an empty cache.

python benchmarks/demo.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from measure import metrics, regraft

REQUIRED = 90


def main() -> None:
    """Print the seconds, and where they went."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = regraft("train", "sample:textile", cache=folder / "cache", folder=folder)
        found = metrics(folder)
    print(f"textile demo: {done.seconds:.1f} s on an empty cache, required below {REQUIRED} s")
    print(f"test accuracy {found['accuracy']:.4f} on {found['n']} images; seconds by part: {found['seconds']}")


if __name__ == "__main__":
    main()
