"""Which labels are probably wrong: confident learning on probabilities from models that had not seen the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.heads.folds import make_folds
from regraft.heads.head import log_softmax
from regraft.heads.linear_probe import fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REPEATS = 3
_COMPARABLE, _OFTEN, _MOST = 8, 0.25, 2000  # images; share of the smaller class; images compared
_SEPARATE = 0.7


@dataclass(frozen=True)
class LabelErrors:
    """Labels that are probably wrong.

    Attributes:
        rows: (M,) positions of the images, the most certain first.
        suggested: (M,) index of the class that each more probably shows.
        margins: (M,) logarithm of the given class's probability over the suggested one's, ascending, negative.
        joint: (K, K) estimated share of all images that are labelled i (row) and show j (column); sums to 1.
        noise: estimated share of wrong labels, 1 - trace(joint).
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    margins: NDArray[np.float64]
    joint: NDArray[np.float64]

    @property
    def noise(self) -> float:
        """Estimated share of wrong labels, 0 to 1."""
        return max(0.0, 1.0 - float(np.trace(self.joint)))


def held_out_probabilities(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    n_classes: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    repeats: int = _REPEATS,
) -> NDArray[np.float64]:
    """Probabilities (N, K) of each image by linear probes that learnt from other images and other groups only.

    The probe's strength is chosen once, by cross-validation on all images; each image's probabilities are the mean
    over several divisions into five folds. Rows of images that cannot be held out (a class with one image or one
    group) are NaN.

    Args:
        features: (N, D).
        targets: (N,) class indices, two classes or more.
        n_classes: K.
        groups: (N,) images that must be on one side of a fold, such as near-duplicates.
        seed: of the folds.
        repeats: how many divisions.
    """
    total = np.zeros((len(targets), n_classes))
    times = np.zeros(len(targets), np.int64)
    strength = fit(features, targets, n_classes, groups=groups, seed=seed).chosen["strength"]
    for repeat in range(repeats):
        for learn, held_out in make_folds(targets, groups=groups, seed=seed + repeat):
            head = fit(features[learn], targets[learn], n_classes, strengths=(strength,)).head
            total[held_out] += np.exp(log_softmax(head.logits(features[held_out])))
            times[held_out] += 1
    with np.errstate(invalid="ignore"):
        probabilities: NDArray[np.float64] = total / times[:, None]
    return probabilities


def confident_joint(probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts (K, K) of images labelled i (row) that confidently show j (column).

    An image confidently shows the most probable of the classes whose probability reaches that class's threshold: the
    mean probability of the class among the images labelled so (Northcutt, Jiang and Chuang, 2021, arXiv:1911.00068,
    equation 1).

    Args:
        probabilities: (N, K), held out.
        targets: (N,) labels.
    """
    n_classes = probabilities.shape[1]
    confident = _confident_class(probabilities, targets)
    counts = np.zeros((n_classes, n_classes), np.int64)
    sure = confident >= 0
    np.add.at(counts, (targets[sure], confident[sure]), 1)
    return counts


def _confident_class(probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class that each image confidently shows; -1 where it reaches no threshold."""
    n_classes = probabilities.shape[1]
    sums, sizes = np.zeros(n_classes), np.bincount(targets, minlength=n_classes)
    np.add.at(sums, targets, probabilities[np.arange(len(targets)), targets])
    thresholds = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
    reaching = np.where(probabilities >= thresholds - 1e-12, probabilities, -1.0)
    best = reaching.argmax(axis=1)
    return np.where(reaching.max(axis=1) >= 0, best, -1).astype(np.int64)


def calibrated_joint(counts: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The confident joint scaled so that rows have the shares of the labels and all sums to 1 (equation 3)."""
    sizes = np.bincount(targets, minlength=len(counts)).astype(np.float64)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.where(rows > 0, counts / np.maximum(rows, 1), np.eye(len(counts)))
    joint: NDArray[np.float64] = shares * (sizes / max(1.0, sizes.sum()))[:, None]
    return joint


def label_errors(probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> LabelErrors:
    """The images whose probabilities contradict their labels, the most certain contradictions first.

    Suspects are the images for which another class is more probable than the one they are labelled with. How many
    wrong labels are to be expected is what confident learning says (`noise`). They are ranked by the logarithm of the
    ratio of both probabilities: with planted errors among 40 classes it put 34 of 40 into the first 60, the plain
    difference (the paper's normalised margin) 25, as it says little where probability is spread over many classes.

    Args:
        probabilities: (N, K), held out; rows with NaN take no part.
        targets: (N,) class indices.
    """
    known = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    given, likely = targets[known], np.log(np.maximum(probabilities[known], 1e-300))
    joint = calibrated_joint(confident_joint(probabilities[known], given), given)
    lines = np.arange(len(known))
    others = likely.copy()
    others[lines, given] = -np.inf
    suggested = others.argmax(axis=1)
    margins = likely[lines, given] - others[lines, suggested]
    order = np.argsort(margins, kind="stable")
    order = order[margins[order] < 0]
    return LabelErrors(known[order], suggested[order], margins[order], joint)


def inseparable(probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> tuple[tuple[int, int, float], ...]:
    """Pairs of classes that held-out probabilities hardly tell apart, with the area under the curve of each.

    The area is the chance that of two images, one of each class, the right one looks more like its class: 0.5 is
    guessing. Below 0.7 the two may be one class. Only classes of eight or more images that are often taken for each
    other are compared.

    Args:
        probabilities: (N, K), held out; rows with NaN take no part.
        targets: (N,) class indices.
    """
    known = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    likely, given = probabilities[known], targets[known]
    n_classes = likely.shape[1]
    mistaken = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(mistaken, (given, likely.argmax(axis=1)), 1)
    sizes = np.bincount(given, minlength=n_classes)
    both = mistaken + mistaken.T
    found = []
    for a, b in zip(*np.nonzero(np.triu(both, 1)), strict=True):
        if min(sizes[a], sizes[b]) < _COMPARABLE or both[a, b] < _OFTEN * min(sizes[a], sizes[b]):
            continue
        odds = np.log(np.maximum(likely[:, a], 1e-300)) - np.log(np.maximum(likely[:, b], 1e-300))
        area = _area(odds[given == a][:_MOST], odds[given == b][:_MOST])
        if area < _SEPARATE:
            found.append((int(a), int(b), area))
    return tuple(sorted(found, key=lambda pair: pair[2]))


def _area(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """The share of pairs that are in order, ties counting half (Mann and Whitney, 1947)."""
    above = np.sign(higher[:, None] - lower[None, :])
    return float((above.mean() + 1) / 2)
