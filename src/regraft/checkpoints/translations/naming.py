"""Namings of one family of networks, and how every one of them is translated into every other.

Each naming is read into common names, mostly timm's; a tensor of the network is then made of what has the same common
name in the file (`pieces`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from regraft.checkpoints.translations.origin import Origin, Translation, with_eps
from regraft.checkpoints.translations.pieces import origin_of, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regraft.checkpoints.checkpoint import Shape

EPS = 1e-5  # torch's default for BatchNorm

Read = dict[str, str]  # name -> common name
Rule = tuple[str, "str | Callable[[re.Match[str]], str]"]


def _the_default(shapes: Mapping[str, Shape], other: str) -> float:  # noqa: ARG001 (as Naming.eps)
    return EPS


@dataclass(frozen=True)
class Naming:
    """How one library names the tensors of a family.

    Attributes:
        name: of the library, as in `Translation.source`.
        read: name -> shape of one side -> name -> common name; empty if the names are not of this naming.
        eps: (name -> shape of this side, name of the other naming) -> eps of its BatchNorms.
    """

    name: str
    read: Callable[[Mapping[str, Shape]], Read]
    eps: Callable[[Mapping[str, Shape], str], float] = _the_default


def renamer(sign: str, *rules: Rule) -> Callable[[Mapping[str, Shape]], Read]:
    """A reader of names that can be told one by one.

    Args:
        sign: a pattern that some name begins with if, and only if, the names are of this naming.
        rules: pattern of a whole name and what it is in common names; the first one that fits counts.
    """
    first = re.compile(sign)
    compiled = [(re.compile(pattern), new) for pattern, new in rules]

    def read(shapes: Mapping[str, Shape]) -> Read:
        if not any(map(first.match, shapes)):
            return {}
        found: Read = {}
        for name in shapes:
            for pattern, new in compiled:
                if match := pattern.fullmatch(name):
                    found[name] = match.expand(new) if isinstance(new, str) else new(match)
                    break
        return found

    return read


def translations(
    family: str,
    *namings: Naming,
    align: Callable[[Read, Read, Mapping[str, Shape], Mapping[str, Shape]], tuple[Read, Read]] | None = None,
) -> tuple[Translation, ...]:
    """From every naming of a family to every other.

    Args:
        family: its name, for people.
        namings: all of them.
        align: (read from the file, read from the network, shapes of both) -> both, with common names that
            correspond; for namings that number the blocks in different ways.
    """
    return tuple(
        Translation(
            f"{source.name} {family} -> {target.name}",
            source.name,
            target.name,
            partial(_translate, source, target, align),
        )
        for source in namings
        for target in namings
        if source is not target
    )


def _translate(
    source: Naming,
    target: Naming,
    align: Callable[[Read, Read, Mapping[str, Shape], Mapping[str, Shape]], tuple[Read, Read]] | None,
    found: Mapping[str, Shape],
    expected: Mapping[str, Shape],
) -> dict[str, Origin]:
    file = source.read(found)
    network = target.read(expected) if file else {}
    if not network:
        return {}
    if align:
        file, network = align(file, network, found, expected)
    given = {part: piece for name, common in file.items() for part, piece in pieces(name, common).items()}
    written, here = source.eps(found, target.name), target.eps(expected, source.name)
    origins: dict[str, Origin] = {}
    for name, common in network.items():
        if origin := origin_of(pieces(name, common), given, found):
            is_variance = name.endswith("running_var")
            origins[name] = with_eps(replace(origin, eps=written), here) if is_variance else origin
    return origins
