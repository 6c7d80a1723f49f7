"""What changed between two dates of a scene of any size: tiles through the network, blended, to maps and polygons.

The memory does not grow with the scene's height: a row of tiles is held, and what is finished of it goes to disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regraft.data.decode import MAX_PIXELS
from regraft.data.names import so_many
from regraft.errors import DataError, OptionError
from regraft.inference.change import outputs, tiles, work
from regraft.inference.change.align import open_pair
from regraft.inference.change.products import Products, check, check_free, make, publish, ready
from regraft.inference.change.rasters import Raster, described

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Segment = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Pairs (B, 2, H, W, C) in the files' dtype -> probabilities (B, K, H, W); the network behind it normalises them."""

_FORMAT = 2
_USUAL = 256  # side of a tile for which `batch` is meant


@dataclass(frozen=True)
class SceneResult:
    """What was made of a scene.

    Attributes:
        paths: the mask, the map of probabilities, and the polygons if asked for.
        changed: share of changed pixels among those with data in both dates; None where there are none.
        seconds: this call took, without those of interrupted calls before.
        notices: what was decided on the way and is worth telling.
    """

    paths: tuple[Path, ...]
    changed: float | None
    seconds: float
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Task:
    """A scene's prediction as it was asked for."""

    before: Path
    after: Path
    segment: Segment
    identity: str
    tile: int
    overlap: int
    threshold: float
    batch: int
    align: bool
    products: Products
    folder: Path
    say: Callable[[str], None]
    progress: Callable[[int, int], None]

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.products.classes)

    def facts(self) -> dict[str, Any]:
        """What the finished rows depend on, as JSON holds it."""
        return {
            "format": _FORMAT,
            "before": _file_facts(self.before),
            "after": _file_facts(self.after),
            "model": self.identity,
            "tile": self.tile,
            "overlap": self.overlap,
            "threshold": self.threshold,
            "number of classes": self.classes,
            "align": self.align,
        }


