"""Order-preserving alignment of a file's tensors with a network's layers: the best one, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regraft.checkpoints.checkpoint import Shape

MANY = 10**9
_SCALE = 2**16  # one parameter outweighs all counters and adapted tensors together
_KINDS = {"weight": 0, "bias": 1, "running_mean": 2, "running_var": 3, "num_batches_tracked": 4}
_TOLD = 0.8
_SPATIAL = 4
_SEQUENCE = 3
_PREFIX_TOKENS = 5


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor as far as structure goes.

    Attributes:
        name: its name in the state dict.
        shape: its shape.
        integer: whether it holds integers (counters, index tables) rather than weights.
    """

    name: str
    shape: Shape
    integer: bool = False

    @property
    def kind(self) -> str:
        """The last word of its name where that is one of torch's own (`weight`, `running_var`, ...), else empty."""
        last = self.name.rpartition(".")[2]
        return last if last in _KINDS else ""

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the file a layer could come from: the tensors `source[start:stop]`, in this order.

    Attributes:
        start: the first of them.
        stop: one after the last.
        slots: the layer's tensors, one for each; counters that the file leaves out are left out.
        weight: what the match is worth; parameters first.
    """

    start: int
    stop: int
    slots: tuple[Slot, ...]
    weight: int


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best alignment.

    Attributes:
        weight: sum of the chosen places' weights.
        count: how many different alignments reach it; `MANY` stands for that and more.
        chosen: one of them, the one that takes the earliest tensors: for each layer its place, or None.
    """

    weight: int
    count: int
    chosen: tuple[Place | None, ...]


def optimum(places: Sequence[Sequence[Place]], length: int) -> Optimum:
    """Find the alignment of greatest weight and count all that reach it.

    Dynamic programming over layers and positions. An alignment gives each layer one of its places or none; places
    keep the layers' order and do not overlap. Two alignments differ when some layer's place does.

    Args:
        places: for each layer, in the network's order, where it could come from; weights are positive.
        length: how many tensors the file has.
    """
    rows = [np.zeros(length + 1, np.int64)]  # rows[u][i]: the best of the first u layers in the first i tensors
    counts = np.ones(length + 1, np.int64)
    for candidates in places:
        before, ways = rows[-1], counts
        row, counts = before.copy(), counts.copy()
        for place in sorted(candidates, key=lambda place: place.stop):
            value = before[place.start] + place.weight
            tail = row[place.stop :]  # never falls, so what this place beats comes first, then what it equals
            beaten = place.stop + int(np.searchsorted(tail, value, "left"))
            equalled = place.stop + int(np.searchsorted(tail, value, "right"))
            row[place.stop : beaten] = value
            counts[place.stop : beaten] = ways[place.start]
            counts[beaten:equalled] += ways[place.start]
        rows.append(row)
        np.minimum(counts, MANY, out=counts)
    return Optimum(int(rows[-1][-1]), int(counts[-1]), _traced(places, rows))


def _traced(places: Sequence[Sequence[Place]], rows: list[np.ndarray]) -> tuple[Place | None, ...]:
    chosen: list[Place | None] = []
    end = len(rows[0]) - 1
    for index in range(len(places), 0, -1):
        row, before = rows[index], rows[index - 1]
        end = int(np.searchsorted(row, row[end], "left"))
        place = None
        if before[end] != row[end]:
            place = next(p for p in places[index - 1] if p.stop == end and before[p.start] + p.weight == row[end])
            end = place.start
        chosen.append(place)
    return tuple(reversed(chosen))


def layers(slots: Sequence[Slot]) -> list[tuple[Slot, ...]]:
    """Group neighbours that belong together: tensors of one module with torch's own names (a BatchNorm's five).

    Any other (`cls_token`, `gamma`) stands for itself, and so does every second tensor of a kind.
    """
    grouped: list[list[Slot]] = []
    parent = None
    for slot in slots:
        owner = slot.name.rpartition(".")[0]
        if slot.kind and owner == parent and slot.kind not in {other.kind for other in grouped[-1]}:
            grouped[-1].append(slot)
        else:
            grouped.append([slot])
        parent = owner if slot.kind else None
    return [tuple(group) for group in grouped]


def names_tell(source: Sequence[Slot]) -> bool:
    """Whether the names of a file are a state dict's (`parent.weight`), whatever they say before that."""
    weights = [slot for slot in source if not slot.integer]
    return sum(slot.kind != "" and "." in slot.name for slot in weights) >= _TOLD * len(weights) > 0


