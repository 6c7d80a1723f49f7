"""Tensors to a network's places by structure alone: order, shapes and kinds, where names say nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regraft.checkpoints.structure.alignment import (
    Place,
    Slot,
    find_places,
    gathered,
    layers,
    names_tell,
    optimum,
)
from regraft.checkpoints.structure.evidence import contradiction
from regraft.checkpoints.structure.order import by_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

_GAPS = 3
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Alignment:
    """Which tensor of a file belongs in which place of a network, or why that cannot be said.

    Attributes:
        pairs: name in the network -> name in the file; empty when refused. Shapes agree, but for the first
            convolution's input channels and a position embedding's length, which are left to be adapted.
        ambiguous: several alignments are equally good; `pairs` is then one of them if that was allowed, else empty.
        complete: every weight of the network has its pair.
        reason: one sentence for people: why it was refused, or what is left over on either side; may be empty.
    """

    pairs: dict[str, str] = field(default_factory=dict)
    ambiguous: bool = False
    complete: bool = False
    reason: str = ""


def slots(state_dict: Mapping[str, Tensor]) -> list[Slot]:
    """What structure sees of a state dict, in its order."""
    return [
        Slot(name, tuple(tensor.shape), not (tensor.is_floating_point() or tensor.is_complex()))
        for name, tensor in state_dict.items()
    ]


def align(
    source: Sequence[Slot],
    target: Sequence[Slot],
    *,
    values: Callable[[str], Tensor] | None = None,
    allow_ambiguous: bool = False,
) -> Alignment:
    """Align a file's tensors with a network's by order and shape; accept only what is consistent as a whole.

    A layer of the network (a BatchNorm's five tensors, a weight and its bias) takes neighbours in the file, all or
    none, and layers keep their order. Of all such alignments the one with the most parameters counts, and only if
    it is the only one. It is refused if tensors that fit are left over on both sides (the file's order is another),
    if what is left over is scattered (another architecture), or if the numbers contradict it.

    Where the file's names are paths, the kinds and modules they tell must agree too, and numbers in them may put the
    file's tensors in order. What no shape and no number tells stays unknown: a file in which two blocks of equal
    shape changed places, under names that say nothing, is a valid file of the same architecture.

    Args:
        source: the file's tensors, in its order.
        target: the network's, in the order of its `state_dict()`, under its names.
        values: name in the file -> tensor, to look for contradictions in the numbers where names do not tell kinds;
            None: shapes only.
        allow_ambiguous: take one of several equally good alignments (the one that uses the earliest tensors).
    """
    wanted = layers(target)
    told = names_tell(source)
    orders = _orders(source, told=told)
    found = [_align(order, wanted, values, told=told, allow_ambiguous=allow_ambiguous) for order in orders]
    complete = [alignment for alignment in found if alignment.complete]
    usable = complete or [alignment for alignment in found if alignment.pairs]
    if any(alignment.pairs != usable[0].pairs for alignment in usable[1:]):
        return Alignment(
            ambiguous=True,
            pairs=usable[0].pairs if allow_ambiguous else {},
            complete=allow_ambiguous and usable[0].complete,
            reason="The tensors fit in the file's order and, otherwise, in the order of the numbers in their names.",
        )
    return next(iter([*usable, *(alignment for alignment in found if alignment.ambiguous), found[-1]]))


def _orders(source: Sequence[Slot], *, told: bool) -> list[list[Slot]]:
    """The order of the numbers in the names and, if it differs, the file's, unless that is only the alphabet's."""
    slot_of = {slot.name: slot for slot in source}
    orders = [[slot_of[name] for name in by_number(list(slot_of))], list(source)]
    weights = [slot.name for slot in _weights(source)]
    if told:
        orders = [gathered(order) for order in orders]
    return orders[:1] if orders[0] == orders[1] or weights == sorted(weights) else orders


def _align(
    source: Sequence[Slot],
    target: Sequence[tuple[Slot, ...]],
    values: Callable[[str], Tensor] | None,
    *,
    told: bool,
    allow_ambiguous: bool,
) -> Alignment:
    """One order of the file against the network."""
    best = optimum(find_places(source, target, told=told), len(source))
    pairs = _pairs(source, best.chosen)
    missing = [layer for layer, place in zip(target, best.chosen, strict=True) if place is None and _weights(layer)]
    taken = set(pairs.values())
    rest = [slot for slot in source if slot.name not in taken and not slot.integer]
    if reason := _out_of_order(missing, rest):
        return Alignment(reason=reason)
    ambiguous = best.count > 1
    if ambiguous and not allow_ambiguous:
        return Alignment(ambiguous=True, reason="Several alignments with the network's layers are equally good.")
    against = _scattered(source, target, best.chosen)
    if not against and values and not told:
        against = contradiction(source, best.chosen, values) or ""
    if against:
        return Alignment(ambiguous=ambiguous, reason=_sentence(against))
    note = _leftovers(missing, rest, source)
    return Alignment(pairs, ambiguous, complete=not missing, reason=note)


def _pairs(source: Sequence[Slot], chosen: Sequence[Place | None]) -> dict[str, str]:
    return {
        slot.name: here.name
        for place in chosen
        if place
        for slot, here in zip(place.slots, source[place.start : place.stop], strict=True)
    }


def _out_of_order(missing: Sequence[tuple[Slot, ...]], rest: Sequence[Slot]) -> str:
    """Tensors that are left over, and a layer left empty that they would fill: they stand elsewhere in the file.

    If one layer stands elsewhere then none can be trusted to stand where it should.
    """
    stock = Counter(slot.shape for slot in rest)
    for layer in missing:
        needed = Counter(slot.shape for slot in _weights(layer))
        if needed <= stock:
            return f"The file's order is not the network's: what would fit {layer[0].name} stands elsewhere in it."
    return ""


def _scattered(source: Sequence[Slot], target: Sequence[tuple[Slot, ...]], chosen: Sequence[Place | None]) -> str:
    """Whether the alignment is of two different architectures that happen to share layers.

    At both ends anything may be left over (another stem, another head). Between, a stretch may be absent from one
    side, but not in many places; and tensors may have other shapes, but then one for one.
    """
    wanted, matched, gaps = sum(len(_weights(layer)) for layer in target), 0, 0
    position, waiting = 0, []
    for layer, place in zip(target, chosen, strict=True):
        if place is None:
            waiting += [len(slot.shape) for slot in _weights(layer)]
            continue
        between = [len(slot.shape) for slot in source[position : place.start] if not slot.integer]
        if matched and waiting != between:
            gaps += 1
            if waiting and between:
                return f"the file has other layers than the network before {layer[0].name}"
        matched += len(_weights(place.slots))
        position, waiting = place.stop, []
    if gaps > _GAPS:
        return f"the file has more or fewer layers than the network in {gaps} places: it is of another architecture"
    if matched < _SHARE * min(wanted, len(_weights(source))) or not matched:
        return f"only {matched} of the network's {wanted} tensors fit in the file's order"
    return ""


def _leftovers(missing: Sequence[tuple[Slot, ...]], rest: Sequence[Slot], source: Sequence[Slot]) -> str:
    notes = []
    if rest:
        weights = _weights(source)
        where = " at its end, probably its head" if list(rest) == weights[-len(rest) :] else ""
        notes.append(f"the file has {_tensors(len(rest))} more{where}")
    if missing:
        count = sum(len(_weights(layer)) for layer in missing)
        notes.append(f"it has none for {_tensors(count)} of the network, from {missing[0][0].name} on")
    return _sentence(" and ".join(notes)) if notes else ""


def _weights(slots: Sequence[Slot]) -> list[Slot]:
    return [slot for slot in slots if not slot.integer]


def _tensors(count: int) -> str:
    return f"{count} tensor{'' if count == 1 else 's'}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
