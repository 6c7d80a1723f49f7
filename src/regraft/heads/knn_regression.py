"""Numbers from the nearest neighbours by cosine similarity on frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regraft.heads.head import Fitted
from regraft.heads.knn import NEIGHBOURS, directions
from regraft.heads.outputs import complete, output_rows
from regraft.heads.rows import finite_features, in_chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SHARPNESS = 0.07  # of the weights, as for votes: Wu et al., CVPR 2018, arXiv:1805.01978
_ASSUMED = 5
_TRIAL_ROWS = 5000
_SIMILARITIES = 2**22  # in memory at once


@dataclass(frozen=True)
class NearestNumbers:
    """numbers = mean of the k most similar training images' numbers, weighted by exp(similarity / 0.07).

    Attributes:
        known: (N, D) float32, directions of the training features.
        numbers: (N, R) float64.
        neighbours: k.
        blocks: widths of several backbones' features lying side by side; empty for one.
    """

    name: ClassVar[str] = "knn-regression"
    known: NDArray[np.float32]
    numbers: NDArray[np.float64]
    neighbours: int
    blocks: tuple[int, ...] = ()

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to the numbers (N, R), in the targets' units."""
        rows = finite_features(features, self.known.shape[1])

        def tell(part: NDArray[np.float32]) -> NDArray[np.float64]:
            similar = directions(part, self.blocks) @ self.known.T
            means: NDArray[np.float64] = _means(similar, self.numbers, (self.neighbours,))[0]
            return means

        return in_chunks(tell, rows, self.numbers.shape[1], max(1, _SIMILARITIES // len(self.numbers)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric."""
        return {"known": self.known, "numbers": self.numbers}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        return {"neighbours": self.neighbours, "blocks": list(self.blocks)}


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> NearestNumbers:
    """The head that gave these `arrays()` and `settings()`."""
    return NearestNumbers(arrays["known"], arrays["numbers"], settings["neighbours"], tuple(settings["blocks"]))


def fit(
    features: NDArray[np.float32],
    targets: NDArray[np.float64],
    n_outputs: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
    neighbours: Sequence[int] = NEIGHBOURS,
) -> Fitted:
    """Keep the training features; k of least leave-one-out squared error, a group left out together.

    Args:
        features: (N, D).
        targets: (N, R) numbers; images with a NaN are not used.
        n_outputs: R.
        groups: (N,) images of one group are never each other's neighbours in the choice of k.
        seed: of the choice among more than 5,000 rows, the others of which are only neighbours.
        names: R names, for the notes.
        blocks: widths of several backbones' features lying side by side.
        neighbours: values of k to choose from; those above the number of other images count as that many.

    Raises:
        DataError: see `output_rows`; or fewer than two images with numbers.
    """
    rows, notes = complete(output_rows(features, targets, n_outputs, groups, names, blocks))
    known = directions(rows.features, rows.blocks)
    spread = rows.targets.std(axis=0)
    standard = (rows.targets - rows.targets.mean(axis=0)) / np.where(spread > 0, spread, 1)
    most = len(rows) - int(np.unique(rows.units, return_counts=True)[1].max())
    history: list[dict[str, Any]] = []
    if most == 0:
        chosen: dict[str, Any] = {"neighbours": min(_ASSUMED, len(rows)), "by": "assumed: nothing could be held out"}
        notes.append("k was assumed, not chosen: all training images are one group")
    else:
        sizes = sorted({min(k, most) for k in neighbours})
        order = np.sort(np.random.default_rng(seed).permutation(len(rows))[:_TRIAL_ROWS])
        squares = np.zeros((len(sizes), n_outputs))
        for part in np.array_split(order, -(-len(order) * len(rows) // _SIMILARITIES)):
            similar = known[part] @ known.T
            similar[rows.units[part][:, None] == rows.units] = -np.inf
            squares += np.square(_means(similar, standard, sizes) - standard[part]).sum(axis=1)
        errors = np.sqrt(squares / len(order))
        pairs = zip(sizes, errors, strict=True)
        history = [{"neighbours": k, "rmse": (error * spread).tolist()} for k, error in pairs]
        best = int(np.square(errors).mean(axis=1).argmin())
        chosen = {"neighbours": sizes[best], "by": "least leave-one-out squared error", "images": len(order)}
    head = NearestNumbers(known, rows.targets, chosen["neighbours"], rows.blocks)
    return Fitted(head, history, chosen, notes)


def _means(similar: NDArray[np.float32], numbers: NDArray[np.float64], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Weighted means (sizes, M, R) of the numbers of the k most similar rows, for each ascending k."""
    most = min(sizes[-1], similar.shape[1])
    nearest = np.argpartition(-similar, most - 1, axis=1)[:, :most]
    values = np.take_along_axis(similar, nearest, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    values, nearest = np.take_along_axis(values, order, axis=1), np.take_along_axis(nearest, order, axis=1)
    weights = np.exp((values - values[:, :1]).astype(np.float64) / _SHARPNESS)
    sums = np.cumsum(weights[:, :, None] * numbers[nearest], axis=1) / np.cumsum(weights, axis=1)[:, :, None]
    result: NDArray[np.float64] = np.stack([sums[:, min(k, most) - 1] for k in sizes])
    return result