def gathered(source: Iterable[Slot]) -> list[Slot]:
    """Bring the tensors of each module together and in torch's order, modules in the order of their first tensor."""
    parents: dict[str, list[Slot]] = {}
    for slot in source:
        parents.setdefault(slot.name.rpartition(".")[0] if slot.kind else slot.name, []).append(slot)
    ordered = (sorted(group, key=lambda slot: _KINDS.get(slot.kind, len(_KINDS))) for group in parents.values())
    return [slot for group in ordered for slot in group]


def find_places(source: Sequence[Slot], target: Sequence[tuple[Slot, ...]], *, told: bool) -> list[list[Place]]:
    """For each layer of the network, where in the file it fits as a whole.

    A layer's tensors must follow one another. Its integers may be absent from the file, all together. Two tensors
    need not agree in shape: the first convolution's input channels, and a position embedding's length.

    Args:
        source: the file's tensors.
        target: the network's layers.
        told: whether the file's names tell kinds and layers; then those must agree too.
    """
    edges = _edges(source) if told else None
    by_shape: dict[tuple[Shape, bool], list[int]] = {}
    for position, slot in enumerate(source):
        by_shape.setdefault((slot.shape, slot.integer), []).append(position)
    stem = next((slot for layer in target for slot in layer if len(slot.shape) == _SPATIAL), None)
    first = next((position for position, slot in enumerate(source) if len(slot.shape) == _SPATIAL), -1)
    embeddings = [position for position, slot in enumerate(source) if len(slot.shape) == _SEQUENCE]
    known: dict[object, list[tuple[int, int]]] = {}
    found: list[list[Place]] = []
    for layer in target:
        weights = tuple(slot for slot in layer if not slot.integer)
        places: list[Place] = []
        for variant in dict.fromkeys((layer, weights)):
            if not variant:
                continue
            key = tuple((slot.shape, slot.integer, slot.kind) for slot in variant)
            if (spans := known.get(key)) is None:
                starts = by_shape.get((variant[0].shape, variant[0].integer), [])
                spans = known[key] = _spans(source, variant, starts, edges, told=told)
            places += [Place(start, stop, variant, _weight(variant)) for start, stop in spans]
            if variant[0] is stem and first >= 0 and _is_stem(source[first], stem):
                spans = _spans(source, variant, [first], edges, told=told, adapted=True)
                places += [Place(start, stop, variant, _weight(variant[1:]) + 1) for start, stop in spans]
            if len(variant) == 1 and _is_position(variant[0]):
                starts = [i for i in embeddings if _is_other_length(source[i], variant[0])]
                places += [Place(i, i + 1, variant, 1) for i in starts]
        found.append(places)
    return found


def _spans(
    source: Sequence[Slot],
    variant: tuple[Slot, ...],
    starts: Iterable[int],
    edges: tuple[set[int], set[int]] | None,
    *,
    told: bool,
    adapted: bool = False,
) -> list[tuple[int, int]]:
    """Where `variant` fits beginning at one of `starts`; `adapted`: its first tensor's shape is not compared."""
    spans = []
    for start in starts:
        stop = start + len(variant)
        if stop > len(source) or (edges and (start not in edges[0] or stop not in edges[1])):
            continue
        pairs = zip(source[start:stop], variant, strict=True)
        if all(
            (here.shape == slot.shape or (adapted and slot is variant[0]))
            and here.integer == slot.integer
            and not (told and here.kind and slot.kind and here.kind != slot.kind)
            for here, slot in pairs
        ):
            spans.append((start, stop))
    return spans


def _edges(source: Sequence[Slot]) -> tuple[set[int], set[int]]:
    """Positions at which a layer of the file begins, and those at which one ends, with its counter or before it."""
    starts: set[int] = set()
    stops: set[int] = set()
    position = 0
    for layer in layers(source):
        starts.add(position)
        stops.update((position + sum(not slot.integer for slot in layer), position + len(layer)))
        position += len(layer)
    return starts, stops


def _weight(slots: Iterable[Slot]) -> int:
    return sum(1 if slot.integer else _SCALE * slot.size + 1 for slot in slots)


def _is_stem(slot: Slot, stem: Slot) -> bool:
    """The same filters over another number of input channels."""
    return slot.shape != stem.shape and (slot.shape[0], *slot.shape[2:]) == (stem.shape[0], *stem.shape[2:])


def _is_position(slot: Slot) -> bool:
    return len(slot.shape) == _SEQUENCE and slot.shape[0] == 1 and "pos" in slot.name.rpartition(".")[2]


def _is_other_length(slot: Slot, position: Slot) -> bool:
    """A sequence of the same width; short ones are class and distillation tokens."""
    one, length, width = slot.shape
    return one == 1 and width == position.shape[2] and length != position.shape[1] and length > _PREFIX_TOKENS
