"""Extraction: every image of a manifest through a frozen backbone, once.

Decoding and inference share the runtime's threads, and only a bounded number of images is in memory at any time.
Rows go to the store in segments every few seconds, so a killed extraction loses little.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.decode import MAX_PIXELS, decode
from regraft.data.manifest import Skipped, sha256_of
from regraft.errors import ImageRejected
from regraft.features.store import Store
from regraft.features.table import FeatureTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from regraft.backbones.preprocessing import Preprocessing
    from regraft.data.decode import Decoded
    from regraft.data.manifest import Item
    from regraft.features.runtime import Runtime
    from regraft.features.table import FeatureSpace

_FIRST_CHUNK, _LARGEST_CHUNK = 128, 4096
_CHUNK_SECONDS = 5.0


@dataclass(frozen=True)
class Extraction:
    """Features of the images that could be decoded, and what became of the others.

    Attributes:
        table: one row for each item of `items`.
        items: the items that have features, in the order they came.
        rejected: those that could not be decoded, with the reason.
        notes: what the decoder said of an image, by path.
        from_store: number of different images whose rows were there already.
        computed: number of different images that were run now.
        decode_seconds: busy time of the decoding threads together; it overlaps with inference.
        seconds: wall time of decoding and inference together.
    """

    table: FeatureTable
    items: tuple[Item, ...]
    rejected: tuple[Skipped, ...]
    notes: dict[str, tuple[str, ...]]
    from_store: int
    computed: int
    decode_seconds: float = 0.0
    seconds: float = 0.0


@dataclass
class _Job:
    """One extraction: what stays the same for all chunks, and what accumulates (from several threads)."""

    spaces: Sequence[FeatureSpace]
    stores: Sequence[Store]
    lacking: Sequence[set[str]]
    runtime: Runtime
    max_pixels: int
    rejected: dict[str, str]
    decode_seconds: list[float] = field(default_factory=list)


def silent(done: int, total: int) -> None:
    """Tell nobody about progress."""
    del done, total


def extract(
    items: Sequence[Item],
    spaces: Sequence[FeatureSpace],
    cache: Path,
    runtime: Callable[[], Runtime],
    *,
    max_pixels: int = MAX_PIXELS,
    on_progress: Callable[[int, int], None] = silent,
) -> Extraction:
    """Features of all items, averaged over the spaces' views; only what the store lacks is computed.

    Args:
        items: hashed items (every key filled in).
        spaces: one for each view ("plain", "flip"), alike otherwise.
        cache: the cache folder.
        runtime: makes the runtime; called only when something must be computed.
        max_pixels: images with more are rejected before decoding.
        on_progress: told the number of images done and the total to be computed.

    Returns:
        The extraction; rows and items are in the order of `items`.
    """
    stores = [Store.open(cache, space) for space in spaces]
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(str(item.key), item)
    lacking = [store.missing(first) for store in stores]
    todo = [item for key, item in first.items() if any(key in lack for lack in lacking)]
    started = time.perf_counter()
    rejected: dict[str, str] = {}
    job: _Job | None = None
    if todo:
        job = _Job(spaces, stores, lacking, runtime(), max_pixels, rejected)
        _run(job, todo, on_progress)
    kept = tuple(item for item in items if str(item.key) not in rejected)
    keys = [str(item.key) for item in kept]
    gathered = [store.gather(keys) for store in stores]
    notes_by_key = {key: tuple(said) for _, said_by_key in gathered for key, said in said_by_key.items()}
    return Extraction(
        FeatureTable(
            tuple(keys),
            _mean([rows for rows, _ in gathered]),
            tuple(space.fingerprint() for space in spaces),
        ),
        kept,
        tuple(Skipped(i.path, rejected[str(i.key)]) for i in items if str(i.key) in rejected),
        {item.path: notes_by_key[str(item.key)] for item in kept if item.key in notes_by_key},
        len(first) - len(todo),
        len(todo) - len(rejected),
        sum(job.decode_seconds) if job is not None else 0.0,
        time.perf_counter() - started,
    )


def _mean(tables: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    if len(tables) == 1:
        return tables[0]
    total = tables[0].copy()
    for rows in tables[1:]:
        total += rows
    total /= np.float32(len(tables))
    return total


def _run(job: _Job, todo: Sequence[Item], on_progress: Callable[[int, int], None]) -> None:
    """Run all of `todo` in chunks that grow until one takes some seconds; each chunk becomes durable."""
    start, size = 0, _FIRST_CHUNK
    while start < len(todo):
        began = time.perf_counter()
        chunk = todo[start : start + size]
        _run_chunk(job, chunk)
        start += len(chunk)
        on_progress(start, len(todo))
        if time.perf_counter() - began < _CHUNK_SECONDS:
            size = min(2 * size, _LARGEST_CHUNK)
    for store in job.stores:
        store.compact()


def _run_chunk(job: _Job, chunk: Sequence[Item]) -> None:
    """Run one chunk and append its rows to the stores."""
    views = len(job.spaces)
    rows: list[dict[str, NDArray[np.float32]]] = [{} for _ in range(views)]
    notes: dict[str, list[str]] = {}

    def load(position: int) -> list[tuple[int, NDArray[np.uint8]]]:
        item = chunk[position]
        key, began = str(item.key), time.thread_time()
        try:
            pixels, said = _decode(item, job.spaces[0].preprocessing, job.max_pixels)
        except ImageRejected as error:
            job.rejected[key] = error.reason
            return []
        finally:
            job.decode_seconds.append(time.thread_time() - began)
        if said:
            notes[key] = list(said)
        return [
            (position * views + view, pixels if space.view == "plain" else _flipped(pixels))
            for view, space in enumerate(job.spaces)
            if key in job.lacking[view]
        ]

    def on_row(index: int, row: NDArray[np.float32]) -> None:
        rows[index % views][str(chunk[index // views].key)] = np.array(row, np.float32)

    job.runtime.run(len(chunk), load, on_row)
    for store, found in zip(job.stores, rows, strict=True):
        if found:
            store.append(list(found), np.stack(list(found.values())), {k: v for k, v in notes.items() if k in found})


def _flipped(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels[:, ::-1])


def _decode(item: Item, preprocessing: Preprocessing, max_pixels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    decoded = read_hashed(item, max_pixels=max_pixels, at_least=preprocessing.at_least())
    return preprocessing(decoded.image), decoded.notes


def read_hashed(item: Item, *, max_pixels: int, at_least: int) -> Decoded:
    """Read an image, check that its bytes are those that were hashed, and decode it (see `regraft.data.decode`).

    Raises:
        ImageRejected: with the reason.
    """
    try:
        with open(item.path, "rb") as handle:  # noqa: PTH123 - a path may hold bytes that are not UTF-8
            data = handle.read()
    except OSError as error:
        raise ImageRejected(item.path, f"cannot be read ({error.strerror or error})") from error
    if sha256_of(data) != item.key:
        raise ImageRejected(item.path, "changed while it was being read; run again")
    return decode(data, path=item.path, max_pixels=max_pixels, at_least=at_least)
