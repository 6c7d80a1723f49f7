"""Heads: features (N, D) to logits (N, K), each fitted in seconds and saved as plain arrays."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import BundleError, OptionError
from regraft.heads.prepared import Prepared, prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.head import Fitted, Head

_MODULES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear-probe": ("linear_probe", {}),
    "svm": ("svm", {}),
    "svm-linear": ("svm", {"kernels": ("linear",)}),
    "svm-rbf": ("svm", {"kernels": ("rbf",)}),
    "naive-bayes": ("naive_bayes", {}),
    "knn": ("knn", {}),
    "mlp": ("mlp", {}),
    "lda": ("lda", {}),
    "nearest-mean": ("nearest_mean", {}),
}
NAMES = tuple(_MODULES)
# What a bundle may hold besides: one of these corrected, or the heads of several tasks and what they are made of.
_OTHERS = {
    "calibrated": "calibrated",
    "tasks": "tasks",
    "ridge": "ridge",
    "knn-regression": "knn_regression",
    "multilabel": "multilabel",
}
LOADED = (*NAMES, *_OTHERS)


def fit(
    name: str,
    features: NDArray[np.float32],
    targets: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
    prepared: Prepared | None = None,
) -> Fitted:
    """Fit the head `name` on features (N, D) and class indices (N,).

    Args:
        name: one of `NAMES`.
        features: (N, D) of the training part, float32.
        targets: (N,) class indices, 0 .. n_classes - 1.
        n_classes: K; classes without a training image are allowed and never predicted.
        groups: (N,) images of one group are never on both sides of a cross-validation fold.
        seed: same data and seed, same head.
        classes: K class names, for the notes.
        blocks: widths of several backbones' features lying side by side; each has the same say. None: one block.
        prepared: what `prepare` made of the same arguments, which several heads share to save time; the head is
            the same, to the last digit, with it and without.

    Raises:
        OptionError: no such head.
        DataError: features that are not finite, labels out of range, fewer than two classes with images, or blocks
            that are not the columns.
    """
    module, options = _module(name)
    ready = prepared or prepare(features, targets, n_classes, groups=groups, seed=seed, classes=classes, blocks=blocks)
    if (ready.seed, ready.rows.features.shape) != (seed, np.shape(features)):
        raise ValueError("the prepared rows are not those that fit was given, or of another seed")
    fitted: Fitted = module.fit(
        features, targets, n_classes, groups=groups, seed=seed, classes=classes, prepared=ready, **options
    )
    return fitted


def load(name: str, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Head:
    """The head that gave these `arrays()` and `settings()`; predicts identical numbers.

    Raises:
        OptionError: no such head.
        BundleError: parts are missing or unknown.
    """
    module = import_module(f"regraft.heads.{_OTHERS[name]}") if name in _OTHERS else _module(name)[0]
    try:
        head: Head = module.from_arrays(arrays, settings)
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"the saved {name} head does not have the parts this version of Regraft expects. "
            "Use the version that wrote it, or train again."
        ) from error
    return head


def _module(name: str) -> tuple[Any, dict[str, Any]]:
    if name not in _MODULES:
        raise OptionError(f"there is no head {name!r}; choose one of {', '.join(NAMES)}.")
    module, options = _MODULES[name]
    return import_module(f"regraft.heads.{module}"), options
