"""The order that numbers in names tell, for files that list their tensors alphabetically."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBER = re.compile(r"(\d+)")


def by_number(names: Sequence[str]) -> list[str]:
    """Names in the order of their numbers: `layers.2` before `layers.10`, `arr_2` before `arr_10`.

    Names are read as paths in a tree. At each node, children that differ in a number (`block2`, `block10`) change
    places among themselves so that the numbers ascend; all others keep the order of their first appearance. Names
    without dots are words that may be random: they are put in order only if all have one stem.

    Args:
        names: all different, in the file's order.
    """
    if not any("." in name for name in names):
        stems = {_stem(name) for name in names}
        return sorted(names, key=_natural) if len(stems) == 1 and None not in stems else list(names)
    ranks = _ranks(names)
    return sorted(names, key=lambda name: [ranks[path] for path in _paths(name)])


def _ranks(names: Sequence[str]) -> dict[str, int]:
    """Path in the tree -> its rank among its siblings."""
    children: dict[str, dict[str, str]] = {}
    for name in names:
        parent = ""
        for path, word in zip(_paths(name), name.split("."), strict=True):
            children.setdefault(parent, {}).setdefault(path, word)
            parent = path
    ranks: dict[str, int] = {}
    for siblings in children.values():
        families: dict[str, list[str]] = {}
        for path, word in siblings.items():
            families.setdefault(_stem(word) or f".{word}", []).append(path)
        rank = {path: index for index, path in enumerate(siblings)}
        for members in families.values():
            seats = sorted(rank[path] for path in members)
            ascending = sorted(members, key=lambda path: _natural(siblings[path]))
            ranks.update(zip(ascending, seats, strict=True))
    return ranks


def _paths(name: str) -> list[str]:
    """`a.b.c` -> `a.`, `a.b.`, `a.b.c.`: with the final dot, so that a tensor and a module of one name differ not."""
    words = name.split(".")
    return [".".join(words[: depth + 1]) + "." for depth in range(len(words))]


def _stem(word: str) -> str | None:
    """What stands before the first number, with a mark that there is one; None without a number."""
    found = _NUMBER.search(word)
    return f"{word[: found.start()]}#" if found else None


def _natural(word: str) -> list[tuple[int, str]]:
    pieces = _NUMBER.split(word)
    return [(int(piece), "") if index % 2 else (-1, piece) for index, piece in enumerate(pieces)]


_DIGITS = re.compile(r"[0-9]+")


def out_of_order(names: Sequence[str]) -> str:
    """The first name whose numbers go down against one that is written alike (`fc11_w`, then `fc2_w`); or empty.

    Names without dots tell nothing to the alignment, but numbers anywhere in them still tell an order.
    """
    last: dict[str, tuple[int, ...]] = {}
    for name in names:
        pattern = _DIGITS.sub("#", name)
        numbers = tuple(int(found[:18]) for found in _DIGITS.findall(name))
        if not numbers or "." in name or not any(sign.isalpha() for sign in pattern):
            continue
        if numbers < last.get(pattern, ()):
            return name
        last[pattern] = numbers
    return ""
