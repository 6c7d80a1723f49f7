"""Cross-validation folds for every head: stratified, group-aware, seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MAX_FOLDS = 5
_PAIR = 2  # to hold one out, another must be there to learn from


@dataclass(frozen=True)
class Folds:
    """Which fold holds out which image.

    Attributes:
        held_out_in: (N,) index of the fold that holds the image out; -1 for one that every fold learns
            from, because its class would otherwise be missing there.
        n_folds: how many folds; 0 when the data allow none.
        never_scored: classes of which no image is ever held out, sorted.
    """

    held_out_in: NDArray[np.int64]
    n_folds: int
    never_scored: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Pairs of row indices: to learn from, held out."""
        for fold in range(self.n_folds):
            held_out = self.held_out_in == fold
            yield np.flatnonzero(~held_out), np.flatnonzero(held_out)

    @property
    def scored(self) -> NDArray[np.int64]:
        """Indices of the images that some fold holds out."""
        return np.flatnonzero(self.held_out_in >= 0)


def make_folds(
    targets: NDArray[np.int64], *, groups: NDArray[Any] | None = None, seed: int = 0, folds: int = MAX_FOLDS
) -> Folds:
    """Deal images out to min(`folds`, smallest class) folds, each class evenly, a group always together.

    A class with one image (or one group) does not count as the smallest: every fold learns from it. With
    fewer than two other classes there is nothing to compare and `n_folds` is 0.

    Args:
        targets: (N,) class indices; renaming the classes does not change the folds.
        groups: (N,) anything hashable; None or an empty string means a group of its own.
        seed: the same seed gives the same folds.
        folds: how many are wanted, two at least.
    """
    names, first, positions = np.unique(targets, return_index=True, return_inverse=True)
    classes = np.argsort(np.argsort(first))[positions]
    generator = np.random.default_rng(seed)
    if groups is None:
        deal = _deal_images(classes, generator, folds)
    else:
        deal = _deal_groups(classes, groups, generator, folds)
    used, fold = np.unique(deal[deal >= 0], return_inverse=True)
    held_out_in = np.full(len(targets), -1, np.int64)
    held_out_in[deal >= 0] = fold
    never = np.setdiff1d(names, targets[held_out_in >= 0])
    if len(used) < _PAIR or len(names) - len(never) < _PAIR:
        return Folds(np.full(len(targets), -1, np.int64), 0, tuple(names.tolist()))
    return Folds(held_out_in, len(used), tuple(never.tolist()))


def stratified_subset(targets: NDArray[np.int64], limit: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Sorted indices of about `limit` images: the same share of each class, but five of each at least."""
    if len(targets) <= limit:
        return np.arange(len(targets))
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(targets):
        rows = np.flatnonzero(targets == label)
        size = max(round(limit * len(rows) / len(targets)), min(MAX_FOLDS, len(rows)))
        chosen.append(generator.permutation(rows)[:size])
    return np.sort(np.concatenate(chosen))


def _deal_images(classes: NDArray[np.int64], generator: np.random.Generator, folds: int) -> NDArray[np.int64]:
    """Shuffle each class and deal one class after the other round the folds; -1 for classes of one image."""
    sizes = np.bincount(classes)
    fold_of = np.full(len(classes), -1, np.int64)
    if (sizes >= _PAIR).any():
        order = generator.permutation(np.flatnonzero(sizes[classes] >= _PAIR))
        order = order[np.argsort(classes[order], kind="stable")]
        fold_of[order] = np.arange(len(order)) % min(folds, sizes[sizes >= _PAIR].min())
    return fold_of


def _deal_groups(
    classes: NDArray[np.int64], groups: NDArray[Any], generator: np.random.Generator, folds: int
) -> NDArray[np.int64]:
    """Give each group, large ones first, to the fold that has the smallest share of its classes so far.

    Groups that hold all there is of a class stay out (-1), before the deal and after it.
    """
    numbers: dict[Any, int] = {}
    names = [("image", i) if g is None or g == "" else ("group", g) for i, g in enumerate(groups.tolist())]
    group_of = np.array([numbers.setdefault(name, len(numbers)) for name in names])
    counts = np.zeros((len(numbers), classes.max() + 1), np.int64)
    np.add.at(counts, (group_of, classes), 1)
    sole = (counts[:, (counts > 0).sum(axis=0) < _PAIR] > 0).any(axis=1)
    spread = (counts[~sole] > 0).sum(axis=0)
    fold_of = np.full(len(counts), -1, np.int64)
    if (spread >= _PAIR).any():
        filled = np.zeros((min(folds, spread[spread >= _PAIR].min()), counts.shape[1]))
        order = generator.permutation(np.flatnonzero(~sole))
        for group in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
            share = (filled[:, counts[group] > 0] / counts.sum(axis=0)[counts[group] > 0]).sum(axis=1)
            fold = np.lexsort((filled.sum(axis=1), np.round(share, 9)))[0]
            filled[fold] += counts[group]
            fold_of[group] = fold
    for holders in (np.flatnonzero(column) for column in counts.T):
        if len(set(fold_of[holders].tolist())) == 1:
            fold_of[holders] = -1
    result: NDArray[np.int64] = fold_of[group_of]
    return result
