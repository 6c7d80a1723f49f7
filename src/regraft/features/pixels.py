"""Pixels: images decoded and resized once and kept as uint8, so that no later epoch decodes a JPEG.

A file of the store (see `pixel_store`) is read where and when a row of it is asked for, so nothing stays in memory, no
file stays open, and processes share what the system keeps of the files.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from regraft.atomic import remove_leftovers
from regraft.data.decode import MAX_PIXELS
from regraft.data.manifest import Skipped
from regraft.errors import CannotWrite, ImageRejected
from regraft.features.extract import read_hashed, silent
from regraft.features.pixel_store import Found, append, open_space
from regraft.features.runtime import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from regraft.backbones.preprocessing import Preprocessing
    from regraft.data.manifest import Item

    View = Literal["frame", "plain"]

LIMIT = 50_000_000_000
"""Bytes of one data set's pixels that are kept unless the caller says otherwise."""

_SEGMENT_BYTES = 64_000_000
_SEGMENT_SECONDS = 20.0
_AT_A_TIME = 32


class Pixels(Protocol):
    """Images as uint8, by row. Other processes may be given them."""

    def __len__(self) -> int:
        """Number of images."""

    def image(self, row: int) -> NDArray[np.uint8]:
        """One image, uint8 (h, w, 3), the caller's own.

        Raises:
            ImageRejected: its file had to be decoded again and is gone or has changed.
        """


