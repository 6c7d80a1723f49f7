"""Regraft grafts pretrained vision models onto your own images.

    >>> import regraft
    >>> run = regraft.train("photos/")                        # doctest: +SKIP
    >>> run.metrics["accuracy"]                               # doctest: +SKIP
    >>> regraft.load(run.folder).predict(["new.jpg"])         # doctest: +SKIP

Everything listed in `__all__` is public; it is imported when it is first used, so `import regraft` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regraft.backbones.backbone import BackboneCard
    from regraft.backbones.preprocessing import Preprocessing
    from regraft.data.manifest import Item, Manifest
    from regraft.data.read import read_data
    from regraft.data.splits import make_splits
    from regraft.data.write import write_manifest
    from regraft.errors import RegraftError
    from regraft.features.external import read_features
    from regraft.inference.predictor import Prediction, Predictor, load
    from regraft.recipes.embed import embed
    from regraft.recipes.evaluate import evaluate
    from regraft.recipes.listen import Listener
    from regraft.recipes.run import Run
    from regraft.recipes.show import show
    from regraft.recipes.train import train

__version__ = "0.1.0"

__all__ = [
    "BackboneCard",
    "Item",
    "Listener",
    "Manifest",
    "Prediction",
    "Predictor",
    "Preprocessing",
    "RegraftError",
    "Run",
    "embed",
    "evaluate",
    "load",
    "make_splits",
    "read_data",
    "read_features",
    "show",
    "train",
    "write_manifest",
]

_PLACES = {
    "BackboneCard": "backbones.backbone",
    "Item": "data.manifest",
    "Listener": "recipes.listen",
    "Manifest": "data.manifest",
    "Prediction": "inference.predictor",
    "Predictor": "inference.predictor",
    "Preprocessing": "backbones.preprocessing",
    "RegraftError": "errors",
    "Run": "recipes.run",
    "embed": "recipes.embed",
    "evaluate": "recipes.evaluate",
    "load": "inference.predictor",
    "make_splits": "data.splits",
    "read_data": "data.read",
    "read_features": "features.external",
    "show": "recipes.show",
    "train": "recipes.train",
    "write_manifest": "data.write",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module 'regraft' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"regraft.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
