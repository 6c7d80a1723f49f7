"""Class names that may mean the same class twice, or a split: read off the names alone."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from regraft.data.names import split_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PARTS = re.compile(r"[\s_\-.]+")
_SPELLABLE = 8  # letters from which one that differs is more likely a slip than another word
_MOST = 5_000  # classes; with more, slips are not looked for


def named_like_splits(classes: Sequence[str]) -> tuple[str, ...]:
    """The classes whose name is that of a split, such as "test"."""
    return tuple(name for name in classes if split_of(name) is not None)


def named_alike(classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of classes whose names differ in case, in separators, in singular and plural, or by one letter.

    One letter counts in names of eight letters or more, never the first one and never a digit: "Shirts" and
    "Tshirts" or "type1" and "type2" are classes of their own.
    """
    found: dict[tuple[str, str], None] = {}
    for same in _buckets((_plain(name), name) for name in classes):
        found.update(dict.fromkeys(pairwise(same)))
    if len(classes) <= _MOST:
        long = [(_plain(name), name) for name in classes]
        slips = ((mark, name) for plain, name in long if len(plain) >= _SPELLABLE for mark in _less_one(plain))
        for same in _buckets(slips):
            for first, second in pairwise(same):
                if _one_letter(_plain(first), _plain(second)):
                    found.setdefault((first, second))
    return tuple(found)


def _buckets(marked: Iterable[tuple[str, str]]) -> Iterator[list[str]]:
    """The names that share a mark, two or more, in order."""
    names: dict[str, dict[str, None]] = {}
    for mark, name in marked:
        names.setdefault(mark, {})[name] = None
    return (list(same) for same in names.values() if len(same) > 1)


def _plain(name: str) -> str:
    """Without case, separators and the ending of a plural."""
    text = _PARTS.sub("", name.casefold()) or name
    if len(text) > 4 and text.endswith("ies"):  # noqa: PLR2004 - "berries", not "ties"
        return text[:-3] + "y"
    if len(text) > 4 and text.endswith(("ches", "shes", "sses", "xes")):  # noqa: PLR2004
        return text[:-2]
    return text[:-1] if len(text) > 2 and text.endswith("s") and not text.endswith("ss") else text  # noqa: PLR2004


def _less_one(plain: str) -> Iterator[str]:
    """The name, and the name less each letter but the first: names within one letter of each other share one."""
    yield plain
    for place in range(1, len(plain)):
        if not plain[place].isdigit():
            yield plain[:place] + plain[place + 1 :]


def _one_letter(first: str, second: str) -> bool:
    """Whether one letter that is no digit was left out, put in, replaced, or swapped with the next."""
    if first == second:
        return False
    short, long = sorted((first, second), key=len)
    at = next((n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    differing = long[at:] if len(short) != len(long) else short[at : at + 1] + long[at : at + 1]
    if any(letter.isdigit() for letter in differing[:2]):
        return False
    if len(short) != len(long):
        return short[at:] == long[at + 1 :]
    swapped = short[at : at + 2] == long[at : at + 2][::-1] and short[at + 2 :] == long[at + 2 :]
    return swapped or short[at + 1 :] == long[at + 1 :]
