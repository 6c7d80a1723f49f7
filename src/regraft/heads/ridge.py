"""Ridge regression on frozen features, its strength chosen by exact leave-one-out errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regraft.heads.head import Fitted
from regraft.heads.outputs import complete, output_rows
from regraft.heads.rows import finite_features, in_chunks
from regraft.heads.scaling import Scaling, learn_scaling
from regraft.heads.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.outputs import OutputRows

# Strong to weak. Rows have a mean squared norm of 1 after scaling: at 100 every image gets the mean.
STRENGTHS = tuple(float(f"{10 ** (2 - step / 2):.3g}") for step in range(19))
_ASSUMED_STRENGTH = 0.1
_TRIAL_ROWS = 5000
_KEPT = 1e-10  # of the largest eigenvalue; below it there is nothing but rounding


@dataclass(frozen=True)
class Ridge:
    """numbers = (features - centre) / scale @ weights + bias.

    Attributes:
        scaling: of the features.
        weights: (D, R) float64.
        bias: (R,) float64.
    """

    name: ClassVar[str] = "ridge"
    scaling: Scaling
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to the numbers (N, R), in the targets' units."""
        rows = finite_features(features, len(self.weights))
        return in_chunks(lambda part: self.scaling(part) @ self.weights + self.bias, rows, len(self.bias))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric."""
        return {**self.scaling.arrays(), "weights": self.weights, "bias": self.bias}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        return {}


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Ridge:  # noqa: ARG001 - as for all heads
    """The head that gave these `arrays()` and `settings()`."""
    return Ridge(Scaling(arrays["centre"], arrays["scale"]), arrays["weights"], arrays["bias"])


def fit(
    features: NDArray[np.float32],
    targets: NDArray[np.float64],
    n_outputs: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
    strengths: Sequence[float] = STRENGTHS,
) -> Fitted:
    """Fit mean squared error + strength * |weights|^2 for each output, at its own best strength.

    The strength is the one of least leave-one-out squared error, which has a closed form: the error of an
    image that the fit knows, divided by one minus its leverage (D. Allen, "The relationship between variable
    selection and data augmentation and a method for prediction", Technometrics 16, 1974); for the images of a
    group, which are left out together, the matrix of the same kind. More than 5,000 rows: the strength is
    chosen on that many, the fit uses all.

    Args:
        features: (N, D).
        targets: (N, R) numbers; each output is fitted on the images of which it is known, where it is not NaN.
        n_outputs: R.
        groups: (N,) images of one group are left out together.
        seed: of the choice among more than 5,000 rows.
        names: R names, for the notes.
        blocks: widths of several backbones' features lying side by side.
        strengths: what to choose from, descending; one alone is taken as it is.

    Raises:
        DataError: see `output_rows`; or fewer than two images with numbers.
    """
    rows = output_rows(features, targets, n_outputs, groups, names, blocks)
    masks, which = np.unique(np.isfinite(rows.targets), axis=1, return_inverse=True)
    alike = [np.flatnonzero(which.reshape(-1) == number) for number in range(masks.shape[1])]
    return _merged([_fit(_columns(rows, own), seed, strengths) for own in alike], alike)


def _columns(rows: OutputRows, own: NDArray[np.int64]) -> OutputRows:
    """The rows with some of the outputs."""
    return replace(rows, targets=rows.targets[:, own], names=tuple(rows.names[at] for at in own))


def _merged(fits: Sequence[Fitted], places: Sequence[NDArray[np.int64]]) -> Fitted:
    """One head of heads that know different images, its outputs at their places; exactly what each tells alone."""
    if len(fits) == 1:
        return fits[0]
    back = np.argsort(np.concatenate(places))
    heads = [one.head for one in fits if isinstance(one.head, Ridge)]
    common = heads[0].scaling
    weights, bias = [], []
    for own in heads:
        weights.append(own.weights * (common.scale / own.scaling.scale)[:, None])
        bias.append(own.bias + (common.centre - own.scaling.centre) / own.scaling.scale @ own.weights)
    head = Ridge(common, np.concatenate(weights, axis=1)[:, back], np.concatenate(bias)[back])
    strengths = np.concatenate([one.chosen["strengths"] for one in fits])[back]
    images = np.concatenate([np.full(len(own), one.chosen["images"]) for one, own in zip(fits, places, strict=True)])
    history = []
    if len({len(one.history) for one in fits}) == 1:
        for step in zip(*(one.history for one in fits), strict=True):
            errors = np.concatenate([row["rmse"] for row in step])[back]
            history.append({"strength": step[0]["strength"], "rmse": errors.tolist()})
    chosen = {
        "strengths": strengths.tolist(),
        "by": "; ".join(dict.fromkeys(one.chosen["by"] for one in fits)),
        "images": images[back].tolist(),
    }
    return Fitted(head, history, chosen, list(dict.fromkeys(note for one in fits for note in one.notes)))


def _fit(known: OutputRows, seed: int, strengths: Sequence[float]) -> Fitted:
    """The fit of outputs that are known of the same images."""
    rows, notes = complete(known)
    n_outputs = len(rows.names)
    scaling = learn_scaling(rows.features, rows.blocks)
    centre, spread = rows.targets.mean(axis=0), rows.targets.std(axis=0)
    notes += [f"{name} is the same number in every training image" for name in _constant(rows, spread)]
    spread = np.where(spread > 0, spread, 1.0)
    standard = (rows.targets - centre) / spread
    history: list[dict[str, Any]] = []
    with one_thread():
        if len(strengths) == 1:
            best, how = np.full(n_outputs, float(strengths[0])), "given"
        elif len(np.unique(rows.units)) < 2:  # noqa: PLR2004 - all images are one group
            best, how = np.full(n_outputs, _ASSUMED_STRENGTH), "assumed: nothing could be held out"
            notes.append("the strength was assumed, not chosen: all training images are one group")
        else:
            part = _part(rows, standard, seed)
            if len(part) < len(rows):
                notes.append(f"strengths were chosen on {len(part):,} of the {len(rows):,} training images")
            errors = held_out_errors(scaling.single(part.features), part.targets, part.units, strengths)
            history = [
                {"strength": float(strength), "rmse": (error * spread).tolist()}
                for strength, error in zip(strengths, errors, strict=True)
            ]
            best, how = np.array(strengths)[errors.argmin(axis=0)], "least leave-one-out squared error"
        weights = _weights(scaling.single(rows.features), standard, best)
    chosen = {"strengths": best.tolist(), "by": how, "images": len(rows)}
    return Fitted(Ridge(scaling, weights * spread, centre), history, chosen, notes)


def _constant(rows: OutputRows, spread: NDArray[np.float64]) -> list[str]:
    return [name for name, width in zip(rows.names, spread, strict=True) if width == 0]


def _part(rows: OutputRows, standard: NDArray[np.float64], seed: int) -> OutputRows:
    """The rows on which strengths are compared, with their standardised targets."""
    order = np.arange(len(rows))
    if len(rows) > _TRIAL_ROWS:
        order = np.sort(np.random.default_rng(seed).permutation(len(rows))[:_TRIAL_ROWS])
    part = rows.take(order)
    return type(part)(part.features, standard[order], part.units, part.names, part.blocks)


def held_out_errors(
    scaled: NDArray[np.float32], targets: NDArray[np.float64], units: NDArray[np.int64], strengths: Sequence[float]
) -> NDArray[np.float64]:
    """Root of the mean squared error (strengths, R) on each unit by a fit of all the others.

    Args:
        scaled: (N, D) rows.
        targets: (N, R).
        units: (N,) numbers; rows with the same number are left out together.
        strengths: of the penalty.
    """
    exact = scaled.astype(np.float64)
    exact -= exact.mean(axis=0)
    wanted = targets - targets.mean(axis=0)
    left, values = _left_vectors(exact)
    projected = left.T @ wanted
    members = [rows for rows in _members(units) if len(rows) > 1]
    total = len(wanted)
    errors = []
    for strength in strengths:
        shrink = values / (values + strength * total)
        residual = wanted - left @ (shrink[:, None] * projected)
        leverage = np.square(left) @ shrink + 1 / total  # the free bias takes 1 / N
        held_out = residual / np.maximum(1 - leverage, _KEPT)[:, None]
        for rows in members:
            own = left[rows]
            free = np.eye(len(rows)) - (own * shrink) @ own.T - 1 / total
            held_out[rows] = np.linalg.lstsq(free, residual[rows], rcond=None)[0]
        errors.append(np.sqrt(np.square(held_out).mean(axis=0)))
    return np.stack(errors)


def _members(units: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each unit."""
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.diff(units[order])) + 1
    return np.split(order, starts)


def _left_vectors(exact: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left singular vectors (N, r) and squared singular values (r,) of rows (N, D), in the smaller space."""
    n_rows, width = exact.shape
    values, vectors = np.linalg.eigh(exact @ exact.T if n_rows <= width else exact.T @ exact)
    kept = values > max(values[-1], 0.0) * _KEPT
    values, vectors = values[kept], vectors[:, kept]
    return (vectors if n_rows <= width else exact @ (vectors / np.sqrt(values))), values


def _weights(
    scaled: NDArray[np.float32], standard: NDArray[np.float64], strengths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights (D, R) at the minimum, one strength an output."""
    exact = scaled.astype(np.float64)
    penalties = strengths * len(exact)
    if len(exact) <= exact.shape[1]:
        values, vectors = np.linalg.eigh(exact @ exact.T)
        dual = vectors @ ((vectors.T @ standard) / (values.clip(0)[:, None] + penalties))
        return exact.T @ dual
    values, vectors = np.linalg.eigh(exact.T @ exact)
    result: NDArray[np.float64] = vectors @ ((vectors.T @ (exact.T @ standard)) / (values.clip(0)[:, None] + penalties))
    return result
