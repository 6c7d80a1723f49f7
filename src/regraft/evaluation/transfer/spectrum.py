"""Principal axes of a matrix, and what of some columns lies along them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST = 1e-12  # of the largest square; what the smaller Gram matrix cannot tell from rounding


def along_axes(
    rows: NDArray[np.floating[Any]], columns: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared singular values of rows (N, D), and columns (N, K) in the basis of its left singular vectors.

    By the eigenvectors of the smaller of the two Gram matrices, several times faster than a singular value
    decomposition.

    Args:
        rows: (N, D).
        columns: (N, K).

    Returns:
        Squares (R,), positive, and components (R, K), with R <= min(N, D).
    """
    exact = rows.astype(np.float64)
    tall = len(exact) > exact.shape[1]
    squares, vectors = np.linalg.eigh(exact.T @ exact if tall else exact @ exact.T)
    kept = squares > max(squares[-1], 0.0) * SMALLEST
    squares, vectors = squares[kept], vectors[:, kept]
    if tall:
        return squares, (vectors.T @ (exact.T @ columns)) / np.sqrt(squares)[:, None]
    return squares, vectors.T @ columns


def one_hot(targets: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Class indices (N,) as 0 and 1 (N, P), a column for each class that occurs."""
    present, position = np.unique(targets, return_inverse=True)
    return np.eye(len(present))[position]
