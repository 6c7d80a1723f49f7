"""What a backbone is: a card that can be read without torch, and a module that torch builds from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from regraft.backbones.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a backbone, in forward order.

    Attributes:
        name: the module's name inside the network, as `get_submodule` takes it.
        kind: the module's class name.
        shape: its output for one image at the default size, without the batch axis.
        parameters: number of parameters in it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, slots=True)
class BackboneCard:
    """Everything about a backbone with weights but the numbers themselves; JSON, no torch needed.

    Attributes:
        name: what the user types, with the tag resolved (`timm/resnet34.a1_in1k`).
        architecture: what `build_module` takes: zoo and model, without a tag (`timm/resnet34`).
        weights: where the weights come from, for people (file name or tag).
        weights_file: absolute path of the file they were read from.
        weights_sha256: hash of that file's bytes.
        licence: the weights' licence as far as the zoo says, or "unknown".
        preprocessing: what the weights expect.
        feature_dim: D, the width of the pooled features.
        parameters: number of parameters without the classifier.
        stages: the parts in forward order.
        versions: versions of the libraries that defined the network.
        checkpoint: for a person's own file, what was found in it: `container`, `part`, `recognised` (how the
            architecture is known), `preprocessing` (where it comes from), `match` (`MatchReport.to_json`) and
            `notes`; empty for the catalogue's own weights, which are complete or refused.
    """

    name: str
    architecture: str
    weights: str
    weights_file: str
    weights_sha256: str
    licence: str
    preprocessing: Preprocessing
    feature_dim: int
    parameters: int
    stages: tuple[Stage, ...]
    versions: dict[str, str]
    checkpoint: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BackboneCard:
        """From the JSON values that `to_dict` gave."""
        return cls(
            **{
                **values,
                "preprocessing": Preprocessing.from_dict(values["preprocessing"]),
                "stages": tuple(Stage(**{**s, "shape": tuple(s["shape"])}) for s in values["stages"]),
            }
        )


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier, in eval mode: (B, 3, H, W) normalised float -> features (B, D)."""

    card: BackboneCard
    module: nn.Module