def predict_scene(
    before: str | Path,
    after: str | Path,
    output: Path,
    segment: Segment,
    *,
    identity: str,
    tile: int = 256,
    overlap: int = 64,
    threshold: float = 0.5,
    batch: int = 2,
    classes: Sequence[str] = ("unchanged", "changed"),
    align: bool = False,
    overwrite: bool = False,
    vector: Path | None = None,
    min_area: float = 0.0,
    simplify: float = 0.0,
    max_pixels: int = MAX_PIXELS,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> SceneResult:
    """Map what changed between two dates of a scene.

    Interrupted at any time, the same call goes on after the last row of tiles that was done, and ends with the same
    maps; what is done is kept in `NAME.regraft-part` beside the output.

    Args:
        before: the first date, whose grid the maps have.
        after: the second.
        output: the mask, .tif (classes; 255 no data) or .png (two classes: 0 and 255); the probability of change is
            written beside it as `NAME-probability` (float32, -1 no data; or 8-bit).
        segment: the network.
        identity: of the network and its weights; unfinished work of another one is not gone on with.
        tile: side of a tile in pixels; that of the training tiles is best, as a network sees one tile at a time.
        overlap: pixels that neighbouring tiles share, over which they are blended.
        threshold: probability of change from which on a pixel is changed; of several kinds, the likeliest is told.
        batch: tiles given to the network at once.
        classes: names by number; number 0 is unchanged.
        align: read the second date on the grid of the first if it lies on another.
        overwrite: replace outputs that are there.
        vector: polygons of what changed, .gpkg or .geojson.
        min_area: smaller polygons are left out; as of `vectors.polygons`.
        simplify: tolerance in pixels, as of `vectors.polygons`.
        max_pixels: cap on pictures that are decoded whole (PNG, JPEG).
        say: told a line at the beginning, when going on and when stopping.
        progress: told tiles done, and in all.

    Raises:
        DataError: the dates cannot be read, or do not lie on one grid.
        OptionError: a value that is not taken.
        RunExists: an output is there already, or another process works on this one.
        MissingExtra: a package of the extra `geo` is not installed.
    """
    started = time.monotonic()
    target = Path(output)
    products = Products(target, tuple(classes), None if vector is None else Path(vector), min_area, simplify)
    task = _Task(
        Path(before), Path(after), segment, identity, tile, overlap, threshold, batch, align, products,
        work.work_folder(target), say, progress,
    )  # fmt: skip
    _check(task)
    with open_pair(before, after, align=align, max_pixels=max_pixels) as (first, second, notices):
        plan = tiles.plan(*first.size, tile=tile, overlap=overlap).fitted()
        task = replace(task, tile=plan.tile, overlap=plan.overlap, batch=_fitting(batch, plan.tile))
        with work.held(task.folder):
            noted = _done(task, first, second, plan, notices, overwrite=overwrite)
            publish(products, task.folder, overwrite=overwrite)
    share = noted["changed"] / noted["with_data"] if noted["with_data"] else None
    return SceneResult(products.paths(), share, time.monotonic() - started, (*notices, *noted["notices"]))


def _fitting(batch: int, tile: int) -> int:
    """Tiles at a time that need no more memory than `batch` of the usual side."""
    return max(1, min(batch, batch * _USUAL**2 // tile**2))


def _file_facts(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path.absolute()), stat.st_size, stat.st_mtime_ns]


def _check(task: _Task) -> None:
    """Refuse what cannot be done, before anything is."""
    if not 0 <= task.threshold <= 1:
        raise OptionError(f"threshold is {task.threshold}: expected a probability, 0 to 1.")
    if task.batch < 1:
        raise OptionError(f"batch is {task.batch}: expected a number of tiles, at least 1.")
    check(task.products, (task.before, task.after))


def _done(
    task: _Task, first: Raster, second: Raster, plan: tiles.Plan, notices: tuple[str, ...], *, overwrite: bool
) -> dict[str, Any]:
    """What is noted of the complete products in the work folder, which are made unless they are there."""
    facts = task.facts()
    noted = ready(task.products, task.folder, facts)
    if noted is not None:
        return noted
    # Before unfinished work of something else is removed for this.
    check_free(list(task.products.places().values()), overwrite=overwrite)
    rows = work.begin(task.folder, facts, task.say)
    for notice in notices:
        task.say(notice)
    _predict_rows(task, first, second, plan, rows)
    return make(task.products, task.folder, first, len(plan.tops), facts, task.say)


def _predict_rows(task: _Task, first: Raster, second: Raster, plan: tiles.Plan, rows: int) -> None:
    """Predict the rows of tiles that are not done yet, and keep each."""
    task.say(
        f"{task.before.name} and {task.after.name}: {described(first)}, {so_many(plan.tiles, 'tile', 'tiles')} of"
        f" {task.tile} x {task.tile}"
    )
    if rows:
        task.say(f"going on after {rows} of {len(plan.tops)} rows of tiles, from {task.folder}")
    task.progress(rows * len(plan.lefts), plan.tiles)
    carried = work.carried(task.folder, rows - 1) if rows else np.zeros((task.classes, 0, plan.width))
    try:
        for row in range(rows, len(plan.tops)):
            has_data = np.zeros((min(plan.tile, plan.height), plan.width), bool)
            blended, carried = tiles.blend(plan, row, _answers(task, (first, second), plan, row, has_data), carried)
            mask, probability = decided(blended, has_data[: blended.shape[1]], task.threshold)
            work.save_row(task.folder, row, mask, probability, carried)
            rows = row + 1
    except BaseException:
        if rows:
            task.say(
                f"stopped after {rows} of {len(plan.tops)} rows of tiles: they are kept in {task.folder}, and the same "
                "command goes on from there"
            )
        raise


def _answers(
    task: _Task, dates: tuple[Raster, Raster], plan: tiles.Plan, row: int, has_data: NDArray[np.bool_]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Number and probabilities of the tiles of a row, from left to right; those without any data are left out.

    `has_data` (tile, width) is filled on the way. A tile left out has no pixel that is shown, so none is missed.
    """
    top, tall, wide = plan.tops[row], min(plan.tile, plan.height), min(plan.tile, plan.width)
    waiting: list[tuple[int, NDArray[Any]]] = []
    for column, left in enumerate(plan.lefts):
        at = (top, left, tall, wide)
        valid = dates[0].valid(*at) & dates[1].valid(*at)
        has_data[:, left : left + wide] = valid
        if valid.any():
            pair = np.stack([date.read(*at) for date in dates])
            pair[:, ~valid] = 0  # in both dates, so that no change is seen there
            waiting.append((column, np.stack([tiles.padded(values, plan.tile) for values in pair])))
        if waiting and (len(waiting) == task.batch or column + 1 == len(plan.lefts)):
            found = _segmented(task, np.stack([pair for _, pair in waiting]))
            yield from ((number, values) for (number, _), values in zip(waiting, found, strict=True))
            waiting = []
        if not waiting:
            task.progress(row * len(plan.lefts) + column + 1, plan.tiles)


def _segmented(task: _Task, pairs: NDArray[Any]) -> NDArray[np.float32]:
    found = task.segment(pairs)
    expected = (len(pairs), task.classes, *pairs.shape[2:4])
    if found.shape != expected:
        raise DataError(f"the network gave probabilities of the shape {found.shape}, expected {expected}.")
    if not np.isfinite(found).all():
        raise DataError("the network gave probabilities that are not numbers: its weights or the images are at fault.")
    return found


def classes_of(probabilities: NDArray[np.floating[Any]], threshold: float) -> NDArray[np.uint8]:
    """The class of each pixel: changed where P(changed) reaches the threshold, and then the likeliest kind of change.

    Args:
        probabilities: (K, h, w), class 0 being unchanged.
        threshold: 0..1.

    Returns:
        (h, w).
    """
    changed = np.clip(1 - probabilities[0], 0, 1).astype(np.float32) >= np.float32(threshold)
    found: NDArray[np.uint8] = np.where(changed, probabilities[1:].argmax(axis=0) + 1, 0).astype(np.uint8)
    return found


def decided(
    blended: NDArray[np.float64], has_data: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Class and probability of change (n, width) from blended probabilities (K, n, width)."""
    probability = np.clip(1 - blended[0], 0, 1).astype(np.float32)
    mask = classes_of(blended, threshold)
    mask[~has_data] = outputs.NO_DATA_CLASS
    probability[~has_data] = outputs.NO_DATA_PROBABILITY
    return mask, probability
