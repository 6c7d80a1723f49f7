"""Leaving the unsure to people: how right the answers are that are kept, and which confidence to keep them from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.intervals import wilson
from regraft.evaluation.predictions import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.evaluation.predictions import Predictions

CERTAINTY = 0.9  # that a threshold which was reached keeps its promise on new images of the same kind
_HAIR = 1e-6  # relative; where no lower confidence was seen, a threshold lies this close below


@dataclass(frozen=True)
class RiskCoverage:
    """Accuracy of the answers that are kept, for every share that can be kept by a threshold on confidence.

    Attributes:
        coverage: (M,) share kept, rising to 1.
        accuracy: (M,) of what is kept.
        threshold: (M,) least confidence kept, falling.
        aurc: mean risk (1 - accuracy) over all shares; 0 where nothing is wrong, lower is better.
    """

    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    threshold: NDArray[np.float64]
    aurc: float


@dataclass(frozen=True, slots=True)
class Kept:
    """What a threshold keeps of one part of the data: counts of answers."""

    kept: int
    right: int
    images: int

    @property
    def coverage(self) -> float:
        """Share of the answers that is kept."""
        return self.kept / self.images if self.images else 0.0

    @property
    def accuracy(self) -> float | None:
        """Accuracy of what is kept; None where nothing is."""
        return self.right / self.kept if self.kept else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        low, high = wilson(self.right, self.kept)
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "coverage": self.coverage, "accuracy": self.accuracy, "interval": list(self.interval)}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold on confidence: answers below it are unsure.

    Attributes:
        value: 0..1; 0 keeps everything.
        target: the accuracy on what is kept that was asked for.
        promised: the accuracy on what is kept that new images of the same kind have, with 90 % certainty.
        coverage: share of the images it was chosen on that it keeps.
        accuracy: of those it keeps, as measured.
        images: how many images it was chosen on.
    """

    value: float
    target: float
    promised: float
    coverage: float
    accuracy: float
    images: int

    @property
    def reached(self) -> bool:
        """Whether the promise is what was asked for."""
        return self.promised >= self.target

    def sentence(self, source: str) -> str:
        """What was found, for people; `source` says what the images were ("validation images")."""
        on = f"of {self.images:,} {source} it keeps {100 * self.coverage:.0f} %, {self.accuracy:.3f} of them right"
        if self.reached:
            if not self.value:
                return f"nothing needs to be left out for an accuracy of {self.target:g}: {on}"
            return f"answers below confidence {self.value:.3f} are unsure, for an accuracy of {self.target:g}: {on}"
        return (
            f"{self.images:,} {source} cannot vouch for an accuracy of {self.target:g} on any share that is kept; the"
            f" most they can is {self.promised:.3f}, with answers below confidence {self.value:.3f} unsure ({on}). Give"
            " more images, or ask for less."
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values, from which `Threshold(**values)` is made again."""
        return asdict(self)


def confidences(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability of the predicted class, and whether it is right, (N,) each, of the rows whose class is known."""
    known = predictions.targets >= 0
    correct = predictions.predicted()[known] == predictions.targets[known]
    return softmax(predictions.logits[known]).max(axis=1), correct


def risk_coverage(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> RiskCoverage:
    """The curve of accuracy against share kept, the most confident kept first.

    Images of equal confidence are kept together; the area under the risk takes them in random order, so nothing
    depends on the order of the rows. Source: Y. Geifman, G. Uziel and R. El-Yaniv, "Bias-reduced uncertainty
    estimation for deep neural classifiers", ICLR 2019, arXiv:1805.08206.

    Args:
        confidence: (N,), at least one.
        correct: (N,).
    """
    values, kept, right = _steps(confidence, correct)
    sizes, wrong = np.diff(kept, prepend=0), np.diff(kept - right, prepend=0)
    within = np.arange(len(confidence)) - np.repeat(kept - sizes, sizes) + 1  # place within its equals, from 1
    before = np.repeat(kept - right - wrong, sizes)
    errors = before + np.repeat(wrong / sizes, sizes) * within
    aurc = float((errors / np.arange(1, len(confidence) + 1)).mean())
    return RiskCoverage(kept / len(confidence), right / kept, values, aurc)


def keep(confidence: NDArray[np.float64], correct: NDArray[np.bool_], threshold: float) -> Kept:
    """What a threshold keeps, of confidences (N,) and whether they are right (N,)."""
    kept = confidence >= threshold
    return Kept(int(kept.sum()), int(correct[kept].sum()), len(confidence))


def choose_threshold(confidence: NDArray[np.float64], correct: NDArray[np.bool_], target: float) -> Threshold:
    """The threshold that keeps most, of those whose accuracy on what is kept is `target` with 90 % certainty.

    Certainty is that of the exact binomial test (C. Clopper and E. Pearson, Biometrika 26, 1934), one-sided. Taking
    the least threshold whose accuracy is as measured `target` would miss it on new images more often than not: in
    simulations of 60 to 1,000 images, three kinds of models and targets of 0.8 to 0.99 that missed wherever the
    target meant anything, in 49 to 99 % of data sets; this rule missed in at most 11 %. Its price are answers:
    where 250 images can promise 0.9 it kept 66 % instead of 81 %.

    Where no threshold passes, the highest one of the best lower bound is given, and `reached` is false; it is never 0,
    so that what is less certain than any of these images is unsure at least.

    Args:
        confidence: (N,), at least one, of images that neither head nor calibration had learnt from.
        correct: (N,).
        target: above 0, below 1.
    """
    values, kept, right = _steps(confidence, correct)
    bounds = _lower_bounds(kept, right)
    passing = np.flatnonzero(bounds >= target)
    chosen = int(passing[-1]) if len(passing) else int(bounds.argmax())
    # half-way to the first that is left out, so that the last digit of a probability decides nothing
    below = values[chosen + 1] if chosen + 1 < len(values) else (1 - _HAIR) * values[-1]
    keeps_all = len(passing) > 0 and chosen == len(values) - 1
    value = 0.0 if keeps_all else float(values[chosen] + below) / 2
    return Threshold(
        value=value,
        target=target,
        promised=float(bounds[chosen]),
        coverage=float(kept[chosen] / len(confidence)),
        accuracy=float(right[chosen] / kept[chosen]),
        images=len(confidence),
    )


def _lower_bounds(kept: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """One-sided Clopper-Pearson bounds: the quantile of a beta distribution; 0 where nothing is right."""
    from scipy.special import betaincinv

    bounds = betaincinv(np.maximum(right, 1), kept - right + 1, 1 - CERTAINTY)
    result: NDArray[np.float64] = np.where(right > 0, bounds, 0.0)
    return result


def _steps(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct confidences falling, and how many images, and right ones, are at or above each: (M,) each."""
    rising, position, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    hits = np.bincount(position, correct, minlength=len(rising)).astype(np.int64)
    return rising[::-1], counts[::-1].cumsum(), hits[::-1].cumsum()
