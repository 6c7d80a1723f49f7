"""Which of several candidates is better, measured on the same splits, and which of them to recommend."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.intervals import CONFIDENCE, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEVEL = 1 - CONFIDENCE
"""A difference whose p is below this is one; with any other, two candidates are tied."""
AS_FAST = 1.1
"""Times within a tenth of each other count as equal: they depend on what else the machine does."""
_FEWEST = 2  # splits that anything can be said from


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean over splits, its interval, how probable one as far from 0 is where there is none (p), standard error."""

    mean: float
    low: float
    high: float
    p: float
    error: float


def corrected_test(
    values: NDArray[np.float64], ratio: float, *, confidence: float = CONFIDENCE, floor: float = 0.0
) -> Difference:
    """The corrected resampled t-test of differences between two candidates, one a split.

    Training parts of different splits overlap, so their results depend on each other and the plain t-test finds
    differences where there are none. The correction adds the ratio of the parts to 1/J in the variance of the mean
    over J splits; J - 1 degrees of freedom.

    Source: C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine Learning 52 (2003); for repeated
    cross-validation R. R. Bouckaert and E. Frank, PAKDD 2004.

    Args:
        values: (J,) differences; of a single split nothing can be said: p is 1 and the interval without end.
        ratio: held-out images over images that were learnt from, such as 1/4 of five folds.
        confidence: of the interval.
        floor: the least standard deviation between splits that is believed. A few splits that happen to agree to the
            last image would else say that there is no doubt at all.
    """
    from scipy.special import stdtr, stdtrit

    count, mean = len(values), float(values.mean())
    if count < 2:  # noqa: PLR2004 - no spread in one number
        return Difference(mean, -np.inf, np.inf, 1.0, np.inf)
    error = float(np.sqrt((1 / count + ratio) * max(values.var(ddof=1), floor**2)))
    if error < np.finfo(np.float64).eps:  # the same in every split
        return Difference(mean, mean, mean, float(abs(mean) < np.finfo(np.float64).eps), 0.0)
    half = float(stdtrit(count - 1, 0.5 + confidence / 2)) * error
    return Difference(mean, mean - half, mean + half, float(2 * stdtr(count - 1, -abs(mean) / error)), error)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to a model, and what was measured of it.

    Attributes:
        backbone: whose features, such as `a+b`.
        strategy: what was done with them.
        scores: (S,) its metric on the held-out part of each split; NaN where it was not measured.
        fit_seconds: to fit it once, mean over the splits.
        image_ms: to predict an image, backbones and head, once it is decoded; NaN where that has no say.
        size: bytes of its bundle's arrays, backbones and head.
        losses: (S,) mean log loss in nats, likewise; None where it is not known.
    """

    backbone: str
    strategy: str
    scores: NDArray[np.float64]
    fit_seconds: float
    image_ms: float
    size: int
    losses: NDArray[np.float64] | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.strategy} on {self.backbone}"


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a candidate stands.

    Attributes:
        candidate: which one.
        mean: its metric, mean over all splits. Where it was measured on some only: the best one's mean over all, plus
            the difference between the two over the splits that they share.
        low: lower end of the corrected 95 % interval.
        high: its upper end.
        p: of the corrected test against the best; 1 for the best itself.
        p_loss: of the same test of the log loss, where it is the larger one; 1 where it is not, or is not known.
        tie: it cannot be told apart from the best by either.
        close: it is a tie, and its mean lies within one standard error of the best one's.
        recommended: the one to take.
    """

    candidate: Candidate
    mean: float
    low: float
    high: float
    p: float
    p_loss: float
    tie: bool
    close: bool
    recommended: bool

    @property
    def log_loss(self) -> float | None:
        """Its mean log loss in nats over the splits it was measured on."""
        losses = self.candidate.losses
        return None if losses is None else float(np.nanmean(losses))

    @property
    def splits(self) -> int:
        """On how many splits it was measured."""
        return int(np.isfinite(self.candidate.scores).sum())

    def to_json(self) -> dict[str, Any]:
        """As JSON values; splits that were not measured are null."""
        own = self.candidate
        return {
            "name": own.name,
            "backbone": own.backbone,
            "strategy": own.strategy,
            "mean": self.mean,
            "interval": [self.low, self.high],
            "p_against_best": self.p,
            "log_loss": self.log_loss,
            "p_log_loss": self.p_loss,
            "tie": self.tie,
            "close": self.close,
            "recommended": self.recommended,
            "splits": self.splits,
            "fit_seconds": round(own.fit_seconds, 4),
            "image_ms": None if np.isnan(own.image_ms) else round(own.image_ms, 4),
            "bytes": own.size,
            "scores": [float(score) if np.isfinite(score) else None for score in own.scores],
        }


