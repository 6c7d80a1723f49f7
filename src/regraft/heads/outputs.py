"""What goes into the heads that tell numbers or several labels, checked once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import DataError
from regraft.heads.rows import checked_blocks, finite_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class OutputRows:
    """Checked training data of a head with R outputs.

    Attributes:
        features: (N, D) float32, finite.
        targets: (N, R) float64; NaN where nothing is known.
        units: (N,) number of the group of each image; an image without a group is one of its own.
        names: the R outputs, for notes.
        blocks: widths of the features of several backbones lying side by side; empty for one.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.float64]
    units: NDArray[np.int64]
    names: tuple[str, ...]
    blocks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: NDArray[np.integer[Any]]) -> OutputRows:
        """Some of the rows."""
        return OutputRows(self.features[rows], self.targets[rows], self.units[rows], self.names, self.blocks)


def output_rows(
    features: ArrayLike,
    targets: ArrayLike,
    n_outputs: int,
    groups: NDArray[Any] | None = None,
    names: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
) -> OutputRows:
    """Check what `fit` was given.

    Raises:
        DataError: shapes that differ, infinite targets, blocks that are not the columns, or features that are not
            finite.
    """
    rows = finite_features(features)
    wanted = np.asarray(targets, np.float64).reshape(len(rows), -1) if len(rows) else np.empty((0, n_outputs))
    if wanted.shape[1] != n_outputs or (groups is not None and len(groups) != len(rows)):
        raise DataError(
            f"{len(rows)} rows of features came with targets of shape {np.shape(targets)}"
            f"{'' if groups is None else f' and {len(groups)} groups'}; each image needs {n_outputs} targets."
        )
    if np.isinf(wanted).any():
        raise DataError("targets hold infinite numbers; leave the cell empty where a number is not known.")
    if rows.shape[1] == 0:
        raise DataError("the features have no columns; each image needs at least one number.")
    words = tuple(names) if names is not None else tuple(f"output {number}" for number in range(n_outputs))
    return OutputRows(rows, wanted, unit_numbers(groups, len(rows)), words, checked_blocks(blocks, rows.shape[1]))


def unit_numbers(groups: NDArray[Any] | None, n_rows: int) -> NDArray[np.int64]:
    """The group of each image as a number (N,); None or an empty string means a group of its own."""
    if groups is None:
        return np.arange(n_rows)
    numbers: dict[Any, int] = {}
    keys = [("image", at) if g is None or g == "" else ("group", g) for at, g in enumerate(groups.tolist())]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def complete(rows: OutputRows) -> tuple[OutputRows, list[str]]:
    """The rows of which all outputs are known, and a note where that leaves some out.

    Raises:
        DataError: fewer than two are left.
    """
    there = np.isfinite(rows.targets).all(axis=1)
    part = np.isfinite(rows.targets).any(axis=1) & ~there
    if there.sum() < 2:  # noqa: PLR2004 - one number says nothing of how numbers differ
        raise DataError(
            f"the training part has {int(there.sum())} images with a number for {', '.join(rows.names)}; two are "
            "needed at least."
        )
    notes = [f"{int(part.sum())} training images have only some of {', '.join(rows.names)}: not used"]
    return rows.take(np.flatnonzero(there)), notes if part.any() else []
