"""The manifest: one table that says which images there are, what they show and who may learn from them."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regraft.atomic import write_text
from regraft.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SPLITS = ("train", "val", "test")
COLUMNS = ("path", "label", "split", "group", "sha256")

_MANY_CLASSES = 20
# Files to hash: in one task, and in work at a time.
_BLOCK = 16
_STRETCH = 4096


@dataclass(frozen=True, slots=True)
class Item:
    """One image.

    Attributes:
        path: where the file is, absolute.
        label: the class name, or None where nobody has said.
        split: "train", "val" or "test", or None before splits are made.
        group: images that must stay in one split share a group (a patient, a video), or None.
        key: SHA-256 of the file's bytes in hex, or None before hashing.
    """

    path: str
    label: str | None = None
    split: str | None = None
    group: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or row that is not part of the data, and why, in a sentence."""

    path: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """Which images there are, what they show and who may learn from them.

    Attributes:
        items: one entry an image, in a fixed order.
        classes: class names; the position is the class index in every array of this product.
        source: what the user named (a folder, a table, `sample:textile`).
        skipped: what was found but is not part of the data.
        split_note: how the splits came about, in a sentence ("as given", "made: ...").
        hints: what may be meant otherwise, in sentences that the user should see; not written to tables.
    """

    items: tuple[Item, ...]
    classes: tuple[str, ...]
    source: str
    skipped: tuple[Skipped, ...] = ()
    split_note: str = "as given"
    hints: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def split(self, name: str) -> Manifest:
        """The part that belongs to one split; classes stay as they are."""
        return replace(self, items=tuple(item for item in self.items if item.split == name), skipped=())

    def split_sizes(self) -> dict[str, int]:
        """Number of images in each split that has any, in the order train, val, test."""
        sizes = {name: sum(item.split == name for item in self.items) for name in SPLITS}
        return {name: size for name, size in sizes.items() if size}

    def class_sizes(self) -> dict[str, int]:
        """Number of images of each class, in class order."""
        sizes = dict.fromkeys(self.classes, 0)
        for item in self.items:
            if item.label in sizes:
                sizes[item.label] += 1
        return sizes

    def targets(self) -> list[int]:
        """The class index of each item; -1 where the label is missing or not among the classes."""
        index = {name: position for position, name in enumerate(self.classes)}
        return [-1 if item.label is None else index.get(item.label, -1) for item in self.items]

    def to_csv(self) -> str:
        """The manifest as CSV text with the columns path, label, split, group, sha256."""
        return table_csv(self.items)

    def sha256(self) -> str:
        """A hash of the manifest's content (labels, splits, groups, image bytes), not of where files lie."""
        rows = sorted("\x1f".join((i.key or i.path, i.label or "", i.split or "", i.group or "")) for i in self.items)
        text = "\x1e".join([*self.classes, "", *rows])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def write(self, target: Path) -> None:
        """Write the manifest as CSV, atomically."""
        write_text(target, self.to_csv())


def table_csv(items: Iterable[Item], *, delimiter: str = ",") -> str:
    """Items as CSV text with the columns path, label, split, group, sha256; missing cells are empty."""
    rows = [(i.path, i.label or "", i.split or "", i.group or "", i.key or "") for i in items]
    return csv_text(COLUMNS, rows, delimiter=delimiter)


def csv_text(header: Sequence[str], rows: Sequence[Sequence[str]], *, delimiter: str = ",") -> str:
    """A header and rows of cells as CSV text that every reader takes apart again as it was."""
    # Before Python 3.13 the csv module leaves a carriage return unquoted, and readers take it as a row's end.
    returns = any("\r" in cell for row in rows for cell in row)
    buffer = io.StringIO()
    writer = csv.writer(
        buffer,
        delimiter=delimiter,
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL,
    )
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def sha256_of(data: bytes) -> str:
    """The key of an image: SHA-256 of its file's bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def _key_of(path: str) -> str | Skipped:
    """The key of the file, or why there is none."""
    try:
        with open(path, "rb") as handle:  # noqa: PTH123 - a path with undecodable bytes stays a str
            digest = hashlib.sha256()
            while block := handle.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return Skipped(path, "file not found")
    except OSError as error:
        return Skipped(path, f"cannot be read ({error.strerror or error})")
    except ValueError as error:  # what no file system takes: a null byte, half a surrogate pair
        what = "holds a null byte" if "\0" in path else f"is not valid Unicode ({error})"
        return Skipped(path, f"file not found: its path {what}")


def _keys_of(paths: Sequence[str]) -> list[str | Skipped]:
    return [_key_of(path) for path in paths]


def hash_items(items: Sequence[Item], *, workers: int | None = None) -> tuple[list[Item], list[Skipped]]:
    """Read every file once and fill in its key.

    Keys that a table brought along are not believed: the bytes on disk decide. A file that is not there is
    lost like one that cannot be read.

    Returns:
        The items that could be read, with keys, in order; and those that could not, with the reason.
    """
    kept: list[Item] = []
    lost: list[Skipped] = []
    with ThreadPoolExecutor(workers or min(8, 2 * (os.cpu_count() or 1))) as pool:
        # A thread pool takes in everything it is given at once: it gets one stretch of the items at a time,
        # and a task is a block of files, as a task of its own for each costs more than a small file.
        for start in range(0, len(items), _STRETCH):
            stretch = items[start : start + _STRETCH]
            blocks = [[item.path for item in stretch[at : at + _BLOCK]] for at in range(0, len(stretch), _BLOCK)]
            keys = (key for block in pool.map(_keys_of, blocks) for key in block)
            for item, key in zip(stretch, keys, strict=True):
                if isinstance(key, Skipped):
                    lost.append(key)
                else:
                    kept.append(replace(item, key=key))
    return kept, lost


def looks_unlike_classes(values: int, rows: int) -> bool:
    """Whether labels are probably numbers or names: many, and most images have one of their own.

    Args:
        values: number of different labels.
        rows: number of images with a label.
    """
    return values > _MANY_CLASSES and 2 * values > rows


def check_not_empty(manifest: Manifest) -> Manifest:
    """Return the manifest, or raise a `DataError` that says what was found instead of images."""
    if manifest.items:
        return manifest
    shown = "; ".join(f"{s.path} ({s.reason})" for s in manifest.skipped[:3])
    seen = f" Skipped {len(manifest.skipped)} files or folders, such as {shown}." if shown else ""
    raise DataError(
        f"No images found in {manifest.source}.{seen} Expected a folder with one folder of images a class,"
        f" a table with a path column, or meta lists."
    )