@dataclass(frozen=True, slots=True)
class Optimism:
    """How much better the winner looks than the whole procedure of choosing it is on images that took no part.

    Attributes:
        own: the winner's mean, from the splits that it was chosen on.
        nested: mean over outer folds of what was chosen without them.
        chosen: what was chosen in each outer fold.
    """

    own: float
    nested: float
    chosen: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"the whole procedure, repeated inside {len(self.chosen)} outer folds, reaches {self.nested:.3f}; the"
            f" winner's own mean {self.own:.3f} is optimistic by about {self.own - self.nested:+.3f}"
        )


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """A finished comparison.

    Attributes:
        standings: the best first.
        metric: "accuracy" or "balanced_accuracy".
        splits: what the splits were, for people ("5 folds x 3 repeats").
        images: how many images took part, all of them of the training part.
        missed: candidates that did not fit in the budget.
        failed: candidates that could not be fitted, and why.
        notes: what else the reader must know.
        optimism: the nested estimate, where it was asked for.
    """

    standings: tuple[Standing, ...]
    metric: str
    splits: str
    images: int
    missed: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    optimism: Optimism | None = None

    @property
    def best(self) -> Standing:
        """The highest mean."""
        return self.standings[0]

    @property
    def recommended(self) -> Standing:
        """The one to take."""
        return next(one for one in self.standings if one.recommended)

    @property
    def sentence(self) -> str:
        """Best, ties, and what is recommended for which reason."""
        best, chosen, count = self.best, self.recommended, len(self.standings)
        what = f"{best.mean:.3f} {self.metric.replace('_', ' ')} ({best.low:.3f} to {best.high:.3f}, {self.splits})"
        others = len(self.missed) + len(self.failed)
        if count == 1:
            left = f"; {others} others could not be measured" if others else "; it was the only candidate"
            return f"{best.candidate.name}: {what}{left}"
        head = f"best of {count} is {best.candidate.name}, {what}. "
        tied = sum(one.tie for one in self.standings) - 1
        if not tied:
            return head + "All others are worse by more than chance, in it or in log loss. It is recommended"
        close = sum(one.close for one in self.standings) - 1
        head += f"{tied} of the others cannot be told apart from it, {close or 'none'} within one standard error. "
        ours, theirs = chosen.candidate, best.candidate
        if chosen is best:
            return head + "The best is recommended"
        if np.isnan(ours.image_ms):
            return head + f"Recommended: {ours.name}, {chosen.mean:.3f}"
        if ours.image_ms * AS_FAST < theirs.image_ms:
            reason = f"predicts an image in {ours.image_ms:.3g} ms instead of {theirs.image_ms:.3g}"
        else:
            reason = f"is among the fastest of these, {ours.image_ms:.3g} ms an image"
        return head + f"Recommended: {ours.name}, {chosen.mean:.3f}, which {reason}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        nested = self.optimism
        return {
            "metric": self.metric,
            "splits": self.splits,
            "images": self.images,
            "recommended": self.recommended.candidate.name,
            "sentence": self.sentence,
            "candidates": [one.to_json() for one in self.standings],
            "missed": list(self.missed),
            "failed": self.failed,
            "notes": list(self.notes),
            "optimism": None
            if nested is None
            else {"own": nested.own, "nested": nested.nested, "chosen": list(nested.chosen)},
        }

    def to_csv(self) -> str:
        """One row a candidate, the best first; scores of the splits in columns split_1, split_2, ..."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        count = len(self.best.candidate.scores)
        plain = ["name", "backbone", "strategy", "mean", "low", "high", "p_against_best", "log_loss", "p_log_loss"]
        plain += ["tie", "close", "recommended", "splits", "fit_seconds", "image_ms", "bytes"]
        writer.writerow([*plain, *(f"split_{n + 1}" for n in range(count))])
        for one in self.standings:
            row = one.to_json()
            scores = ["" if score is None else f"{score:.6f}" for score in row.pop("scores")]
            row["mean"], (low, high) = f"{one.mean:.6f}", row.pop("interval")
            cells = {**row, "low": f"{low:.6f}", "high": f"{high:.6f}", "p_against_best": f"{one.p:.6g}"}
            cells |= {"log_loss": "" if one.log_loss is None else f"{one.log_loss:.6f}"}
            cells |= {"p_log_loss": f"{one.p_loss:.6g}"}
            writer.writerow([*(cells[name] for name in plain), *scores])
        return buffer.getvalue()


def stand(
    candidates: Sequence[Candidate], ratio: float, images: int, *, as_fast: float = AS_FAST
) -> tuple[Standing, ...]:
    """Rank candidates, mark those that cannot be told apart from the best, and recommend the cheapest of the close.

    Apart are two whose metric differs by more than chance, or whose log loss does: on few images the share of right
    answers moves in coarse steps, and a difference that is there is seen in the probabilities first.

    "Cannot be told apart" is not "equal", all the less the fewer images there are. So the cheapest is taken among those
    ties whose mean lies within one standard error (of the difference, corrected) of the best one's: the rule of one
    standard error of L. Breiman et al., "Classification and regression trees" (1984), section 3.4.3.

    Cheapest: the milliseconds an image takes decide, where those up to `as_fast` times the least are equal; of these
    the one of the highest mean, then the smallest.

    Args:
        candidates: each measured on one split at least; those measured on some only must share these with the ones
            measured on most.
        ratio: as in `corrected_test`.
        images: how many different images were held out, for the interval of one that scored the same everywhere.
        as_fast: infinite where time is of no account.
    """
    scores = np.array([one.scores for one in candidates])
    measured = np.isfinite(scores)
    counts = measured.sum(axis=1)
    held_out = max(1.0, images * ratio / (1 + ratio))
    floor = 0.5 / held_out  # one image more or less is a coin thrown in every split
    full = np.flatnonzero(counts == counts.max())
    reference = full[np.argmax([scores[n][measured[n]].mean() for n in full])]
    means = np.array([_mean_beside(own, scores[reference]) for own in scores])
    seen = counts >= min(_FEWEST, counts.max())  # one split says nothing, however good it looks
    best = int(np.argmax(np.where(seen, means, -np.inf)))
    tests = [_against(scores[best], own, ratio, floor) for own in scores]
    losses = [_loss_against(candidates[best], own, ratio) for own in candidates]
    tied = [n == best or min(test.p, losses[n]) >= LEVEL for n, test in enumerate(tests)]
    close = [tied[n] and seen[n] and (n == best or tests[n].mean <= tests[n].error) for n in range(len(candidates))]
    chosen = _cheapest([n for n, near in enumerate(close) if near], candidates, means, as_fast)
    standings = []
    for n in sorted(range(len(candidates)), key=lambda n: (-means[n], n != best, n)):
        low, high = _interval(scores[n][measured[n]], float(means[n]), ratio, floor, images)
        p = 1.0 if n == best else tests[n].p
        marks = tied[n], bool(close[n]), n == chosen
        standings.append(Standing(candidates[n], float(means[n]), low, high, p, losses[n], *marks))
    return tuple(sorted(standings, key=lambda one: one.candidate is not candidates[best]))


def _mean_beside(own: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The mean over the reference's splits, of which `own` may lack some; a share, so never outside 0 to 1."""
    lacks = np.isnan(own) & np.isfinite(reference)
    if not lacks.any():
        return float(own[np.isfinite(own)].mean())
    beside = float(reference[np.isfinite(reference)].mean() + np.nanmean(own - reference))
    return min(1.0, max(0.0, beside))


