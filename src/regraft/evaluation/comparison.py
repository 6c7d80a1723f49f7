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
_AS_QUICK, _QUICK = 2.0, 0.1  # fits up to so many times the quickest, or so many seconds, are equal: timed once


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
        fit_seconds: to fit it once, alone.
        image_ms: to predict an image, backbones and head, once it is decoded; NaN where that has no say.
        size: bytes of its bundle's arrays, backbones and head.
        losses: (S,) mean log loss in nats, likewise; None where it is not known.
        enough: on how many splits it must have been measured to be recommended, or as many as anybody was.
    """

    backbone: str
    strategy: str
    scores: NDArray[np.float64]
    fit_seconds: float
    image_ms: float
    size: int
    losses: NDArray[np.float64] | None = None
    enough: int = _FEWEST

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
        p_least: the smaller of both, which decides; None for the best itself, and where the two share a single split.
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
    p_least: float | None
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

    @property
    def bounds(self) -> str | None:
        """The interval for people; None where it leaves everything open."""
        return None if self.low <= 0 and self.high >= 1 else f"{self.low:.3f} to {self.high:.3f}"

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
        low: lower end of the corrected 95 % interval of `nested`.
        high: its upper end.
        chosen: what was chosen in each outer fold.
    """

    own: float
    nested: float
    low: float
    high: float
    chosen: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For people."""
        head = (
            f"the whole procedure, repeated inside {len(self.chosen)} outer folds, reaches {self.nested:.3f}"
            f" ({self.low:.3f} to {self.high:.3f}); the winner's own mean {self.own:.3f}"
        )
        if self.own <= self.nested:
            return f"{head} is not above it"
        rough = ", roughly: the interval holds that mean, too" if self.own <= self.high else ""
        return f"{head} is optimistic by about {self.own - self.nested:+.3f}{rough}"


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
    def brief(self) -> str:
        """How many were compared and which one is recommended, in a line."""
        chosen, count = self.recommended, len(self.standings)
        many = f"{count} candidates" if count > 1 else "one candidate"
        return f"compared {many}: {chosen.candidate.name} is recommended, {self._reached(chosen)}"

    @property
    def sentence(self) -> str:
        """Best, ties, and what is recommended for which reason."""
        best, count = self.best, len(self.standings)
        what = f"{best.candidate.name}, {self._reached(best)} on {self.splits}"
        if count == 1:
            lacking = ((len(self.missed), "did not fit in the budget"), (len(self.failed), "could not be fitted"))
            left = " and ".join(f"{number} {why}" for number, why in lacking if number)
            return f"The only one measured is {what}; of the others {left}" if left else f"The only candidate is {what}"
        return f"Best of {count} is {what}. {self._hardly_measured()}{self._against_others()}{self._advice()}"

    def _reached(self, one: Standing) -> str:
        bounds = f" ({one.bounds})" if one.bounds else ""
        return f"{one.mean:.3f} {self.metric.replace('_', ' ')}{bounds}"

    def _hardly_measured(self) -> str:
        """What looks better than the best, but may not be recommended."""
        return "".join(
            f"{one.mean:.3f} of {one.candidate.name} was seen on {one.splits} split{'s' if one.splits > 1 else ''}"
            " only, too few to recommend it. "
            for one in self.standings
            if one.mean > self.best.mean
        )

    def _against_others(self) -> str:
        others = self.standings[1:]
        if self.best.splits < _FEWEST:
            return "One split cannot tell candidates apart. "
        tied, close = sum(one.tie for one in others), sum(one.close for one in others)
        if tied:
            return f"{tied} of the others cannot be told apart from it, {close or 'none'} within one standard error. "
        by_loss = sum(one.p >= LEVEL for one in others)
        some = f", {by_loss} of them in log loss only" if by_loss else ""
        where = ", in log loss" if by_loss == len(others) else some
        return f"All others are worse by more than chance{where}. "

    def _advice(self) -> str:
        best, chosen = self.best, self.recommended
        if chosen is best:
            return "The best is recommended"
        ours, theirs = chosen.candidate, best.candidate
        if np.isnan(ours.image_ms) or np.isnan(theirs.image_ms):
            reason = ""
        elif ours.image_ms * AS_FAST < theirs.image_ms:
            reason = f", which predicts an image in {ours.image_ms:.3g} ms instead of {theirs.image_ms:.3g}"
        else:
            reason = f", which is among the fastest of these, {ours.image_ms:.3g} ms an image"
        return f"Recommended: {ours.name}, {chosen.mean:.3f}{reason}"

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
            else {
                "own": nested.own,
                "nested": nested.nested,
                "interval": [nested.low, nested.high],
                "chosen": list(nested.chosen),
            },
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
    the one of the highest mean, then the quickest to fit (twice the time is as quick, as is a tenth of a second), then
    the smallest.

    What was hardly measured is neither the best nor recommended, however good it looks: see `Candidate.enough`.

    Args:
        candidates: each measured on one split at least; those measured on some only must share these with the ones
            measured on most.
        ratio: as in `corrected_test`.
        images: how many different images were held out, for the interval of one that scored the same everywhere.
        as_fast: infinite where time is of no account; the time of a fit is none then, either.
    """
    scores = np.array([one.scores for one in candidates])
    measured = np.isfinite(scores)
    counts = measured.sum(axis=1)
    floor = _floor(ratio, images)
    full = np.flatnonzero(counts == counts.max())
    reference = full[np.argmax([scores[n][measured[n]].mean() for n in full])]
    means = np.array([_mean_beside(own, scores[reference]) for own in scores])
    seen = counts >= np.minimum([one.enough for one in candidates], counts.max())
    best = int(np.argmax(np.where(seen, means, -np.inf)))
    tests = [_against(scores[best], own, ratio, floor) for own in scores]
    losses = [_loss_against(candidates[best], own, ratio) for own in candidates]
    tied = [n == best or min(test.p, losses[n]) >= LEVEL for n, test in enumerate(tests)]
    close = [bool(tied[n] and seen[n] and _within(tests[n])) or n == best for n in range(len(candidates))]
    chosen = _cheapest([n for n, near in enumerate(close) if near], candidates, means, as_fast)
    standings = []
    for n in sorted(range(len(candidates)), key=lambda n: (-means[n], n != best, n)):
        low, high = _interval(scores[n][measured[n]], float(means[n]), ratio, floor, images)
        p = 1.0 if n == best else tests[n].p
        least = None if n == best or np.isinf(tests[n].error) else min(p, losses[n])
        marks = tied[n], close[n], n == chosen
        standings.append(Standing(candidates[n], float(means[n]), low, high, p, losses[n], least, *marks))
    return tuple(sorted(standings, key=lambda one: one.candidate is not candidates[best]))


