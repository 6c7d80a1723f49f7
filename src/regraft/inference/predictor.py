"""Prediction: images in, one answer each out; a bad file gives an answer that says so."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.decode import MAX_PIXELS
from regraft.data.manifest import Item, hash_items
from regraft.errors import BundleError, DataError, OptionError
from regraft.evaluation.predictions import Predictions, softmax
from regraft.features.extract import silent
from regraft.features.frozen import check_options, features_of, frozen
from regraft.features.store import cache_folder, usable_cache
from regraft.heads.tasks import TaskHeads
from regraft.inference.bundle import FEATURES_ONLY, read_bundle
from regraft.inference.task_answers import task_answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from regraft.data.manifest import Manifest
    from regraft.features.frozen import Frozen
    from regraft.features.table import FeatureTable
    from regraft.heads.tasks import TaskPart
    from regraft.inference.bundle import Bundle
    from regraft.inference.task_answers import TaskAnswer

_TOLD = 40  # characters of a wrong value that an error repeats


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        path: the image, as the caller named it.
        label: the most probable class, or None where the image could not be read.
        probability: its probability.
        probabilities: of every class, in class order.
        error: why the image could not be read, or None.
        notes: what decoding did to it ("first of 12 frames").
        unsure: whether it is less probable than the accuracy asks for that `--abstain-at` was given.
        unlike: how far the image is from the training images, above 1 for what is unlike them all; None where the
            model does not know.
        tasks: of a model with several tasks, the answer in each; `label` and what belongs to it is empty then.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    notes: tuple[str, ...] = ()
    unsure: bool = False
    unlike: float | None = None
    tasks: dict[str, TaskAnswer] = field(default_factory=dict)

    @property
    def is_unlike(self) -> bool:
        """Whether the image is unlike all that the model learnt from, so that its answer means little."""
        return self.unlike is not None and self.unlike > 1


@dataclass(frozen=True, repr=False)
class Predictor:
    """A model that is ready to predict. Made by `load`.

    Attributes:
        bundle: the model.
        cache: where features and the converted backbone are kept.
        runtime: "auto" (as it was trained), "openvino" or "torch".
    """

    bundle: Bundle
    cache: Path
    runtime: str = "auto"

    def __repr__(self) -> str:
        """One line."""
        return f"Predictor({self.bundle!r}, runtime={self.runtime!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; of a model with several tasks, the names of all outputs (`gender=Men`)."""
        return self.bundle.classes

    @property
    def tasks(self) -> tuple[TaskPart, ...]:
        """The tasks of a model that has several; empty for one that tells classes."""
        head = self.bundle.head
        return head.parts if isinstance(head, TaskHeads) else ()

    def predict(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        max_pixels: int = MAX_PIXELS,
        on_progress: Callable[[int, int], None] = silent,
    ) -> list[Prediction]:
        """Predict images, in order; files that cannot be read give a `Prediction` with `error`, and no exception.

        Args:
            paths: image files; one alone need not be in a list.
            max_pixels: images with more are not decoded.
            on_progress: told the number of images done and the total to be computed.

        Raises:
            BundleError: the model was trained on a feature file and cannot look at images.
            OptionError: what is no path of a file.
        """
        names = _paths(paths)
        items, lost = hash_items([Item(name) for name in names])
        extraction = features_of(items, self.ready(), self.cache, max_pixels=max_pixels, on_progress=on_progress)
        errors = {s.path: s.reason for s in (*lost, *extraction.rejected)}
        answers: dict[str, Prediction] = {}
        if extraction.items:
            answers = self._answers([i.path for i in extraction.items], extraction.table.features, extraction.notes)
        return [Prediction(name, error=errors[name]) if name in errors else answers[name] for name in names]

    def _answers(
        self, names: list[str], features: np.ndarray, notes: dict[str, tuple[str, ...]]
    ) -> dict[str, Prediction]:
        if isinstance(self.bundle.head, TaskHeads):
            return self._task_answers(self.bundle.head, names, features, notes)
        probabilities = softmax(self.bundle.head.logits(features))
        best, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        unsure, unlike = self.bundle.guard.unsure(confidence), self.bundle.guard.unlike(features)
        return {
            name: Prediction(
                name,
                self.classes[best[row]],
                float(confidence[row]),
                dict(zip(self.classes, map(float, probabilities[row]), strict=True)),
                notes=notes.get(name, ()),
                unsure=bool(unsure[row]),
                unlike=None if unlike is None else float(unlike[row]),
            )
            for row, name in enumerate(names)
        }

    def _task_answers(
        self, head: TaskHeads, names: list[str], features: np.ndarray, notes: dict[str, tuple[str, ...]]
    ) -> dict[str, Prediction]:
        unlike = self.bundle.guard.unlike(features)
        return {
            name: Prediction(
                name,
                notes=notes.get(name, ()),
                unlike=None if unlike is None else float(unlike[row]),
                tasks=own,
            )
            for row, (name, own) in enumerate(zip(names, task_answers(head, features), strict=True))
        }

    def ready(self) -> tuple[Frozen, ...]:
        """The frozen backbones, set up exactly as this model was trained on them.

        Raises:
            BundleError: the model was trained on a feature file and cannot look at images.
        """
        bundle = self.bundle
        if not bundle.cards:
            raise BundleError(FEATURES_ONLY)
        return tuple(
            frozen(
                card,
                partial(bundle.build, position),
                self.cache,
                runtime=bundle.runtime if self.runtime == "auto" else self.runtime,
                precision=bundle.precision,
                views=bundle.views,
                state_sha256=state,
            )
            for position, (card, state) in enumerate(zip(bundle.cards, bundle.states, strict=True))
        )

    def predictions(self, manifest: Manifest, table: FeatureTable) -> Predictions:
        """Logits for a manifest whose row i has row i of the features; labels this model does not know are unknown.

        Raises:
            DataError: features of another width than the model's.
        """
        width = table.features.shape[1]
        if width != self.bundle.feature_dim:
            raise DataError(f"the features are {width} wide, but the model was trained on {self.bundle.feature_dim}")
        index = {name: position for position, name in enumerate(self.classes)}
        return Predictions(
            tuple(i.path for i in manifest.items),
            table.keys,
            self.classes,
            np.array([index.get(i.label or "", -1) for i in manifest.items], np.int64),
            self.bundle.head.logits(table.features),
        )


