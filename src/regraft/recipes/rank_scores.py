"""Scores of backbones from features of the same images, and their comparison."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.errors import DataError
from regraft.evaluation.transfer.h_score import h_score
from regraft.evaluation.transfer.held_out import held_out_log_probabilities
from regraft.evaluation.transfer.leep import leep, nce
from regraft.evaluation.transfer.logme import logme
from regraft.evaluation.transfer.neighbours import left_out_neighbours
from regraft.evaluation.transfer.ranks import rank_by_loss
from regraft.heads.folds import make_folds
from regraft.heads.threads import one_thread
from regraft.recipes.image_times import image_times
from regraft.recipes.ranking import RankedBackbone
from regraft.recipes.source_head import source_logits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from regraft.data.manifest import Item
    from regraft.features.frozen import Frozen
    from regraft.heads.folds import Folds
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Listener


def rank_gathered(
    gathered: Sequence[tuple[tuple[Frozen, ...], Gathered]],
    notes: list[str],
    seed: int,
    cache: Path,
    listener: Listener,
) -> tuple[list[RankedBackbone], int]:
    """Score every backbone, compare them, and time them.

    Args:
        gathered: backbones side by side, and the features that they gave.
        notes: what the reader must know is added.
        seed: of folds and resampling.
        cache: the product's cache folder, where times are kept.
        listener: is told of each.

    Returns:
        The backbones in the order of their ranks, and how many images these are of.

    Raises:
        DataError: nothing can be held out.
    """
    keys = set.intersection(*(set(found.table.keys) for _, found in gathered))
    images = images_held_out([item for item in gathered[0][1].manifest.items if item.key in keys], seed)
    never = len(images.folds.never_scored)
    if never:
        notes.append(
            f"{never} {'class has' if never == 1 else 'classes have'} one training image (or group) and no say in the"
            f" ranks"
        )
    scored = []
    for ready, found in gathered:
        began = time.perf_counter()
        scored.append(_scored(ready, found, images))
        listener.say(f"scored {_joined(ready)} in {time.perf_counter() - began:.1f} s")
    units = images.units[images.folds.scored]
    by_loss, by_error, by_neighbours = (
        rank_by_loss(np.stack(values), units, seed=seed)
        for values in zip(*((one.losses, one.wrong, one.neighbours_wrong) for one in scored), strict=True)
    )
    times = image_times([one for ready, _ in gathered for one in ready], cache)
    ranked = [
        RankedBackbone(
            name=_joined(ready),
            rank=int(by_loss.rank[n]),
            rank_interval=(int(by_loss.rank_interval[n, 0]), int(by_loss.rank_interval[n, 1])),
            tied=bool(by_loss.tied[n]),
            log_loss=float(by_loss.mean[n]),
            log_loss_interval=_pair(by_loss.interval[n]),
            behind_interval=_pair(by_loss.behind[n]),
            accuracy=1 - float(by_error.mean[n]),
            accuracy_interval=_pair(1 - by_error.interval[n][::-1]),
            knn=1 - float(by_neighbours.mean[n]),
            knn_interval=_pair(1 - by_neighbours.interval[n][::-1]),
            logme=scored[n].logme,
            h_score=scored[n].h_score,
            leep=scored[n].leep,
            nce=scored[n].nce,
            seconds=sum(times[one.spaces[0].fingerprint()] for one in ready) / 1000,
            dims=found.table.features.shape[1],
            size_bytes=sum(one.weights.stat().st_size for one in ready),
        )
        for n, (ready, found) in enumerate(gathered)
    ]
    return sorted(ranked, key=lambda one: one.rank), len(units)


def _joined(ready: tuple[Frozen, ...]) -> str:
    return "+".join(one.card.name for one in ready)


def _pair(bounds: NDArray[np.float64]) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])


@dataclass(frozen=True)
class Images:
    """What is the same for every backbone.

    Attributes:
        keys: of the images that all backbones could be given.
        targets: (N,) 0 .. P - 1, each occurring.
        units: (N,) images of one group and identical files share a number.
        folds: of the cross-validation.
    """

    keys: set[str]
    targets: NDArray[np.int64]
    units: NDArray[np.int64]
    folds: Folds


def images_held_out(items: Sequence[Item], seed: int) -> Images:
    """The images that are scored, and the folds of their cross-validation.

    Args:
        items: labelled, with keys.
        seed: of the folds.

    Raises:
        DataError: nothing can be held out.
    """
    labels = [str(item.label) for item in items]
    _, targets = np.unique(labels, return_inverse=True)
    names = [f"group {item.group}" if item.group else f"image {item.key}" for item in items]
    _, units = np.unique(names, return_inverse=True)
    folds = make_folds(targets, groups=units, seed=seed)
    if not folds.n_folds:
        raise DataError(
            f"Nothing can be held out of the {len(items)} training images: fewer than two classes have two images (or"
            f" groups). Add images, or divide anew with --resplit."
        )
    return Images({str(item.key) for item in items}, targets, units, folds)


@dataclass(frozen=True)
class _Scored:
    """One backbone before it is compared: what each image says (M images that are held out), and scores."""

    losses: NDArray[np.float64]
    wrong: NDArray[np.float64]
    neighbours_wrong: NDArray[np.float64]
    logme: float
    h_score: float
    leep: float | None
    nce: float | None


def _scored(ready: tuple[Frozen, ...], found: Gathered, images: Images) -> _Scored:
    """All scores of one backbone."""
    import scipy.optimize  # noqa: F401 - before its threads are counted

    rows = found.table.features[[key in images.keys for key in found.table.keys]]
    targets, scored, blocks = images.targets, images.folds.scored, found.blocks
    with one_thread():
        sources = source_logits(ready[0], rows) if len(ready) == 1 else None
        logs, _ = held_out_log_probabilities(rows, targets, images.folds, blocks=blocks)
        neighbours = left_out_neighbours(rows, targets, images.units, blocks=blocks)
        even = _evened(rows, blocks)
        own = targets[scored]
        return _Scored(
            losses=-logs[np.arange(len(own)), own],
            wrong=(logs.argmax(axis=1) != own).astype(np.float64),
            neighbours_wrong=(neighbours[scored] != own).astype(np.float64),
            logme=logme(even, targets),
            h_score=h_score(even, targets),
            leep=None if sources is None else leep(sources, targets),
            nce=None if sources is None else nce(sources.argmax(axis=1), targets),
        )


def _evened(rows: NDArray[np.float32], blocks: tuple[int, ...]) -> NDArray[np.float32]:
    """Features of several backbones, each divided by the root of its whole variance, so that none drowns another."""
    if len(blocks) < 2:  # noqa: PLR2004 - no score depends on the scale of all
        return rows
    parts = np.split(rows, np.cumsum(blocks)[:-1], axis=1)
    spreads = [float(np.sqrt(part.var(axis=0, dtype=np.float64).sum())) for part in parts]
    return np.concatenate([part / np.float32(s or 1) for part, s in zip(parts, spreads, strict=True)], axis=1)
