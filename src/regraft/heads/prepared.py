"""One set of training rows, checked, dealt out to folds and scaled once for any number of heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from regraft.heads.rows import training_rows
from regraft.heads.selection import Trial, plan_trial
from regraft.heads.space import Space, space_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from regraft.heads.rows import TrainingRows


@dataclass(frozen=True)
class Prepared:
    """Training rows, and what the heads that are fitted on them compute once and share.

    Attributes:
        rows: checked.
        seed: of folds, and of heads that draw numbers.
        kept: what a head leaves for the next one: the held-out scores of support vector machines.
    """

    rows: TrainingRows
    seed: int
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    _trials: dict[int, Trial] = field(default_factory=dict, repr=False, compare=False)

    def trial(self, limit: int) -> Trial:
        """The folds of at most about `limit` of the rows."""
        size = min(limit, len(self.rows))
        if size not in self._trials:
            self._trials[size] = plan_trial(self.rows, limit=limit, seed=self.seed)
        return self._trials[size]

    @cached_property
    def space(self) -> Space:
        """All rows, scaled."""
        return space_of(self.rows)


def prepare(
    features: NDArray[np.float32],
    targets: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
) -> Prepared:
    """Check training rows, for several heads to share; the arguments are those of `heads.fit`.

    Raises:
        DataError: see `training_rows`.
    """
    return Prepared(training_rows(features, targets, n_classes, groups, classes, blocks), seed)
