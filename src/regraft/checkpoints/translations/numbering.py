"""Blocks that one naming groups by stage and another numbers through."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regraft.checkpoints.checkpoint import Shape
    from regraft.checkpoints.translations.naming import Read

_GROUPED = re.compile(r"blocks\.(\d{1,3})\.(\d{1,3})\.(.+)")
_FLAT = re.compile(r"blocks\.(\d{1,3})\.([^\d].*)")

Place = tuple[int, int]


def aligned(file: Read, network: Read, found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> tuple[Read, Read]:
    """Number the blocks through on both sides, if one side does.

    A network is complete, so its numbers are right. A file may lack blocks: after a gap in its own numbering, or
    where a block is not like the network's block with this number while the two have not as many blocks, nothing
    is known of what follows.
    """
    if _is_grouped(file) == _is_grouped(network):
        return file, network
    if _is_grouped(network):
        return file, _numbered(network, _places(network))
    places = _places(file)
    numbered = _numbered(file, _without_gap(places))
    blocks = {number for common in network.values() if (number := _number(common)) is not None}
    if len(places) != len(blocks):
        numbered = _agreeing(numbered, network, found, expected)
    return numbered, network


def _is_grouped(read: Read) -> bool:
    return any(map(_GROUPED.fullmatch, read.values()))


def _places(read: Read) -> list[Place]:
    found = (_GROUPED.fullmatch(common) for common in read.values())
    return sorted({(int(place[1]), int(place[2])) for place in found if place})


def _without_gap(places: list[Place]) -> list[Place]:
    """Up to the first place that does not follow on the one before it."""
    stage, position = 0, -1
    for i, place in enumerate(places):
        if place not in {(stage, position + 1), (stage + 1, 0)}:
            return places[:i]
        stage, position = place
    return places


def _numbered(read: Read, places: list[Place]) -> Read:
    """The block at each place gets its number; blocks elsewhere are left out."""
    numbers = {place: number for number, place in enumerate(places)}
    numbered: Read = {}
    for name, common in read.items():
        if not (found := _GROUPED.fullmatch(common)):
            numbered[name] = common
        elif (number := numbers.get((int(found[1]), int(found[2])))) is not None:
            numbered[name] = f"blocks.{number}.{found[3]}"
    return numbered


def _number(common: str) -> int | None:
    found = _FLAT.fullmatch(common)
    return int(found[1]) if found else None


def _agreeing(file: Read, network: Read, found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> Read:
    """Without the first block that has other layers or shapes than the network's, and all blocks after it."""
    shapes = {common: expected[name] for name, common in network.items()}
    theirs, ours = _layers(file), _layers(network)
    wrong = {number for number, layers in theirs.items() if layers != ours.get(number)}
    for name, common in file.items():
        if (number := _number(common)) is not None and shapes.get(common) != found[name]:
            wrong.add(number)
    first = min(wrong, default=None)
    if first is None:
        return file
    return {name: common for name, common in file.items() if (number := _number(common)) is None or number < first}


def _layers(read: Read) -> dict[int, set[str]]:
    """Number of a block -> names of its layers."""
    layers: dict[int, set[str]] = {}
    for common in read.values():
        if found := _FLAT.fullmatch(common):
            layers.setdefault(int(found[1]), set()).add(found[2].partition(".")[0])
    return layers
