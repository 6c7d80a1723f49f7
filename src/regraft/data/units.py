"""Units: what moves between splits as one piece - an image, a group, or several identical files."""

# Paths are plain texts here: they come by the hundred thousand, and links stay unresolved.
# ruff: noqa: PTH118, PTH120

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regraft.data.manifest import Item


@dataclass(frozen=True, slots=True)
class Unit:
    """Images that must stay in one split.

    Attributes:
        rank: a hash of the seed and of what the unit is; sorting by it shuffles, always in the same way.
        members: positions of the images among the items.
        counts: number of images by label.
    """

    rank: str
    members: tuple[int, ...]
    counts: Counter[str]

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.members)


def units_of(items: tuple[Item, ...], seed: int) -> list[Unit]:
    """Join images that share a group or a key, also through others, into units; sorted by rank.

    A unit is known by its group, else by its key, else by its path below the folder that all images
    share: neither the order of items nor where that folder lies matters.
    """
    folder = _common_folder([item.path for item in items])
    parents: dict[str, str] = {}
    names = []
    for item in items:
        marks = [mark for mark in (_mark("g", item.group), _mark("k", item.key)) if mark]
        marks = marks or [_mark("p", item.path[len(folder) :].replace(os.sep, "/"))]
        for mark in marks:
            parents.setdefault(mark, mark)
        # The alphabetically first name stands for the unit; groups come before keys.
        first, *others = sorted(_root(parents, mark) for mark in marks)
        for other in others:
            parents[other] = first
        names.append(marks[0])
    members: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        members.setdefault(_root(parents, name), []).append(position)
    units = [
        Unit(_rank(name, seed), tuple(positions), _labels(items[position] for position in positions))
        for name, positions in members.items()
    ]
    return sorted(units, key=lambda unit: unit.rank)


def _mark(kind: str, name: str | None) -> str:
    return f"{kind}:{name}" if name is not None else ""


def _root(parents: dict[str, str], mark: str) -> str:
    """The name of the unit that `mark` belongs to; shortens the way for the next time."""
    while parents[mark] != mark:
        parents[mark] = parents[parents[mark]]
        mark = parents[mark]
    return mark


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\x1f{name}".encode("utf-8", "surrogateescape")).hexdigest()


def _labels(items: Iterable[Item]) -> Counter[str]:
    return Counter(item.label for item in items if item.label is not None)


def _common_folder(paths: list[str]) -> str:
    """The folder that all paths share, with its closing separator; empty when they share none."""
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # no paths, or paths on different drives
        return ""
    return os.path.join(common, "") if common else ""