@dataclass(frozen=True)
class DecodedPixels:
    """Pixels that are decoded from the files each time.

    Attributes:
        items: hashed.
        preprocessing: resizes.
        view: "frame" or "plain".
        max_pixels: images with more are rejected.
    """

    items: tuple[Item, ...]
    preprocessing: Preprocessing
    view: View
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.items)

    def image(self, row: int) -> NDArray[np.uint8]:
        """See `Pixels.image`."""
        return self.decoded(row)[0]

    def decoded(self, row: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """The image and what the decoder said of it.

        Raises:
            ImageRejected: with the reason.
        """
        at_least = self.preprocessing.at_least()
        found = read_hashed(self.items[row], max_pixels=self.max_pixels, at_least=at_least)
        resize = self.preprocessing if self.view == "plain" else self.preprocessing.frame
        return resize(found.image), found.notes


@dataclass(frozen=True)
class StoredPixels:
    """Pixels in the store; what is not there, or was removed or damaged meanwhile, is decoded.

    Attributes:
        files: the segments.
        places: (N, 4) int64: number of the file, position in it, height, width; the first is -1 for what is nowhere.
        source: the same images, from their files.
    """

    files: tuple[Path, ...]
    places: NDArray[np.int64]
    source: DecodedPixels

    def __len__(self) -> int:
        return len(self.places)

    def image(self, row: int) -> NDArray[np.uint8]:
        """See `Pixels.image`."""
        file, start, height, width = self.places[row].tolist()
        if file >= 0:
            try:
                pixels = np.fromfile(self.files[file], np.uint8, height * width * 3, offset=start)
            except OSError:
                return self.source.image(row)
            if pixels.size == height * width * 3:
                return pixels.reshape(height, width, 3)
        return self.source.image(row)


@dataclass(frozen=True)
class Kept:
    """Pixels of the images that could be decoded, and what became of the others.

    Attributes:
        pixels: one row for each item of `items`.
        items: the items that could be decoded, in the order they came.
        rejected: those that could not, with the reason.
        notes: what the decoder said of an image, by path.
        from_store: number of different images that were in the store already.
        computed: number of different images that were decoded now.
        note: why pixels are not kept, in a sentence; empty where they are.
    """

    pixels: Pixels
    items: tuple[Item, ...]
    rejected: tuple[Skipped, ...]
    notes: dict[str, tuple[str, ...]]
    from_store: int
    computed: int
    note: str = ""


def keep_pixels(
    items: Sequence[Item],
    preprocessing: Preprocessing,
    cache: Path,
    *,
    view: View,
    max_pixels: int = MAX_PIXELS,
    limit: int = LIMIT,
    on_progress: Callable[[int, int], None] = silent,
) -> Kept:
    """Decode and resize all items that the store lacks, and keep them there; at most about 64 MB are in memory.

    Args:
        items: hashed items (every key filled in).
        preprocessing: resizes; its mean and std matter only where they fill a padded frame.
        cache: the cache folder.
        view: "frame", what random crops are taken from, or "plain", exactly what the preprocessing gives.
        max_pixels: images with more are rejected before decoding.
        limit: bytes; a data set that needs more, or more than half of the free disk, is not kept but decoded anew
            each time, and `note` says so.
        on_progress: told the number of images done and the total to be decoded.
    """
    folder = open_space(cache, preprocessing, view)
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(str(item.key), item)
    found = Found.of(folder)
    missing = [item for key, item in first.items() if key not in found.places]
    job = _Job(folder, DecodedPixels(tuple(missing), preprocessing, view, max_pixels))
    if missing:
        remove_leftovers(folder)
        job.note = _too_much(folder, len(missing), len(first), _expected_bytes(preprocessing, view), limit)
        _run(job, on_progress)
        found = Found.of(folder)
    kept = tuple(item for item in items if str(item.key) not in job.rejected)
    notes = {**found.notes, **job.notes}
    return Kept(
        _pixels(found, DecodedPixels(kept, preprocessing, view, max_pixels)),
        kept,
        tuple(Skipped(i.path, job.rejected[str(i.key)]) for i in items if str(i.key) in job.rejected),
        {item.path: tuple(notes[str(item.key)]) for item in kept if item.key in notes},
        len(first) - len(missing),
        len(missing) - len(job.rejected),
        job.note,
    )


def _expected_bytes(preprocessing: Preprocessing, view: View) -> int:
    """About how many bytes an image takes; photographs are four to three."""
    height, width = preprocessing.size
    if view == "plain":
        return height * width * 3
    if preprocessing.mode == "shorter":
        return preprocessing.resize * preprocessing.resize * 4
    return int(height * width * 3 * (preprocessing.resize / min(height, width)) ** 2)


def _too_much(folder: Path, missing: int, images: int, each: int, limit: int) -> str:
    """Why the pixels are better not kept, or nothing."""
    free = shutil.disk_usage(folder).free
    if images * each > limit:
        reason = f"the limit is {limit / 1e9:.1f} GB"
    elif missing * each > free / 2:
        reason = f"only {free / 1e9:.1f} GB are free, of which half may be used"
    else:
        return ""
    return (
        f"Decoded images are not kept: {images} of them would take about {images * each / 1e9:.1f} GB and {reason}."
        " Each epoch decodes the files again."
    )


def _pixels(found: Found, source: DecodedPixels) -> Pixels:
    nowhere = (-1, 0, 0, 0)
    places = [found.places.get(str(item.key), nowhere) for item in source.items]
    if all(place is nowhere for place in places):
        return source
    return StoredPixels(found.files, np.array(places, np.int64).reshape(-1, 4), source)


@dataclass
class _Job:
    """The images to be decoded, what is waiting to be written, and what was found on the way."""

    folder: Path
    source: DecodedPixels
    note: str = ""
    rejected: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    waiting: dict[str, NDArray[np.uint8]] = field(default_factory=dict)


def _run(job: _Job, on_progress: Callable[[int, int], None]) -> None:
    total, size, began = len(job.source), 0, time.perf_counter()
    for done, (key, pixels) in enumerate(_decode_all(job), 1):
        if pixels is not None and not job.note:
            job.waiting[key] = pixels
            size += pixels.size
        if size >= _SEGMENT_BYTES or time.perf_counter() - began > _SEGMENT_SECONDS:
            _write(job)
            size, began = 0, time.perf_counter()
        on_progress(done, total)
    _write(job)


def _decode_all(job: _Job) -> Iterator[tuple[str, NDArray[np.uint8] | None]]:
    """Each image's key and pixels, in order; None for what is rejected."""

    def work(row: int) -> tuple[str, NDArray[np.uint8] | None]:
        key = str(job.source.items[row].key)
        try:
            pixels, said = job.source.decoded(row)
        except ImageRejected as error:
            job.rejected[key] = error.reason
            return key, None
        if said:
            job.notes[key] = list(said)
        return key, pixels

    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(job.source), _AT_A_TIME):
            yield from pool.map(work, range(start, min(start + _AT_A_TIME, len(job.source))))


def _write(job: _Job) -> None:
    """Keep what is waiting; a full disk ends the keeping, not the work."""
    try:
        if job.waiting:
            append(job.folder, job.waiting, {key: said for key, said in job.notes.items() if key in job.waiting})
    except CannotWrite as error:
        job.note = f"Decoded images are no longer kept ({error}). Each epoch decodes the rest of the files again."
    job.waiting.clear()