def _path(value: object, meant: str) -> str:
    """The path that a str or os.PathLike names."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise OptionError(f"expected {meant}, a str or os.PathLike, but was given {_told(value)}")
    return path


def _paths(given: object) -> list[str]:
    meant = "the path of an image file"
    if isinstance(given, str | os.PathLike):
        return [_path(given, meant)]
    if isinstance(given, bytes | bytearray | memoryview) or not isinstance(given, Iterable):
        raise OptionError(f"expected {meant}, or several of them in a list, but was given {_told(given)}")
    return [_path(one, meant) for one in given]


def _told(value: object) -> str:
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= _TOLD else text[:_TOLD] + '...'} ({type(value).__name__})"


@lru_cache(maxsize=1)
def _temporary_cache() -> Path:
    """A cache folder that ends with this process."""
    folder = tempfile.mkdtemp(prefix="regraft-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _cache_or_temporary(folder: Path) -> Path:
    """The cache folder, or a temporary one with a warning: a bundle is complete and needs no cache to predict."""
    try:
        return usable_cache(folder)
    except OptionError as error:
        try:
            temporary = _temporary_cache()
        except OSError:
            raise error from None
        logging.getLogger("regraft").warning("%s Until then a temporary folder takes its place: %s", error, temporary)
        return temporary


def load(
    run: str | os.PathLike[str], *, runtime: str = "auto", cache: str | os.PathLike[str] | None = None
) -> Predictor:
    """Load a trained model from a run folder or from a bundle that was copied elsewhere.

    Args:
        run: a run folder, or its `bundle` folder, or the `Run` that training gave.
        runtime: "auto" (as it was trained), "openvino" or "torch".
        cache: where features and the converted backbone are kept; by default REGRAFT_CACHE_DIR or the
            platform's cache folder. Where nothing can be written there, a temporary folder takes its place,
            with a warning.

    Raises:
        BundleError: no usable bundle there.
        OptionError: an unknown runtime, or what is no path.

    Example:
        >>> import regraft
        >>> model = regraft.load("runs/textile")  # doctest: +SKIP
        >>> model.predict(["a.jpg"])[0].label  # doctest: +SKIP
        'nominal'
    """
    check_options(runtime, "f32", "none")
    kept = None if cache is None else Path(_path(cache, "the cache folder"))
    bundle = read_bundle(Path(_path(run, "a run or bundle folder")))
    folder = cache_folder() if kept is None else kept
    return Predictor(bundle, folder if not bundle.cards else _cache_or_temporary(folder), runtime)
