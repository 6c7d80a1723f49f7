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
    from regraft.backbones.identify import Identity, identify
    from regraft.backbones.preprocessing import Preprocessing
    from regraft.checkpoints.checkpoint import Checkpoint
    from regraft.checkpoints.init_from import init_from
    from regraft.checkpoints.match import match
    from regraft.checkpoints.match_report import MatchReport
    from regraft.checkpoints.read import read_checkpoint
    from regraft.data.manifest import Item, Manifest
    from regraft.data.read import read_data
    from regraft.data.splits import make_splits
    from regraft.data.write import write_manifest
    from regraft.errors import RegraftError
    from regraft.features.external import read_features
    from regraft.inference.change.predictor import ChangePredictor, load_change
    from regraft.inference.model_files import load_model, save_model
    from regraft.inference.predictor import Prediction, Predictor, load
    from regraft.recipes.check import Check, check
    from regraft.recipes.compare import compare
    from regraft.recipes.embed import embed
    from regraft.recipes.evaluate import evaluate
    from regraft.recipes.listen import Listener
    from regraft.recipes.lr_find import RateFound, lr_find
    from regraft.recipes.rank import rank
    from regraft.recipes.ranking import RankedBackbone, Ranking
    from regraft.recipes.run import Run
    from regraft.recipes.show import show
    from regraft.recipes.train import train

__version__ = "0.1.0"

__all__ = [
    "BackboneCard",
    "ChangePredictor",
    "Check",
    "Checkpoint",
    "Identity",
    "Item",
    "Listener",
    "Manifest",
    "MatchReport",
    "Prediction",
    "Predictor",
    "Preprocessing",
    "RankedBackbone",
    "Ranking",
    "RateFound",
    "RegraftError",
    "Run",
    "check",
    "compare",
    "embed",
    "evaluate",
    "identify",
    "init_from",
    "load",
    "load_change",
    "load_model",
    "lr_find",
    "make_splits",
    "match",
    "rank",
    "read_checkpoint",
    "read_data",
    "read_features",
    "save_model",
    "show",
    "train",
    "write_manifest",
]

_PLACES = {
    "BackboneCard": "backbones.backbone",
    "ChangePredictor": "inference.change.predictor",
    "Check": "recipes.check",
    "Checkpoint": "checkpoints.checkpoint",
    "Identity": "backbones.identify",
    "Item": "data.manifest",
    "Listener": "recipes.listen",
    "Manifest": "data.manifest",
    "MatchReport": "checkpoints.match_report",
    "Prediction": "inference.predictor",
    "Predictor": "inference.predictor",
    "Preprocessing": "backbones.preprocessing",
    "RankedBackbone": "recipes.ranking",
    "Ranking": "recipes.ranking",
    "RateFound": "recipes.lr_find",
    "RegraftError": "errors",
    "Run": "recipes.run",
    "check": "recipes.check",
    "compare": "recipes.compare",
    "embed": "recipes.embed",
    "evaluate": "recipes.evaluate",
    "identify": "backbones.identify",
    "init_from": "checkpoints.init_from",
    "load": "inference.predictor",
    "load_change": "inference.change.predictor",
    "load_model": "inference.model_files",
    "lr_find": "recipes.lr_find",
    "make_splits": "data.splits",
    "match": "checkpoints.match",
    "rank": "recipes.rank",
    "read_checkpoint": "checkpoints.read",
    "read_data": "data.read",
    "read_features": "features.external",
    "save_model": "inference.model_files",
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
