"""Whole scenes: tiles against one pass, and a large GeoTIFF pair by tiles: memory, time and seams.

python benchmarks/change_scenes.py RUN [--side 8192] [--data FOLDER]     # RUN: a run of change detection
python benchmarks/change_scenes.py                                       # trains one for two minutes first

The scenes of levir_scene are those that crops of levir_mini's training part come from: their F1 says how tiles and one
pass differ, not how good the model is.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from measure import HYMENOPTERA, regraft
from regraft import load_change
from regraft.evaluation.change import PixelCounts, count, numbers
from regraft.inference.change.tiles import plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

PEAK_MB = 1500.0
_BLOCK = 512


def main() -> None:
    """Print F1 of tiles and of one pass; then peak memory, seconds and jumps of a large map."""
    asked = argparse.ArgumentParser()
    asked.add_argument("run", nargs="?", type=Path)
    asked.add_argument("--side", type=int, default=8192)
    asked.add_argument("--data", type=Path, default=HYMENOPTERA.parent)
    options = asked.parse_args()
    scenes = options.data / "levir_scene"
    if not scenes.is_dir():
        sys.exit(f"{scenes} is not here. Name the folder that levir_scene and levir_mini lie in.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = options.run or folder / "run"
        if options.run is None:
            words: list[str | Path] = ["train", (options.data / "levir_mini").resolve(), "--budget", "2m", "--run", run]
            regraft(*words, cache=folder / "cache", folder=folder)
        print(f"load average {os.getloadavg()[0]:.1f} beside this")
        _against_one_pass(run, scenes)
        _large(run.resolve(), folder, scenes, options.side)


def _against_one_pass(run: Path, scenes: Path) -> None:
    model = load_change(run)
    threshold, tile = model.bundle.threshold, model.bundle.tile
    ways: dict[str, PixelCounts] = {}
    differ = 0.0
    files = sorted((scenes / "A").iterdir())
    for file in files:
        before, after, label = (
            np.asarray(Image.open(scenes / part / file.name).convert(mode))
            for part, mode in (("A", "RGB"), ("B", "RGB"), ("label", "L"))
        )
        truth = (label > 0).astype(np.uint8)
        whole = model.segment(np.stack([before, after])[None])[0]
        tiled = model.predict(before, after)
        differ = max(differ, float(np.abs(whole[1] - tiled[1]).mean()))
        found = {
            "one pass": whole,
            f"tiles of {tile}, overlap {tile // 4}": tiled,
            "tiles, no overlap": _cut(model, before, after),
        }
        for way, told in found.items():
            ways[way] = ways.get(way, PixelCounts.empty(len(told))) + count(told, truth)
    print(f"{len(files)} scenes of {before.shape[1]}x{before.shape[0]}, threshold {threshold:.3f}")
    for way, counts in ways.items():
        score = numbers(counts, threshold)
        print(f"  {way:<28} F1 {score['f1']:.4f}, precision {score['precision']:.4f}, recall {score['recall']:.4f}")
    print(f"  mean difference of P(changed) between tiles with overlap and one pass: {differ:.4f}")


def _cut(model: Any, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Tiles side by side, each on its own."""
    tile, (height, width) = model.bundle.tile, before.shape[:2]
    told = np.zeros((len(model.classes), height, width), np.float32)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            at = np.s_[top : top + tile, left : left + tile]
            told[:, at[0], at[1]] = model.segment(np.stack([before[at], after[at]])[None])[0]
    return told


def _large(run: Path, folder: Path, scenes: Path, side: int) -> None:
    """A pair of GeoTIFFs made of mirrored and dimmed copies of a scene, predicted by the command."""
    import rasterio
    from rasterio.transform import from_origin

    file = min((scenes / "A").iterdir())
    profile = {
        "driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32614",
        "transform": from_origin(600_000, 3_300_000, 0.5, 0.5), "tiled": True, "blockxsize": _BLOCK,
        "blockysize": _BLOCK, "compress": "deflate", "nodata": None,
    }  # fmt: skip
    for part in ("A", "B"):
        scene = np.asarray(Image.open(scenes / part / file.name).convert("RGB"))
        with rasterio.open(folder / f"{part}.tif", "w", **profile) as raster:
            for row, top in enumerate(range(0, side, len(scene))):
                for column, left in enumerate(range(0, side, len(scene))):
                    piece = scene[:: -1 if row % 2 else 1, :: -1 if column % 2 else 1]
                    dimmed = (piece * (1 - 0.02 * ((row + column) % 8))).astype(np.uint8)
                    shown = dimmed[: side - top, : side - left]
                    window = rasterio.windows.Window(left, top, shown.shape[1], shown.shape[0])
                    raster.write(shown.transpose(2, 0, 1), window=window)
    words: list[str | Path] = ["predict", run, folder / "A.tif", folder / "B.tif", "-o", folder / "change.tif"]
    taken = regraft(*words, cache=folder / "cache", folder=folder)
    print(f"{side}x{side}: {taken.seconds:.0f} s, peak {taken.peak_mb:.0f} MB (wanted: below {PEAK_MB:.0f})")
    print(f"  {taken.lines[-1]}")
    with rasterio.open(folder / "change-probability.tif") as raster:
        same = raster.transform == profile["transform"] and raster.crs == rasterio.crs.CRS.from_string("EPSG:32614")
        probability = raster.read(1)
    print(f"  coordinates as in the input: {'yes' if same else 'NO'}")
    tile = load_change(run).bundle.tile
    _seams(probability, side, tile)


def _seams(probability: NDArray[np.float32], side: int, tile: int) -> None:
    """The largest and the usual jump from one pixel to the next, where a tile begins or ends and elsewhere."""
    lefts = plan(side, side, tile=tile, overlap=tile // 4).lefts
    borders = sorted({edge for left in lefts for edge in (left, left + tile) if 0 < edge < side})
    for axis, name in ((1, "columns"), (0, "rows")):
        jumps = np.abs(np.diff(probability, axis=axis))
        at = np.zeros(side - 1, bool)
        at[np.array(borders) - 1] = True
        border, inside = np.compress(at, jumps, axis=axis), np.compress(~at, jumps, axis=axis)
        print(
            f"  jumps between {name}: at the borders of tiles largest {border.max():.3f}, mean {border.mean():.5f};"
            f" inside largest {inside.max():.3f}, mean {inside.mean():.5f}"
        )


if __name__ == "__main__":
    main()
