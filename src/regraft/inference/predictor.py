"""Prediction: images in, one answer each out; a bad file gives an answer that says so."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.decode import MAX_PIXELS
from regraft.data.manifest import Item, hash_items
from regraft.errors import BundleError, DataError
from regraft.evaluation.predictions import Predictions
from regraft.features.extract import extract
from regraft.features.frozen import frozen
from regraft.features.store import cache_folder
from regraft.inference.bundle import read_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regraft.data.manifest import Manifest
    from regraft.features.frozen import Frozen
    from regraft.features.table import FeatureTable
    from regraft.inference.bundle import Bundle


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
    """

    path: str
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    notes: tuple[str, ...] = ()


def _silent(done: int, total: int) -> None:
    del done, total


@dataclass(frozen=True)
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

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.bundle.classes

    def predict(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        max_pixels: int = MAX_PIXELS,
        on_progress: Callable[[int, int], None] = _silent,
    ) -> list[Prediction]:
        """Predict images, in order; files that cannot be read give a `Prediction` with `error`, and no exception.

        Args:
            paths: image files.
            max_pixels: images with more are not decoded.
            on_progress: told the number of images done and the total to be computed.

        Raises:
            BundleError: the model was trained on a feature file and cannot look at images.
        """
        names = [os.fspath(path) for path in paths]
        items, lost = hash_items([Item(name) for name in names])
        ready = self.ready()
        extraction = extract(
            items, ready.spaces, self.cache, ready.runtime, max_pixels=max_pixels, on_progress=on_progress
        )
        errors = {s.path: s.reason for s in (*lost, *extraction.rejected)}
        logits = self.bundle.head.logits(extraction.table.features) if extraction.items else np.empty((0, 0))
        rows = dict(zip((i.path for i in extraction.items), logits, strict=True))
        return [self._prediction(name, rows, errors, extraction.notes) for name in names]

    def _prediction(
        self,
        name: str,
        rows: dict[str, np.ndarray],
        errors: dict[str, str],
        notes: dict[str, tuple[str, ...]],
    ) -> Prediction:
        if name in errors:
            return Prediction(name, error=errors[name])
        shifted = np.exp(rows[name] - rows[name].max())
        probabilities = shifted / shifted.sum()
        best = int(rows[name].argmax())
        return Prediction(
            name,
            self.classes[best],
            float(probabilities[best]),
            dict(zip(self.classes, map(float, probabilities), strict=True)),
            notes=notes.get(name, ()),
        )

    def ready(self) -> Frozen:
        """The frozen backbone, set up exactly as this model was trained on it.

        Raises:
            BundleError: the model was trained on a feature file and cannot look at images.
        """
        card = self.bundle.card
        if card is None:
            raise BundleError(
                "this model was trained on a feature file, so it cannot look at images: give it features (--features)"
            )
        return frozen(
            card,
            self.bundle.build,
            self.cache,
            runtime=self.bundle.runtime if self.runtime == "auto" else self.runtime,
            precision=self.bundle.precision,
            views=self.bundle.views,
            state_sha256=self.bundle.state_sha256,
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


def load(
    run: str | os.PathLike[str], *, runtime: str = "auto", cache: str | os.PathLike[str] | None = None
) -> Predictor:
    """Load a trained model from a run folder or from a bundle that was copied elsewhere.

    Args:
        run: a run folder, or its `bundle` folder.
        runtime: "auto" (as it was trained), "openvino" or "torch".
        cache: where features and the converted backbone are kept; by default REGRAFT_CACHE_DIR or the
            platform's cache folder.

    Raises:
        BundleError: no usable bundle there.

    Example:
        >>> import regraft
        >>> model = regraft.load("runs/textile")  # doctest: +SKIP
        >>> model.predict(["a.jpg"])[0].label  # doctest: +SKIP
        'nominal'
    """
    bundle = read_bundle(Path(run))
    return Predictor(bundle, cache_folder() if cache is None else Path(cache), runtime)
