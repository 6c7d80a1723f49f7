"""All networks of the index against a file at once: by names and shapes, or by shapes alone."""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.backbones.fingerprints import ANY, HEAD, shipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from regraft.backbones.fingerprints import Index
    from regraft.checkpoints.checkpoint import Shape


@dataclass(frozen=True)
class Scores:
    """What the index says of a file, one value a body.

    Attributes:
        score: 0..1, how far the two agree, in numbers and in tensors: what both have, of what either has.
        share: 0..1, numbers of the network that are in the file.
        covered: 0..1, numbers of the file that are in the network; heads are left out.
    """

    score: NDArray[np.float64]
    share: NDArray[np.float64]
    covered: NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """The index, arranged for scoring. A key is a name with a pattern; heads and integer tensors have none.

    Attributes:
        names: name -> its number.
        shapes: shape -> its number.
        codes: of each key, ascending: name * number of shapes + pattern.
        sizes: of each key: how many numbers it holds by default.
        open: name's number -> its keys whose patterns fit several shapes.
        heads: name's number -> the patterns it has in heads.
        pair_key: of every tensor of every body, its key.
        pair_body: the body.
        pair_shape: the number of its shape without sides of length one at the end.
        flat: shape without these -> its number.
        bodies: body -> how many numbers it holds.
        counts: body -> how many tensors.
    """

    names: dict[str, int]
    shapes: dict[Shape, int]
    codes: NDArray[np.int64]
    sizes: NDArray[np.float64]
    open: dict[int, list[tuple[int, Shape]]]
    heads: dict[int, set[Shape]]
    pair_key: NDArray[np.int32]
    pair_body: NDArray[np.int32]
    pair_shape: NDArray[np.int32]
    flat: dict[Shape, int]
    bodies: NDArray[np.float64]
    counts: NDArray[np.float64]


@functools.cache
def table() -> Table:
    """The shipped index, arranged."""
    return _table(shipped())


def _table(index: Index) -> Table:
    numels = np.array([float(math.prod(abs(n) for n in shape)) for shape in index.shapes])
    scored = (index.role != HEAD) & (index.integer == 0)
    code = index.name.astype(np.int64) * len(index.shapes) + index.pattern
    codes, inverse = np.unique(code[scored], return_inverse=True)
    token_key = np.full(len(code), -1, np.int32)
    token_key[scored] = inverse
    sizes = np.zeros(len(codes))
    sizes[inverse] = numels[index.shape[scored]]
    flat: dict[Shape, int] = {}
    flat_of = np.array([flat.setdefault(flattened(shape), len(flat)) for shape in index.shapes], np.int32)
    lists = {network.body: network.tokens for network in reversed(index.networks)}
    rows = [index.list_of(lists[body]) for body in range(len(lists))]
    tokens = np.concatenate(rows)
    body = np.repeat(np.arange(len(rows), dtype=np.int32), [len(row) for row in rows])
    kept = token_key[tokens] >= 0
    tokens, body = tokens[kept], body[kept]
    return Table(
        names={name: number for number, name in enumerate(index.names)},
        shapes={shape: number for number, shape in enumerate(index.shapes)},
        codes=codes,
        sizes=sizes,
        open=_open(index, codes),
        heads=_heads(index),
        pair_key=token_key[tokens],
        pair_body=body,
        pair_shape=flat_of[index.shape[tokens]],
        flat=flat,
        bodies=_sums(body, sizes[token_key[tokens]], len(rows)),
        counts=np.bincount(body, minlength=len(rows)).astype(float),
    )


def flattened(shape: Shape) -> Shape:
    """Without sides of length one at its end, in which linear layers and 1 x 1 convolutions differ."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _open(index: Index, codes: NDArray[np.int64]) -> dict[int, list[tuple[int, Shape]]]:
    several = np.array([ANY in shape for shape in index.shapes])
    found: dict[int, list[tuple[int, Shape]]] = {}
    for key in np.flatnonzero(several[codes % len(index.shapes)]).tolist():
        name, pattern = divmod(int(codes[key]), len(index.shapes))
        found.setdefault(name, []).append((key, index.shapes[pattern]))
    return found


def _heads(index: Index) -> dict[int, set[Shape]]:
    found: dict[int, set[Shape]] = {}
    for token in np.flatnonzero(index.role == HEAD).tolist():
        found.setdefault(int(index.name[token]), set()).add(index.shapes[index.pattern[token]])
    return found


def fits(shape: Shape, pattern: Shape) -> bool:
    """Whether a shape is one of those that a pattern stands for."""
    return len(shape) == len(pattern) and all(p in {n, ANY} for n, p in zip(shape, pattern, strict=True))


def by_names(file: Mapping[str, Shape]) -> Scores:
    """Score every body by names and shapes; the number of classes, channels and positions may differ.

    Args:
        file: name -> shape, without integer tensors and without what wrappers put before the names.
    """
    one = table()
    keys: set[int] = set()
    total, count = 0.0, 0
    for name, shape in file.items():
        number = one.names.get(name)
        found = _keys(one, number, shape) if number is not None else []
        if not found and number is not None and any(fits(shape, p) for p in one.heads.get(number, ())):
            continue
        keys.update(found)
        total, count = total + math.prod(shape), count + 1
    hit = np.zeros(len(one.codes), bool)
    hit[list(keys)] = True
    mine = hit[one.pair_key]
    bodies = one.pair_body[mine]
    return _scores(one, _sums(bodies, one.sizes[one.pair_key[mine]], len(one.bodies)), bodies, total, count)


def _sums(places: NDArray[np.integer], values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(places, values, count), np.float64)


def _keys(one: Table, number: int, shape: Shape) -> list[int]:
    found = [key for key, pattern in one.open.get(number, ()) if fits(shape, pattern)]
    same = one.shapes.get(shape)
    if same is not None:
        code = number * len(one.shapes) + same
        place = int(np.searchsorted(one.codes, code))
        if place < len(one.codes) and one.codes[place] == code:
            found.append(place)
    return found


def by_shapes(file: Mapping[str, Shape]) -> Scores:
    """Score every body by its collection of shapes, whatever the names and the order."""
    one = table()
    stock = np.zeros(len(one.flat))
    total = 0.0
    for shape, times in Counter(flattened(shape) for shape in file.values()).items():
        total += math.prod(shape) * times
        if shape in one.flat:
            stock[one.flat[shape]] = times
    numel = np.array([float(math.prod(abs(n) for n in shape)) for shape in one.flat])
    pairs, times = np.unique(one.pair_body.astype(np.int64) * len(one.flat) + one.pair_shape, return_counts=True)
    body, shapes = pairs // len(one.flat), pairs % len(one.flat)
    both = np.minimum(times, stock[shapes])
    matched = _sums(body, both * numel[shapes], len(one.bodies))
    return _scores(one, matched, np.repeat(body, both.astype(int)), total, len(file))


def _scores(one: Table, matched: NDArray[np.float64], tensors: NDArray[np.integer], total: float, count: int) -> Scores:
    number = np.bincount(tensors, minlength=len(one.bodies)).astype(float)
    numbers = matched / np.maximum(one.bodies + total - matched, np.maximum(one.bodies, 1))
    both = number / np.maximum(one.counts + count - number, np.maximum(one.counts, 1))
    return Scores((numbers + both) / 2, matched / np.maximum(one.bodies, 1), matched / max(total, 1.0))
