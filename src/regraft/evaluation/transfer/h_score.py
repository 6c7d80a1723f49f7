"""H-score, regularised: how much of the features' spread is between the classes.

Sources: Y. Bao et al., "An information-theoretic approach to transferability in task transfer learning", ICIP 2019:
tr(cov(f)^-1 cov(E[f | y])), which is the sum of the squared canonical correlations of features and one-hot labels;
S. Ibrahim et al., "Newer is not always better: rethinking transferability metrics, their peculiarities, stability
and performance", 2021, arXiv:2110.06893: with few images the inverse is made of noise, so cov(f) is shrunk towards
a multiple of the identity by a share a, and cov(E[f | y]) by 1 - a. The share is that of O. Ledoit and M. Wolf,
"A well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Analysis 88 (2004).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.transfer.spectrum import along_axes, one_hot

if TYPE_CHECKING:
    from numpy.typing import NDArray


def h_score(
    features: NDArray[np.floating[Any]], targets: NDArray[np.int64], *, shrinkage: float | None = None
) -> float:
    """H-score, between 0 and the smaller of D and classes - 1: higher is better. Unchanged by rotation and scale.

    Args:
        features: (N, D).
        targets: (N,) class indices.
        shrinkage: 0 (none; directions without spread are left out) to 1; None takes that of Ledoit and Wolf.
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    columns = one_hot(targets)
    columns /= np.sqrt(columns.sum(axis=0))  # of length 1
    squares, along = along_axes(centred, columns)
    if not len(squares):
        return 0.0
    share = ledoit_wolf(centred, squares) if shrinkage is None else shrinkage
    own = (1 - share) * squares
    return float((own / (own + share * squares.sum() / features.shape[1]) * np.square(along).sum(axis=1)).sum())


def ledoit_wolf(centred: NDArray[np.float64], squares: NDArray[np.float64]) -> float:
    """The share of the identity, 0 to 1, by which a covariance is to be shrunk.

    Args:
        centred: (N, D), columns of mean 0.
        squares: its squared singular values.
    """
    total, width = centred.shape
    lengths = np.square(centred).sum(axis=1)
    whole = np.square(squares).sum() / total**2  # squared Frobenius norm of the covariance
    distance = whole - (squares.sum() / total) ** 2 / width
    noise = (np.square(lengths).mean() - whole) / total
    return 0.0 if distance <= 0 or noise <= 0 else float(min(1.0, noise / distance))
