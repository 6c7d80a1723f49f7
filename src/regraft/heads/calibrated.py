"""A head whose probabilities were corrected on images that it had not learnt from: by a temperature or by steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from regraft import heads
from regraft.heads.calibration import temperature
from regraft.heads.folds import make_folds, stratified_subset
from regraft.heads.head import Head, log_softmax
from regraft.heads.isotonic import Steps, learn_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Method = Literal["auto", "none", "temperature", "isotonic"]
FEW = 1000  # images below which steps tend to learn the noise: Niculescu-Mizil and Caruana, ICML 2005
_SURE = 6.635  # 99 % quantile of chi square with one degree of freedom
_INNER = "inner."
_PARTS = 5
_MOST_ROWS = 2000


@dataclass(frozen=True)
class Calibrated:
    """logits = log(steps(softmax(inner logits / temperature))), or inner logits / temperature where there are none.

    A temperature never changes which class is first; steps may, where that makes the probabilities truer.

    Attributes:
        inner: the head that was calibrated.
        temperature: above 0.
        steps: one curve a class, or None.
        n_classes: K.
    """

    name: ClassVar[str] = "calibrated"
    inner: Head
    temperature: float
    steps: Steps | None
    n_classes: int

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to logits (N, K)."""
        return corrected(self.inner.logits(features), self.temperature, self.steps)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric."""
        own = {} if self.steps is None else self.steps.arrays()
        return {**{_INNER + name: array for name, array in self.inner.arrays().items()}, **own}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        inner = {"name": self.inner.name, "settings": self.inner.settings()}
        return {"inner": inner, "temperature": self.temperature, "n_classes": self.n_classes}


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Calibrated:
    """The head that gave these `arrays()` and `settings()`."""
    parts = {name.removeprefix(_INNER): array for name, array in arrays.items() if name.startswith(_INNER)}
    steps = None
    if "steps_x" in arrays:
        steps = Steps(arrays["steps_x"], arrays["steps_y"], arrays["steps_ends"])
    inner = heads.load(settings["inner"]["name"], parts, settings["inner"]["settings"])
    return Calibrated(inner, settings["temperature"], steps, settings["n_classes"])


def corrected(logits: NDArray[np.float64], heat: float, steps: Steps | None) -> NDArray[np.float64]:
    """Logits (N, K) with a temperature and steps applied."""
    cooled = logits / heat
    if steps is None:
        return cooled
    # a class that the head never saw lies below what a probability can be: it stays last, and finite
    with np.errstate(divide="ignore"):
        raised = np.log(steps(np.exp(log_softmax(cooled))))
    lowest: NDArray[np.float64] = log_softmax(cooled).min(axis=1, keepdims=True)
    result: NDArray[np.float64] = np.maximum(raised, lowest)
    return result


@dataclass(frozen=True)
class Calibration:
    """What calibration did.

    Attributes:
        head: the head to use from now on; the same one where nothing was done.
        logits: (N, K) calibrated logits of the images it was learnt on, fit to be judged on these same images: steps
            are learnt without the part that they are applied to.
        method: what was done: "none", "temperature" or "isotonic".
        temperature: 1 where it is not "temperature".
    """

    head: Head
    logits: NDArray[np.float64]
    method: str
    temperature: float = 1.0


def calibrate(
    head: Head, logits: NDArray[np.float64], targets: NDArray[np.int64], method: Method, *, seed: int = 0
) -> Calibration:
    """Correct a head's probabilities.

    auto leaves them unless a temperature makes these images so much likelier that the likelihood-ratio test rejects
    a temperature of 1 at 1 % (S. Wilks, Annals of Mathematical Statistics 9, 1938).

    Args:
        head: what gave the logits, or will give such.
        logits: (N, K) of images that the head (or one like it) had not learnt from; N at least 1.
        targets: (N,) true class indices.
        method: how.
        seed: of the division for steps.
    """
    if method == "none":
        return Calibration(head, logits, "none")
    classes = logits.shape[1]
    if method == "isotonic":
        probabilities = np.exp(log_softmax(logits))
        steps = learn_steps(probabilities, targets)
        held_out = np.empty_like(logits)
        part = np.random.default_rng(seed).permutation(len(logits)) % _PARTS
        for number in range(min(_PARTS, len(logits))):
            out = part == number
            held_out[out] = corrected(logits[out], 1.0, learn_steps(probabilities[~out], targets[~out]))
        return Calibration(Calibrated(head, 1.0, steps, classes), held_out, "isotonic")
    heat = temperature(logits, targets)
    if method == "auto" and 2 * (_loss(logits, targets) - _loss(logits / heat, targets)) < _SURE:
        return Calibration(head, logits, "none")
    return Calibration(Calibrated(head, heat, None, classes), logits / heat, "temperature", heat)


def held_out_logits(
    name: str,
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    n_classes: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    blocks: Sequence[int] = (),
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Logits of training images by heads that had not learnt from them, where there are no other images to judge by.

    The whole fit, its choice of settings too, is done again for each of up to five folds (stratified, groups kept
    together), on at most about 2,000 images.

    Args:
        name: of the head, as for `heads.fit`.
        features: (N, D) of the training part.
        targets: (N,) class indices.
        n_classes: K.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of the folds and fits.
        blocks: widths of several backbones' features, as for `heads.fit`.

    Returns:
        Rows (M,) and their logits (M, K); M is 0 where the data allow no folds.
    """
    part = stratified_subset(targets, _MOST_ROWS, seed=seed)
    own = None if groups is None else groups[part]
    folds = make_folds(targets[part], groups=own, seed=seed)
    logits = np.zeros((len(part), n_classes))
    for learn, out in folds:
        fitted = heads.fit(
            name,
            features[part[learn]],
            targets[part[learn]],
            n_classes,
            groups=None if own is None else own[learn],
            seed=seed,
            blocks=blocks,
        )
        logits[out] = fitted.head.logits(features[part[out]])
    return part[folds.scored], logits[folds.scored]


def _loss(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """Log loss, summed over images, nats."""
    return -float(log_softmax(logits)[np.arange(len(targets)), targets].sum())
