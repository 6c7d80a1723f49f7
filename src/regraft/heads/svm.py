"""Support vector machines on frozen features: linear and RBF, one class against the rest, calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.heads.folds import stratified_subset
from regraft.heads.head import Fitted
from regraft.heads.prepared import prepare
from regraft.heads.rows import CHUNK, finite_features, in_chunks, over_all_classes
from regraft.heads.scaling import Scaling
from regraft.heads.selection import assumed, best, outcome, scaled_scores
from regraft.heads.space import space_of
from regraft.heads.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.prepared import Prepared
    from regraft.heads.rows import TrainingRows
    from regraft.heads.selection import Trial
    from regraft.heads.space import Space

# Rows have a mean squared norm of 1 after scaling, whatever the number of features: C and gamma mean the
# same for every backbone, and gamma = 1 is what scikit-learn calls "scale".
_GRID: dict[str, tuple[dict[str, Any], ...]] = {
    "linear": tuple({"kernel": "linear", "C": c} for c in (0.1, 1.0, 10.0)),
    "rbf": tuple({"kernel": "rbf", "gamma": g, "C": c} for g in (0.3, 1.0) for c in (1.0, 10.0, 100.0)),
}
_ASSUMED = {"linear": {"C": 1.0}, "rbf": {"C": 10.0, "gamma": 0.3}}
KERNELS = tuple(_GRID)
_TRIAL_ROWS = 2000
_MAX_ROWS = 5000  # the kernel matrix of 5,000 rows takes 200 MB, and the time grows with its size or worse


@dataclass(frozen=True)
class SupportVectorMachine:
    """logits = (kernel(scaled features, vectors) @ coefficients + bias) / temperature.

    Attributes:
        kernel: "linear" or "rbf".
        gamma: of exp(-gamma * squared distance); 0 for linear.
        scaling: of the features.
        vectors: (S, D) float32, the scaled support vectors, each once; (0, D) for linear.
        coefficients: (S, P) float64; the weights (D, P) for linear.
        bias: (P,) float64.
        temperature: from held-out scores.
        present: (P,) indices of the classes that were seen.
        n_classes: K.
    """

    kernel: str
    gamma: float
    scaling: Scaling
    vectors: NDArray[np.float32]
    coefficients: NDArray[np.float64]
    bias: NDArray[np.float64]
    temperature: float
    present: NDArray[np.int64]
    n_classes: int

    @property
    def name(self) -> str:
        """svm-linear or svm-rbf."""
        return f"svm-{self.kernel}"

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to logits (N, K)."""
        rows = finite_features(features, len(self.scaling.centre))
        vectors = self.vectors.astype(np.float64)
        chunk = max(1, min(CHUNK, 2**23 // max(1, len(vectors))))

        def score(part: NDArray[np.float32]) -> NDArray[np.float64]:
            scaled = self.scaling(part)
            similar = scaled if self.kernel == "linear" else _rbf(scaled, vectors, self.gamma)
            scores: NDArray[np.float64] = (similar @ self.coefficients + self.bias) / self.temperature
            return scores

        return over_all_classes(in_chunks(score, rows, len(self.bias), chunk), self.present, self.n_classes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric."""
        own = {"coefficients": self.coefficients, "bias": self.bias, "present": self.present}
        return {**self.scaling.arrays(), "vectors": self.vectors, **own}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        own = {"kernel": self.kernel, "gamma": self.gamma, "temperature": self.temperature}
        return {**own, "n_classes": self.n_classes}


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> SupportVectorMachine:
    """The head that gave these `arrays()` and `settings()`."""
    values: dict[str, Any] = {**arrays, **settings}
    return SupportVectorMachine(scaling=Scaling(values.pop("centre"), values.pop("scale")), **values)


def fit(
    features: NDArray[np.float32],
    targets: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
    prepared: Prepared | None = None,
    kernels: Sequence[str] = KERNELS,
) -> Fitted:
    """Fit one class against the rest; kernel, gamma and C of least calibrated cross-validated log loss.

    More than 5,000 rows: the machine learns from a stratified part (a note says so), as its time and memory
    grow with the square of the rows. The linear probe takes all of them.

    Args:
        features: (N, D).
        targets: (N,) class indices.
        n_classes: K; classes without an image are never predicted.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of folds and parts.
        classes: K class names, for the notes.
        blocks: widths of several backbones' features side by side.
        prepared: the same rows, already prepared.
        kernels: to choose from: "linear", "rbf".

    Raises:
        DataError: see `training_rows`.
    """
    ready = prepared or prepare(features, targets, n_classes, groups=groups, seed=seed, classes=classes, blocks=blocks)
    trial = ready.trial(_TRIAL_ROWS)
    notes, history = list(trial.notes), []
    candidates = [candidate for kernel in kernels for candidate in _GRID[kernel]]
    import sklearn.svm  # noqa: F401 - before its threads are counted

    with one_thread():
        if trial.possible:
            history = _compare(ready, trial, candidates)
            chosen = best(trial, history)
        else:
            chosen = assumed({"kernel": kernels[0], **_ASSUMED[kernels[0]]})
        if len(ready.rows) > _MAX_ROWS:
            part = ready.rows.take(stratified_subset(ready.rows.targets, _MAX_ROWS, seed=seed))
            notes.append(f"the machine learnt from {len(part):,} of the {len(ready.rows):,} training images")
            head = _fit_all(part, space_of(part), chosen)
        else:
            head = _fit_all(ready.rows, ready.space, chosen)
    return Fitted(head, history, chosen, notes)


def _compare(ready: Prepared, trial: Trial, candidates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How each candidate did; one that another machine on the same rows has tried is not tried again."""
    known = ready.kept.setdefault("svm", {})
    new = [candidate for candidate in candidates if tuple(candidate.values()) not in known]
    if new:
        scores = scaled_scores(trial, lambda space, targets: _score(space, targets, new))
        known.update((tuple(row.values()), outcome(trial, row, part)) for row, part in zip(new, scores, strict=True))
    return [known[tuple(candidate.values())] for candidate in candidates]


def _rbf(left: NDArray[np.float64], right: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """exp(-gamma |l - r|^2) for all pairs of rows, in one matrix (N, M)."""
    kernel = left @ right.T
    kernel *= 2
    kernel -= np.square(left).sum(axis=1)[:, None]
    kernel -= np.square(right).sum(axis=1)
    np.minimum(kernel, 0, out=kernel)
    kernel *= gamma
    return np.exp(kernel, out=kernel)


def _machines(
    kernel: NDArray[np.float64], targets: NDArray[np.int64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dual coefficients (N, P) and bias (P,) of P machines, each one class against the rest."""
    from sklearn import config_context
    from sklearn.svm import SVC

    n_classes = int(targets.max()) + 1
    coefficients, bias = np.zeros((len(targets), n_classes)), np.zeros(n_classes)
    with config_context(assume_finite=True, skip_parameter_validation=True):  # checked once is enough
        for label in range(1 if n_classes == 2 else 0, n_classes):  # noqa: PLR2004
            machine = SVC(C=penalty, kernel="precomputed", cache_size=500).fit(kernel, targets == label)
            coefficients[machine.support_, label] = machine.dual_coef_[0]
            bias[label] = machine.intercept_[0]
    if n_classes == 2:  # noqa: PLR2004 - the other side of the same machine
        coefficients[:, 0], bias[0] = -coefficients[:, 1], -bias[1]
    return coefficients, bias


def _score(space: Space, targets: NDArray[np.int64], candidates: Sequence[dict[str, Any]]) -> list[NDArray[np.float64]]:
    """Decision values (M, P) of the rows held out for each candidate; each kernel is computed once."""
    kernels, scores = {}, []
    for candidate in candidates:
        key = (candidate["kernel"], candidate.get("gamma"))
        if key not in kernels:
            kernels[key] = _kernels(space, candidate)
        among, across = kernels[key]
        coefficients, bias = _machines(among, targets, candidate["C"])
        scores.append(across @ coefficients + bias)
    return scores


def _kernels(space: Space, candidate: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The kernel (N, N) among the rows, and (M, N) from those held out to them."""
    if candidate["kernel"] == "linear":
        return space.gram, space.across
    among, across = (np.exp(-candidate["gamma"] * distances) for distances in space.distances)
    return among, across


def _fit_all(rows: TrainingRows, space: Space, chosen: dict[str, Any]) -> SupportVectorMachine:
    linear = chosen["kernel"] == "linear"
    coefficients, bias = _machines(_kernels(space, chosen)[0], rows.targets, chosen["C"])
    support = coefficients.any(axis=1)
    return SupportVectorMachine(
        kernel=chosen["kernel"],
        gamma=chosen.get("gamma", 0.0),
        scaling=space.scaling,
        vectors=space.rows[:0] if linear else space.rows[support],
        coefficients=space.rows.T.astype(np.float64) @ coefficients if linear else coefficients[support],
        bias=bias,
        temperature=chosen["temperature"],
        present=rows.present,
        n_classes=rows.n_classes,
    )
