"""What a model says beside its answer: that it is unsure, and that an image is unlike all it learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import BundleError
from regraft.evaluation.abstaining import Threshold
from regraft.heads.knn import directions
from regraft.heads.rows import finite_features, in_chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FLAGGED = 0.01  # share of images like the training ones that are flagged nevertheless
_NEIGHBOUR = 3  # the third nearest: a copy or two of an image say nothing about its kind
_MOST_NUMBERS = 1_500_000  # kept of training features: 3 MB, as float16
_MOST_JUDGED = 2000
_HIGH = 0.9  # quantile of training distances that the limit is taken from
_LEAST = 1e-3  # a distance; what float16 keeps of a direction says nothing of smaller ones


@dataclass(frozen=True)
class Familiar:
    """Directions of training images; what is far from all of them is unlike what the model learnt.

    The distance is 1 minus the cosine between an image's features and those of its third nearest training image
    (nearest neighbours: Y. Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022,
    arXiv:2204.06507). Several backbones' features are brought to length 1 each and count the same.

    It tells other kinds of pictures, not unknown classes of the same kind of picture: those it hardly tells apart.

    Attributes:
        directions: (M, D) float16, of length 1: training images, at most about 1.5 million numbers.
        limit: the distance that 1 % of images like the training ones exceed, above 0.
        blocks: widths of the backbones' features; their sum is D.
    """

    directions: NDArray[np.float16]
    limit: float
    blocks: tuple[int, ...]

    def unlike(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distance of features (N, D) in units of the limit: (N,); above 1 is unlike the training images."""
        rows = finite_features(features, self.directions.shape[1])
        known = self.directions.astype(np.float32)

        def score(part: NDArray[np.float32]) -> NDArray[np.float64]:
            return _distances(_towards(part, self.blocks) @ known.T)[:, None]

        return in_chunks(score, rows, 1)[:, 0] / self.limit

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For safetensors."""
        return {"directions": self.directions}

    def settings(self) -> dict[str, Any]:
        """Everything else, as JSON values."""
        return {"limit": self.limit, "blocks": list(self.blocks)}


@dataclass(frozen=True)
class Guard:
    """What stands beside a model's answers.

    Attributes:
        threshold: answers below its value are unsure; None where nobody asked for an accuracy.
        familiar: tells images that are unlike the training images; None where that is not known.
    """

    threshold: Threshold | None = None
    familiar: Familiar | None = None

    def unsure(self, confidence: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the answers with these probabilities (N,) are left to people."""
        least = 0.0 if self.threshold is None else self.threshold.value
        result: NDArray[np.bool_] = confidence < least
        return result

    def unlike(self, features: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """How far features (N, D) are from the training images, as `Familiar.unlike`; None where not known."""
        return None if self.familiar is None else self.familiar.unlike(features)

    def settings(self) -> dict[str, Any]:
        """Everything but arrays, as JSON values."""
        return {
            "threshold": None if self.threshold is None else self.threshold.to_json(),
            "familiar": None if self.familiar is None else self.familiar.settings(),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For safetensors; empty where only a threshold is known."""
        return {} if self.familiar is None else self.familiar.arrays()


def read_guard(settings: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Guard:
    """The guard that gave these `settings()` and `arrays()`.

    Raises:
        BundleError: parts are missing or of another kind.
    """
    try:
        threshold = None if settings["threshold"] is None else Threshold(**settings["threshold"])
        familiar = None
        if settings["familiar"] is not None:
            known, blocks = arrays["directions"], tuple(settings["familiar"]["blocks"])
            familiar = Familiar(known.astype(np.float16), float(settings["familiar"]["limit"]), blocks)
            familiar.unlike(np.zeros((1, known.shape[1]), np.float32))  # the only whole test of its parts
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BundleError(
            "the saved guard does not have the parts this version of Regraft expects. Use the version that wrote it, or"
            " train again."
        ) from error
    return Guard(threshold, familiar)


def learn_familiar(
    features: NDArray[np.float32],
    *,
    groups: NDArray[Any] | None = None,
    blocks: Sequence[int] = (),
    seed: int = 0,
) -> Familiar | None:
    """Learn what the training images are like; milliseconds for hundreds of them.

    The limit is the distance that 1 % of images like the training ones should exceed. Training images, each measured
    without itself and its group, give the median and the 90 % quantile; the 99 % quantile follows as if logarithms of
    distances were normal, but is never above the largest. The measured 99 % quantile of 300 images hangs on their three
    oddest: a few stray pictures among 245 of insects made it flag 25 % of pictures of people instead of all of them.

    Args:
        features: (N, D) of the training part.
        groups: (N,) images of one group are not each other's neighbours.
        blocks: widths of several backbones' features; none means one.
        seed: of the choice, where there are too many images to keep them all.

    Returns:
        What is familiar, or None for fewer than five images or groups, which say nothing about others.
    """
    if len(features) <= _NEIGHBOUR + 1:
        return None
    widths = tuple(blocks) or (features.shape[1],)
    order = np.random.default_rng(seed).permutation(len(features))
    rows = order[: max(_MOST_JUDGED, _MOST_NUMBERS // features.shape[1])]
    towards = _towards(finite_features(features[rows]), widths)
    # What is measured is what is kept: rounded.
    kept = towards[: max(1, _MOST_NUMBERS // features.shape[1])].astype(np.float16)
    near = towards[:_MOST_JUDGED] @ kept.astype(np.float32).T
    itself = np.arange(len(near))[:, None] == np.arange(len(kept))
    if groups is not None:
        own = groups[rows]
        itself |= own[: len(near), None] == own[None, : len(kept)]
    near[itself] = -np.inf
    if np.isneginf(np.sort(near, axis=1)[:, -(_NEIGHBOUR + 1) :]).any():
        return None
    distances = _distances(near).clip(_LEAST)
    middle, high = np.log(np.quantile(distances, [0.5, _HIGH]))
    normal = NormalDist()
    limit = np.exp(middle + (high - middle) * normal.inv_cdf(1 - FLAGGED) / normal.inv_cdf(_HIGH))
    return Familiar(kept, float(min(limit, distances.max())), widths)


def _towards(features: NDArray[np.float32], blocks: tuple[int, ...]) -> NDArray[np.float32]:
    """Features (N, D) of length 1, each backbone's share alike."""
    parts = np.split(features, np.cumsum(blocks)[:-1], axis=1)
    joined: NDArray[np.float32] = np.concatenate([directions(part) for part in parts], axis=1)
    return joined / np.float32(np.sqrt(len(blocks)))


def _distances(cosines: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 minus the third largest of each row (N, M), or the least of fewer."""
    place = max(0, cosines.shape[1] - _NEIGHBOUR)
    third = np.partition(cosines, place, axis=1)[:, place]
    return 1.0 - third.astype(np.float64)
