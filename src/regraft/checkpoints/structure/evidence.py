"""What tensors hold against the place they would take: variances that are negative, norms that scale by nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from regraft.checkpoints.checkpoint import Shape
    from regraft.checkpoints.structure.alignment import Place, Slot

# A norm's weight starts at one and its bias at zero. Training moves both, but it does not leave one whole layer of
# weights within _NOTHING of zero and a bias as a fresh weight would be: all of one sign, near one, nearly equal.
_NOTHING = 0.02
_NEAR_ONE = (0.3, 3.0)
_NEARLY_EQUAL = 0.3
_FEW = 4
_ENOUGH = 32
_MIXED = (0.2, 0.8)
_SPREAD = 0.5


@dataclass(frozen=True, slots=True)
class _Vector:
    """A vector of the file and the place it would take; `negative` is a share, `spread` in units of the mean."""

    name: str
    place: str
    shape: Shape
    low: float
    high: float
    negative: float
    spread: float


def contradiction(
    source: Sequence[Slot], places: Iterable[Place | None], values: Callable[[str], Tensor]
) -> str | None:
    """Look for tensors that cannot be what an alignment takes them for; shapes cannot tell a norm's vectors apart.

    It is written to let pass what is freshly initialised (norms at one or at zero) and what is trained (negative
    weights, large biases), and to find vectors that changed places.

    Args:
        source: the file's tensors.
        places: the alignment, from layers to positions in `source`.
        values: name in the file -> tensor.

    Returns:
        One sentence about the first contradiction, or None.
    """
    zeroed: dict[Shape, _Vector] = {}
    raised: dict[Shape, _Vector] = {}
    for place in places:
        if place is None:
            continue
        vectors = _vectors(source, place, values)
        norm = _is_norm(place)
        if reason := norm and _within(vectors):
            return reason
        for kind, vector in vectors.items():
            if norm and kind == "weight" and max(-vector.low, vector.high) <= _NOTHING:
                zeroed.setdefault(vector.shape, vector)
            if kind not in {"running_var", "weight"} and _is_like_a_fresh_weight(vector):
                raised.setdefault(vector.shape, vector)
    for shape in zeroed.keys() & raised.keys():
        return (
            f"{zeroed[shape].name} would be {zeroed[shape].place} and is zero while {raised[shape].name} would be"
            f" {raised[shape].place} and is not: they seem to have changed places"
        )
    return None


def _within(vectors: dict[str, _Vector]) -> str | None:
    """Contradictions inside one norm."""
    variance, weight = vectors.get("running_var"), vectors.get("weight")
    if variance and (variance.low < 0 or variance.high == 0):
        return (
            f"{variance.name} would be {variance.place} and is {'negative' if variance.low < 0 else 'zero everywhere'}"
        )
    for kind in ("bias", "running_mean"):
        other = vectors.get(kind)
        if (
            weight
            and other
            and weight.shape[0] >= _ENOUGH
            and _MIXED[0] <= weight.negative <= _MIXED[1]
            and other.low > 0
            and other.spread < _SPREAD
        ):
            return f"{weight.name} would be {weight.place}, but looks like its {kind}, and {other.name} like its weight"
    return None


def _is_like_a_fresh_weight(vector: _Vector) -> bool:
    return _NEAR_ONE[0] <= vector.low <= vector.high <= _NEAR_ONE[1] and vector.spread < _NEARLY_EQUAL


def _is_norm(place: Place) -> bool:
    """A weight that is a vector, with at least one vector more of the same length."""
    weights = [slot for slot in place.slots if not slot.integer]
    return len(weights) > 1 and weights[0].kind == "weight" and all(s.shape == weights[0].shape for s in weights)


def _vectors(source: Sequence[Slot], place: Place, values: Callable[[str], Tensor]) -> dict[str, _Vector]:
    """Kind (or name, where it has none) -> summary, for the vectors of one place that are long enough to judge."""
    found = {}
    for here, slot in zip(source[place.start : place.stop], place.slots, strict=True):
        if slot.integer or len(slot.shape) != 1 or slot.shape[0] < _FEW:
            continue
        numbers = np.asarray(values(here.name).detach().float().cpu(), np.float64)
        if not np.isfinite(numbers).all():
            continue  # the reader warns of these; they are no evidence of an order
        mean = abs(float(numbers.mean()))
        found[slot.kind or slot.name] = _Vector(
            here.name,
            slot.name,
            here.shape,
            float(numbers.min()),
            float(numbers.max()),
            float((numbers < 0).mean()),
            float(numbers.std()) / mean if mean else np.inf,
        )
    return found
