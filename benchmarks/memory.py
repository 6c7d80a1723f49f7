"""Peak memory of extracting 20,000 images, against 1,000: both made by code, both whole processes.

python benchmarks/memory.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from measure import emptied, regraft

SMALL, LARGE = 1_000, 20_000
REQUIRED_MB = 300


def make_images(folder: Path, count: int) -> None:
    """Different small photographs-like JPEG files of 320 x 240 pixels in two class folders."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        path = folder / f"class{number % 2}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(path, quality=85)


def main() -> None:
    """Print both peaks and their difference."""
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (SMALL, LARGE):
            make_images(emptied(folder / "images"), count)
            work = emptied(folder / "work")
            regraft("embed", "sample:textile", "-o", "warm.npz", cache=folder / "cache", folder=work)  # converts once
            done = regraft("embed", folder / "images", "-o", "out.npz", cache=folder / "cache", folder=work)
            peaks[count] = done.peak_mb
            print(f"{count:>6} images: peak {done.peak_mb:.0f} MB, {done.seconds:.0f} s", flush=True)
    rows = (LARGE - SMALL) * 1280 * 4 / 1e6
    print(
        f"difference {peaks[LARGE] - peaks[SMALL]:.0f} MB, required below {REQUIRED_MB} MB"
        f" (the table of features itself takes {rows:.0f} MB more)"
    )


if __name__ == "__main__":
    main()
