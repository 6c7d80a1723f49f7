"""Ways to read a file's names as those of networks of the index: as they are, translated, or by structure alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.backbones.fingerprints import HEAD, STEM, Slot, shipped
from regraft.backbones.identify_scores import Scores, by_names, by_shapes, fits
from regraft.checkpoints.structure.align import align
from regraft.checkpoints.structure.alignment import Slot as Plain
from regraft.checkpoints.translations import translations_for
from regraft.checkpoints.wrappers import prefixes, stripped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from regraft.backbones.fingerprints import Network
    from regraft.checkpoints.checkpoint import Shape
    from regraft.checkpoints.translations import Origin

BY_STRUCTURE = "structure"
COMPLETE = 0.98  # of the numbers: what lacks less is a detail, such as a tensor that only this version has

_LOST = ("features.", "layers.", "blocks.", "stages.", "encoder.", "trunk.", "backbone.", "model.", "visual.")
_NAMED, _TRANSLATED, _ALIGNED = 8, 16, 5  # how many bodies are looked at closely
_LIKELY = 0.6  # score by shapes, of the best one's, from which a body is tried by structure
_TOLD = 0.5  # share of names that a prefix must have for translations to be tried without it
_LEAST_SHARE, _LEAST_COVER, _LEAST_TENSORS = 0.1, 0.5, 5


@dataclass(frozen=True)
class Reading:
    """One body of the index, found in the file in one way.

    Attributes:
        body: its number.
        found: name in the network -> its name in the file (the first, if several), of tensors that fit.
        share: 0..1, numbers of the network (head excluded) that the file has.
        prefix: what the file puts before the names.
        lost: what the network has before the names and the file has not.
        translation: name of the translation, BY_STRUCTURE, or empty.
        source: naming of the file that the translation tells, or empty.
    """

    body: int
    found: dict[str, str]
    share: float
    prefix: str = ""
    lost: str = ""
    translation: str = ""
    source: str = ""


def readings(file: Mapping[str, Shape], integers: frozenset[str]) -> list[Reading]:
    """The bodies that a file can be read as, best first; empty if nothing comes near.

    Args:
        file: name -> shape as in the file, in its order.
        integers: names of its integer tensors.
    """
    floats = {name: shape for name, shape in file.items() if name not in integers}
    found = _named(floats)
    if not found or found[0].share < COMPLETE:
        close = _by_shapes(floats)
        translated = _translated(floats, [*close, *(reading.body for reading in found)])
        if not any(reading.share >= COMPLETE for reading in [*found, *translated]):
            translated += _aligned(file, integers, close)
        found = _merged([*found, *translated])
    return [reading for reading in found if found[0].share < 1 or rivals(reading, found[0])]


def rivals(one: Reading, other: Reading) -> bool:
    """Whether two readings explain the file equally well."""
    return one.share == other.share and len(one.found) == len(other.found)


def representative(body: int) -> Network:
    """One network of a body; all have the same tensors but for heads and positions."""
    return next(network for network in shipped().networks if network.body == body)


def body_slots(network: Network) -> list[Slot]:
    """The tensors of a network that count: without the head, without integers."""
    return [slot for slot in shipped().slots(network) if slot.role != HEAD and not slot.integer]


def _named(floats: Mapping[str, Shape]) -> list[Reading]:
    """By names and shapes, under the prefix and the lost prefix with which they agree best."""
    best: tuple[float, str, str, Scores, dict[str, str]] | None = None
    views = {prefix: stripped(floats, prefix) for prefix in prefixes(floats)}
    for lost in ("", *_LOST):
        for prefix, view in views.items():
            longer = {lost + name: old for name, old in view.items()} if lost else view
            scores = by_names({name: floats[old] for name, old in longer.items()})
            top = float(scores.score.max())
            if best is None or top > best[0]:
                best = (top, prefix, lost, scores, longer)
        if best and best[3].share[int(best[3].score.argmax())] >= COMPLETE:
            break
    if best is None:
        return []
    _, prefix, lost, scores, view = best
    bodies = [body for body in _top(scores.score, _NAMED) if _worth(scores, body)]
    found = [_by_name(body, view, floats, prefix, lost) for body in bodies]
    return [reading for reading in found if len(reading.found) >= _LEAST_TENSORS]


def _top(values: NDArray[np.float64], count: int) -> list[int]:
    return [int(place) for place in np.argsort(-values, kind="stable")[:count]]


def _worth(scores: Scores, body: int) -> bool:
    """Most of one side is in the other: a network that lost a stage, or a part of a larger model."""
    share, covered = float(scores.share[body]), float(scores.covered[body])
    return share >= _LEAST_COVER or (share >= _LEAST_SHARE and covered >= _LEAST_COVER)


def _by_name(body: int, view: Mapping[str, str], floats: Mapping[str, Shape], prefix: str, lost: str) -> Reading:
    slots = body_slots(representative(body))
    found = {s.name: view[s.name] for s in slots if s.name in view and fits(floats[view[s.name]], s.pattern)}
    return Reading(body, found, _share(slots, found), prefix, lost)


def _share(slots: Sequence[Slot], found: Mapping[str, object]) -> float:
    whole = sum(math.prod(slot.shape) for slot in slots)
    return sum(math.prod(slot.shape) for slot in slots if slot.name in found) / max(whole, 1)


def _by_shapes(floats: Mapping[str, Shape]) -> list[int]:
    scores = by_shapes(floats)
    best = _top(scores.score, _TRANSLATED)
    return [body for body in best if scores.score[body] >= _LIKELY * scores.score[best[0]] > 0]


def _translated(floats: Mapping[str, Shape], bodies: Sequence[int]) -> list[Reading]:
    views = {}
    for prefix in prefixes(floats):
        if not prefix or sum(name.startswith(prefix) for name in floats) >= _TOLD * len(floats):
            views[prefix] = stripped(floats, prefix)
    found: list[Reading] = []
    for body in dict.fromkeys(bodies):
        slots = body_slots(representative(body))
        found += [
            reading
            for prefix, view in views.items()
            if (reading := _translation(body, slots, view, floats, prefix)) and _takes_images(reading, slots)
        ]
    return found


def _translation(
    body: int, slots: Sequence[Slot], view: Mapping[str, str], floats: Mapping[str, Shape], prefix: str
) -> Reading | None:
    """The translation that gives this body most."""
    shapes = {name: floats[old] for name, old in view.items()}
    best: Reading | None = None
    for translation, origins in translations_for(shapes, {slot.name: slot.shape for slot in slots})[:2]:
        found = {
            slot.name: view[origins[slot.name].names[0]]
            for slot in slots
            if slot.name in origins and _fits(slot, origins[slot.name], shapes)
        }
        share = _share(slots, found)
        if best is None or share > best.share:
            best = Reading(body, found, share, prefix, "", translation.name, translation.source)
    return best


def _takes_images(reading: Reading, slots: Sequence[Slot]) -> bool:
    """A language model has the layers of a vision transformer under the same names, but not the first one."""
    stems = [slot.name for slot in slots if slot.role == STEM]
    whole = all(name in reading.found for name in stems)
    return reading.share >= (_LEAST_COVER if whole else COMPLETE)


def _fits(slot: Slot, origin: Origin, shapes: Mapping[str, Shape]) -> bool:
    given = shapes[origin.names[0]] if origin.shape is None else origin.shape
    if origin.make is not None and origin.shape is None and len(origin.names) > 1:
        return True
    return fits(given, slot.pattern) or math.prod(given) == math.prod(slot.shape)


def _aligned(file: Mapping[str, Shape], integers: frozenset[str], bodies: Sequence[int]) -> list[Reading]:
    """By order and shapes, where a network fits completely, or in more than one way."""
    source = [Plain(name, shape, name in integers) for name, shape in file.items()]
    found = []
    for body in bodies[:_ALIGNED]:
        network = representative(body)
        slots = body_slots(network)
        target = [Plain(s.name, s.shape, s.integer) for s in shipped().slots(network) if s.role != HEAD]
        alignment = align(source, target, allow_ambiguous=True)
        pairs = {slot.name: alignment.pairs[slot.name] for slot in slots if slot.name in alignment.pairs}
        share = _share(slots, pairs)
        if share >= COMPLETE or (share >= _LEAST_COVER and not alignment.ambiguous):
            found.append(Reading(body, pairs, share, translation=BY_STRUCTURE, source=""))
    return found


def _merged(found: Sequence[Reading]) -> list[Reading]:
    """Each body once, in the way that gives it most; what uses most of the file's tensors first."""
    best: dict[int, Reading] = {}
    for reading in found:
        if reading.body not in best or _rank(reading) > _rank(best[reading.body]):
            best[reading.body] = reading
    return sorted(best.values(), key=_rank, reverse=True)


def _rank(reading: Reading) -> tuple[bool, float, int]:
    return reading.share >= COMPLETE, len(reading.found) * reading.share, -len(reading.prefix)