def mean_interval(values: NDArray[np.float64], ratio: float, images: int) -> tuple[float, float]:
    """The corrected 95 % interval of a mean score over splits.

    Args:
        values: (J,) scores.
        ratio: as in `corrected_test`.
        images: how many different images were held out.
    """
    return _interval(values, float(values.mean()), ratio, _floor(ratio, images), images)


def _floor(ratio: float, images: int) -> float:
    """The least deviation between splits: one image more or less is a coin thrown in every split."""
    return 0.5 / max(1.0, images * ratio / (1 + ratio))


def _within(behind: Difference) -> bool:
    """Whether the difference is one standard error at most; of a single split that is not known."""
    return behind.mean <= (behind.error if np.isfinite(behind.error) else 0.0)


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
    fast = [n for n in tied if not candidates[n].image_ms > as_fast * least]  # NaN: time has no say
    highest = max(round(float(means[n]), 12) for n in fast)
    equal = [n for n in fast if round(float(means[n]), 12) == highest]
    if np.isfinite(as_fast):
        quickest = min(candidates[n].fit_seconds for n in equal)
        equal = [n for n in equal if candidates[n].fit_seconds <= max(_QUICK, _AS_QUICK * quickest)]
    return min(equal, key=lambda n: (candidates[n].size, n))
