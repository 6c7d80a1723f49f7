"""What names say: their natural order, the split they mean, whether they are housekeeping."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TextKey = tuple[tuple[str | tuple[int, str], ...], str]

_DIGITS = re.compile(r"([0-9]+)")
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_HOUSEKEEPING = {
    "__macosx",  # left in archives by macOS; holds no pictures although the endings say so
    "@eadir",  # thumbnails made by a network disk
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
}


def natural_key(text: str) -> TextKey:
    """A sort key under which numbers count as numbers: "class2" comes before "class10".

    Upper and lower case sort together; equal keys mean equal texts, so the order is total.
    """
    # split() alternates text and digits, so the same positions always hold the same types. Digits are
    # compared by length and then as text because int() refuses very long ones.
    parts = _DIGITS.split(text.casefold())
    pieces: list[str | tuple[int, str]] = [
        (len(part.lstrip("0")), part.lstrip("0")) if odd % 2 else part for odd, part in enumerate(parts)
    ]
    return tuple(pieces), text


def natural_sort(texts: set[str]) -> tuple[str, ...]:
    """The texts in natural order."""
    return tuple(sorted(texts, key=natural_key))


def split_of(word: str) -> str | None:
    """The split that a folder name or table cell means, or None: "Validation" -> "val"."""
    return _SPLIT_WORDS.get(word.strip().casefold())


def split_words() -> str:
    """The words that name a split, for messages."""
    return ", ".join(_SPLIT_WORDS)


def shown(texts: Sequence[str], most: int = 10) -> str:
    """The texts for a message, parted by commas: the first `most`, then how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def so_many(count: int, one: str, several: str) -> str:
    """A number with the words that agree with it: 1 image stands, 1,200 images stand."""
    return f"{count:,} {one if count == 1 else several}"


def housekeeping(name: str) -> str | None:
    """Why a file or folder of this name is never data, or None when it may be."""
    if name.startswith("."):
        return "hidden"
    if name.casefold() in _HOUSEKEEPING:
        return "belongs to the operating system, not to the data"
    return None
