"""The store of features: content-addressed, append-only, safe to kill and to share between processes.

A feature space is a folder; its rows lie in segments, safetensors files that are written beside and renamed,
and never changed after. So there is no index to corrupt and no lock to wait for: a reader takes the segments
it sees, and two writers of one row leave it twice, with the same value. A key is the SHA-256 of the image
file's bytes and the folder's name hashes everything else (see `FeatureSpace`), so a row cannot be stale.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import atomic_file, check_writable, remove_leftovers, write_text
from regraft.errors import CannotWrite, OptionError
from regraft.features.segments import KEY_BYTES, open_segment, read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from regraft.features.segments import Segment
    from regraft.features.table import FeatureSpace

_MANY_SEGMENTS = 64
_LARGE_ROWS, _LARGE_BYTES = 16_384, 2**25


def cache_folder() -> Path:
    """Where features, converted models and cards are kept: REGRAFT_CACHE_DIR or the platform's cache folder."""
    named = os.environ.get("REGRAFT_CACHE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("regraft", appauthor=False))


def usable_cache(folder: Path) -> Path:
    """The folder itself.

    Raises:
        OptionError: nothing can be kept there.
    """
    try:
        check_writable(folder / "features")
    except CannotWrite as error:
        raise OptionError(
            f"The cache folder {folder} cannot be written. Set REGRAFT_CACHE_DIR to a folder that can."
        ) from error
    return folder


@dataclass(frozen=True)
class Store:
    """The rows of one feature space.

    Attributes:
        folder: the space's folder.
    """

    folder: Path

    @classmethod
    def open(cls, cache: Path, space: FeatureSpace) -> Store:
        """The store of a space below a cache folder; made where it is not there yet."""
        folder = cache / "features" / space.fingerprint()
        if not (folder / "space.json").exists():
            write_text(folder / "space.json", json.dumps(space.to_dict(), indent=1, sort_keys=True) + "\n")
        return cls(folder)

    def segments(self) -> list[Segment]:
        """All readable segments, in the order of their names; damaged ones are left out, so they are recomputed."""
        while True:
            paths = sorted(p for p in self.folder.glob("*.safetensors") if not p.name.startswith("."))
            found = [(path, open_segment(path)) for path in paths]
            # A segment that vanished between listing and opening was compacted into a newer one: list again.
            if all(segment is not None or path.exists() for path, segment in found):
                return [segment for _, segment in found if segment is not None]

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` (hex) that have no row."""
        lacking = set(keys)
        for segment in self.segments():
            lacking.difference_update(row.tobytes().hex() for row in segment.keys)
        return lacking

    def gather(self, keys: Sequence[str]) -> tuple[NDArray[np.float32], dict[str, list[str]]]:
        """The rows of `keys`, in order: (N, D) float32, and the decoder's notes by key.

        Raises:
            KeyError: a key that has no row.
        """
        positions: dict[str, list[int]] = {}
        for position, key in enumerate(keys):
            positions.setdefault(key, []).append(position)
        notes: dict[str, list[str]] = {}
        table: NDArray[np.float32] | None = None
        asked = set(positions)
        for segment in self.segments():
            notes.update({key: said for key, said in segment.notes.items() if key in asked})
            rows = [(n, key) for n, key in enumerate(row.tobytes().hex() for row in segment.keys) if key in positions]
            if not rows:
                continue
            if table is None:
                table = np.empty((len(keys), segment.features.shape[1]), np.float32)
            values = segment.features[[n for n, _ in rows]]
            for value, (_, key) in zip(values, rows, strict=True):
                table[positions.pop(key, [])] = value
        if positions:
            raise KeyError(next(iter(positions)))
        return (np.empty((0, 0), np.float32) if table is None else table), notes

    def rows(self, keys: Sequence[str]) -> Rows:
        """The rows of `keys`, in order, mapped and not read.

        Raises:
            KeyError: a key that has no row.
        """
        positions: dict[str, list[int]] = {}
        for position, key in enumerate(keys):
            positions.setdefault(key, []).append(position)
        tables: list[NDArray[np.float32]] = []
        places = np.empty((len(keys), 2), np.int64)
        for segment in self.segments():
            found = [(n, key) for n, key in enumerate(r.tobytes().hex() for r in segment.keys) if key in positions]
            for n, key in found:
                places[positions.pop(key, [])] = len(tables), n
            if found:
                tables.append(segment.features)
        if positions:
            raise KeyError(next(iter(positions)))
        return Rows(self.folder, tuple(keys), tuple(tables), places)

    def append(self, keys: Sequence[str], features: NDArray[np.float32], notes: dict[str, list[str]]) -> None:
        """Add rows as one new segment: complete or absent, durable when this returns."""
        if not keys:
            return
        self._write(np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, KEY_BYTES), features, notes)

    def _write(self, keys: NDArray[np.uint8], features: NDArray[np.float32], notes: dict[str, list[str]]) -> Path:
        from safetensors.numpy import save_file

        target = self.folder / f"{uuid.uuid4().hex}.safetensors"
        arrays: dict[str, NDArray[Any]] = {
            "keys": np.ascontiguousarray(keys),
            "features": np.ascontiguousarray(features, np.float32),
        }
        with atomic_file(target) as temporary:
            save_file(arrays, temporary, metadata={"notes": json.dumps(notes)})
        return target

    def compact(self, *, at_least: int = _MANY_SEGMENTS) -> None:
        """Merge the segments into one when there are `at_least` that many; rows that stand twice are kept once.

        Only one process does so at a time; readers go on reading, since a mapped file outlives its name.
        """
        import filelock

        paths = [p for p in self.folder.glob("*.safetensors") if not p.name.startswith(".")]
        if len(paths) < at_least:
            return
        try:
            with filelock.FileLock(self.folder / ".compact.lock", timeout=0):
                self._merge()
        except filelock.Timeout:
            return

    def _merge(self) -> None:
        remove_leftovers(self.folder)
        segments = self.segments()
        # Large segments are left alone, so merging costs what the small ones weigh, and no more memory than that.
        small = [s for s in segments if len(s.keys) < _LARGE_ROWS and s.features.nbytes < _LARGE_BYTES]
        if len(small) < 2:  # noqa: PLR2004
            return
        keys = np.concatenate([s.keys for s in small])
        _, first = np.unique(keys, axis=0, return_index=True)
        features = np.concatenate([s.features for s in small])[first]
        self._write(keys[first], features, {k: v for s in small for k, v in s.notes.items()})
        for segment in small:
            segment.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Rows:
    """Rows of a store, read from disk one at a time; they stay readable when the store is compacted or pruned.

    Another process may be given them: it maps the files anew.

    Attributes:
        folder: of the feature space.
        keys: SHA-256 of each image's bytes, in hex.
        tables: (n, D) float32 each, mapped.
        places: (N, 2), for each key the number of its table and of its row in there.
    """

    folder: Path
    keys: tuple[str, ...]
    tables: tuple[NDArray[np.float32], ...]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def row(self, number: int) -> NDArray[np.float32]:
        """The features of key `number`: float32 (D,), the caller's own."""
        table, row = self.places[number]
        return np.array(self.tables[table][row])

    def __reduce__(self) -> tuple[Callable[..., Rows], tuple[Path, tuple[str, ...]]]:
        return _rows_again, (self.folder, self.keys)


def _rows_again(folder: Path, keys: tuple[str, ...]) -> Rows:
    return Store(folder).rows(keys)


@dataclass(frozen=True, slots=True)
class SpaceSummary:
    """What one feature space, space of pixels or converted model takes up.

    Attributes:
        folder: where it lies.
        what: "features", "pixels" or "model".
        description: for people: backbone, precision, view.
        rows: number of rows, one an image (0 for models).
        size: bytes on disk.
        used: seconds since the epoch of the last change.
    """

    folder: Path
    what: str
    description: str
    rows: int
    size: int
    used: float


def summaries(cache: Path) -> list[SpaceSummary]:
    """Everything in the cache, the most recently changed first."""
    found = [_summary(p, "features", "space.json") for p in (cache / "features").glob("[!.]*")]
    found += [_summary(p, "pixels", "space.json") for p in (cache / "pixels").glob("[!.]*")]
    found += [_summary(p, "model", "model.json") for p in (cache / "models").glob("[!.]*")]
    return sorted(found, key=lambda s: -s.used)


def _summary(folder: Path, what: str, description: str) -> SpaceSummary:
    files = [p for p in folder.rglob("*") if p.is_file()]
    try:
        facts: dict[str, Any] = json.loads((folder / description).read_text("utf-8"))
    except (OSError, ValueError):
        facts = {}
    words = [str(facts[k]) for k in ("architecture", "runtime", "precision", "resizing", "view") if facts.get(k)]
    rows = sum(map(_rows_in, folder.glob("[!.]*.safetensors"))) if what != "model" else 0
    return SpaceSummary(
        folder,
        what,
        " ".join(words) or "unknown",
        rows,
        sum(p.stat().st_size for p in files),
        max((p.stat().st_mtime for p in files), default=folder.stat().st_mtime),
    )


def _rows_in(segment: Path) -> int:
    """How many rows a segment holds; none where it is damaged."""
    try:
        return int(read_header(segment)[0]["keys"]["shape"][0])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError):
        return 0


def prune(cache: Path, *, older_than: float | None = None) -> list[SpaceSummary]:
    """Remove what was not changed for `older_than` days, or everything; returns what was removed.

    Nothing but spaces of features and pixels, converted models and cards is touched, whatever else lies in the folder.
    """
    import time

    limit = time.time() - older_than * 86_400 if older_than is not None else float("inf")
    removed = [s for s in summaries(cache) if s.used <= limit]
    for summary in removed:
        shutil.rmtree(summary.folder, ignore_errors=True)
    if older_than is None:
        shutil.rmtree(cache / "cards", ignore_errors=True)
    for folder in (cache / "features", cache / "pixels", cache / "models"):
        if folder.is_dir():
            remove_leftovers(folder)
            for space in folder.iterdir():
                remove_leftovers(space)
    return removed