def _against(best: NDArray[np.float64], own: NDArray[np.float64], ratio: float, floor: float = 0.0) -> Difference:
    differences = best - own
    return corrected_test(differences[np.isfinite(differences)], ratio, floor=floor)


def _loss_against(best: Candidate, own: Candidate, ratio: float) -> float:
    """P of the corrected test where the log loss is larger than the best one's; 1 where it is not."""
    if own is best or best.losses is None or own.losses is None:
        return 1.0
    found = _against(own.losses, best.losses, ratio)
    return found.p if found.mean > 0 else 1.0


def _interval(values: NDArray[np.float64], mean: float, ratio: float, floor: float, images: int) -> tuple[float, float]:
    """Corrected interval around `mean`, within 0 and 1, and no narrower than that of a proportion of the images."""
    alone = len(values) < _FEWEST
    seen = max(1.0, images * ratio / (1 + ratio)) if alone else images
    low, high = wilson(mean * seen, seen).tolist()
    if alone:
        return low, high
    found = corrected_test(values, ratio, floor=floor)
    half = found.high - found.mean
    return max(0.0, min(low, mean - half)), min(1.0, max(high, mean + half))


def _cheapest(tied: Sequence[int], candidates: Sequence[Candidate], means: NDArray[np.float64], as_fast: float) -> int:
    least = min(candidates[n].image_ms for n in tied)
    fast = [n for n in tied if np.isinf(as_fast) or candidates[n].image_ms <= as_fast * least]
    return min(fast, key=lambda n: (-round(float(means[n]), 12), candidates[n].size, candidates[n].fit_seconds, n))
