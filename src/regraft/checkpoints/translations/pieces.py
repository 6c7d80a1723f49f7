"""Tensors that one naming keeps whole and another in pieces: the weights of query, key and value.

A common name with `.qkv.` stands for three pieces, `.q.`, `.k.` and `.v.`, equal parts of the tensor's rows. A common
name that ends with `.T` stands for the transposed tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from regraft.checkpoints.translations.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from regraft.checkpoints.checkpoint import Shape

_JOINED = ".qkv."
_SPLIT = (".q.", ".k.", ".v.")
_UNUSED = ".k.bias"  # it changes no attention, which is why Swin 2 and BEiT have none
_TRANSPOSED = ".T"


@dataclass(frozen=True)
class Piece:
    """A tensor of one side or an equal part of its rows: number `part` of `parts`."""

    name: str
    part: int = 0
    parts: int = 1
    transposed: bool = False


def pieces(name: str, common: str) -> dict[str, Piece]:
    """Common name -> piece, for what a tensor with this common name holds."""
    transposed = common.endswith(_TRANSPOSED)
    common = common.removesuffix(_TRANSPOSED)
    if _JOINED not in common:
        return {common: Piece(name, transposed=transposed)}
    return {common.replace(_JOINED, part): Piece(name, i, len(_SPLIT)) for i, part in enumerate(_SPLIT)}


def origin_of(wanted: Mapping[str, Piece], given: Mapping[str, Piece], shapes: Mapping[str, Shape]) -> Origin | None:
    """Where a tensor of the network comes from; None if the file lacks a piece of it.

    Args:
        wanted: common name -> piece, of the network's tensor.
        given: common name -> piece, of all tensors of the file.
        shapes: name -> shape in the file.
    """
    sources = {common: given.get(common) for common in wanted}
    have = [source for source in sources.values() if source]
    empty = [common for common, source in sources.items() if not source]
    if not have or any(not common.endswith(_UNUSED) for common in empty):
        return None
    names = tuple(dict.fromkeys(source.name for source in have))
    if len(names) == 1 and not empty and len(have) == have[0].parts:
        if have[0].transposed == next(iter(wanted.values())).transposed:
            return Origin(names)
        return Origin(names, "transposed", lambda tensors: tensors[0].t(), shape=shapes[names[0]][::-1])
    shape = _joined_shape([*have, *[have[0]] * len(empty)], shapes)
    make = partial(_joined, list(sources.values()), names)
    return Origin(names, _how(sources), make, shape=shape) if shape else None


def _how(sources: Mapping[str, Piece | None]) -> str:
    word = {common: common.split(".")[-2] for common in sources}
    if len(sources) == 1:
        return f"the part for {next(iter(word.values()))}"
    real = [word[common] for common, source in sources.items() if source]
    zero = "".join(f", {word[common]} zero" for common, source in sources.items() if not source)
    return f"{', '.join(real[:-1])} and {real[-1]} joined{zero}"


def _joined_shape(parts: list[Piece], shapes: Mapping[str, Shape]) -> Shape:
    """Rows add up; () if the parts do not go together."""
    found = [(shapes[part.name], part.parts) for part in parts]
    if any(not shape or shape[0] % count for shape, count in found) or len({shape[1:] for shape, _ in found}) > 1:
        return ()
    return (sum(shape[0] // count for shape, count in found), *found[0][0][1:])


def _joined(sources: list[Piece | None], names: tuple[str, ...], tensors: list[Tensor]) -> Tensor:
    """A piece that the file lacks is zero, and as large as its neighbours."""
    import torch

    by_name = dict(zip(names, tensors, strict=True))
    parts = [by_name[piece.name].chunk(piece.parts)[piece.part] if piece else None for piece in sources]
    like = next(part for part in parts if part is not None)
    return torch.cat([torch.zeros_like(like) if part is None else part for part in parts])
