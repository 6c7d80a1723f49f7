"""Ways to understand a file's names, and which of them fills most of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regraft.checkpoints.adapt import adaptation
from regraft.checkpoints.structure.align import align
from regraft.checkpoints.structure.align import slots as structure_slots
from regraft.checkpoints.structure.alignment import Slot
from regraft.checkpoints.structure.order import out_of_order
from regraft.checkpoints.translations import Origin, translations_for
from regraft.checkpoints.wrappers import prefixes, stripped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from regraft.checkpoints.checkpoint import Shape
    from regraft.checkpoints.targets import Target


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to understand a file's names.

    Attributes:
        how: for people: "by name, without the prefix 'module.'".
        origins: name in the network -> where its tensor comes from.
        source: the file's naming, where a known translation between namings says what belongs where; else empty.
    """

    how: str
    origins: dict[str, Origin]
    source: str = ""

    @property
    def translated(self) -> bool:
        """Whether a known translation says what belongs where."""
        return bool(self.source)


def best_reading(
    source: Mapping[str, Shape], slots: list[Target], eps: Mapping[str, float], notes: list[str]
) -> Reading:
    """The reading that fills most; of equal ones the simplest.

    Args:
        source: name -> shape in the file.
        slots: the network's tensors.
        eps: as `targets.batch_norm_eps` gives it.
        notes: a second, different reading that is as good is told here.
    """
    whole = sum(slot.size for slot in slots)
    target = {slot.name: slot.shape for slot in slots}
    best, best_score = Reading("by name", {}), -1
    for reading in _readings(source, target, eps):
        filled = score(reading, source, slots)
        if filled > best_score:
            best, best_score = reading, filled
        elif filled == best_score == whole and _others(reading, best):
            notes.append(f"the tensors read {reading.how} would fit as well; those read {best.how} were taken")
        if best_score == whole and not reading.how.startswith("by name"):
            break
    return best


def _readings(source: Mapping[str, Shape], target: Mapping[str, Shape], eps: Mapping[str, float]) -> Iterator[Reading]:
    """Every way to read the names, the simplest first."""
    views = {prefix: stripped(source, prefix) for prefix in prefixes(source)}
    for prefix, view in views.items():
        yield Reading(_by_name(prefix, ""), {name: Origin((old,)) for name, old in view.items() if name in target})
    for prefix, view in views.items():
        shapes = {name: source[old] for name, old in view.items()}
        for translation, origins in translations_for(shapes, target, eps):
            how = f"by translation ({translation.name}{f', without the prefix {prefix!r}' if prefix else ''})"
            yield Reading(how, {name: _back(origin, view) for name, origin in origins.items()}, translation.source)
    for more in prefixes(target)[1:]:
        for prefix, view in views.items():
            found = {more + name: Origin((old,)) for name, old in view.items() if "." in name and more + name in target}
            yield Reading(_by_name(prefix, more), found)


def _by_name(prefix: str, more: str) -> str:
    parts = [f"without the prefix {prefix!r}"] if prefix else []
    parts += [f"with {more!r} put before"] if more else []
    return ", ".join(["by name", *parts])


def _back(origin: Origin, view: Mapping[str, str]) -> Origin:
    """The same origin with the names that the file itself uses."""
    return replace(origin, names=tuple(view[name] for name in origin.names))


def _others(one: Reading, two: Reading) -> bool:
    return {o.names for o in one.origins.values()} != {o.names for o in two.origins.values()}


def score(reading: Reading, source: Mapping[str, Shape], slots: list[Target]) -> int:
    """How many numbers of the network's parameters a reading fills."""
    return sum(slot.size for slot in slots if slot.name in reading.origins and fit(slot, reading, source) is not None)


def fit(slot: Target, reading: Reading, source: Mapping[str, Shape]) -> str | None:
    """How a tensor gets into its place: "" as it is, a few words where it is changed, None where it does not fit."""
    origin = reading.origins[slot.name]
    found = source[origin.names[0]] if origin.shape is None else origin.shape
    if found == slot.shape:
        return origin.how
    how = adaptation(slot.name, found, slot.shape, stem=slot.stem, translated=reading.translated)
    return ", ".join(filter(None, (origin.how, how))) if how else None


def by_structure(
    best: Reading,
    state_dict: Mapping[str, Tensor],
    source: Mapping[str, Shape],
    slots: list[Target],
    notes: list[str],
    *,
    allow_ambiguous: bool,
) -> Reading:
    """The alignment of both sides' order and shapes, where it fills more than the names do."""
    if wrong := out_of_order(list(source)):
        notes.append(f"nothing by structure either: the numbers in the file's names are not in order, from {wrong} on")
        return best
    found = align(
        structure_slots(state_dict),
        [Slot(slot.name, slot.shape, slot.integer) for slot in slots],
        values=state_dict.__getitem__,
        allow_ambiguous=allow_ambiguous,
    )
    reading = Reading("by structure (its names say nothing)", {n: Origin((s,)) for n, s in found.pairs.items()})
    if score(reading, source, slots) > score(best, source, slots):
        notes.append(
            "the names say nothing, so tensors were matched by their order and shapes alone: look at the results of a"
            f" known image before you trust it. {found.reason}".strip()
        )
        return reading
    if found.ambiguous:
        notes.append(f"ambiguous by structure: {found.reason}")
    elif not best.origins and found.reason:
        notes.append(f"nothing by structure either: {found.reason}")
    return best
