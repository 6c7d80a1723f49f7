"""The catalogue of backbones: `efficientnet_lite0|1|2`, `timm/NAME[.TAG]`, `torchvision/NAME[.WEIGHTS]`.

Everything takes the cache folder as an argument and keeps there, under `cards/`, what it learned, so that
the second question about a backbone is answered without importing torch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.backbones import packaged, weights_cache
from regraft.backbones.backbone import Backbone, BackboneCard
from regraft.backbones.cards import read_card, sha256, write_card
from regraft.backbones.convolutions import add_convolutions, split_convolutions
from regraft.backbones.index import versions
from regraft.backbones.lookup import Listing, available, names, resolve, zoo_of
from regraft.backbones.stages import stages
from regraft.errors import BackboneError, BackboneUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from regraft.backbones.zoo import Entry, Zoo

__all__ = [
    "Listing",
    "available",
    "build",
    "build_module",
    "card",
    "card_and_builder",
    "names",
    "needed",
    "preview",
    "stages",
]

_SHOWN = 6
_LOOKED_AT = (224, 224)  # pixels; where a network takes any size


def card(name: str, cache: Path) -> BackboneCard:
    """Everything about a backbone but its numbers; fetches the weights if they are not on this machine.

    Args:
        name: as in the module's docstring; without a tag, the zoo's default weights are meant.
        cache: the product's cache folder; cards are kept in its folder `cards`.

    Raises:
        BackboneError: the name is unknown (with close matches) or the network cannot serve as a backbone.
        BackboneUnavailable: the weights are neither here nor can be downloaded.
        MissingExtra: the packaged weights are not installed.
        CheckpointError: the weights file is damaged or does not fit.
    """
    return read_card(name, cache) or _make(name, cache).card


def preview(name: str, cache: Path) -> BackboneCard:
    """The card for looking at a network, without fetching anything.

    Where the weights are not on this machine, its `weights_file` is empty.

    Raises:
        BackboneError: the name is unknown.
    """
    zoo, entry = resolve(name, cache)
    if weights_cache.find(entry) is not None:
        return card(name, cache)
    return _look_at(zoo, entry, zoo.build_module(entry.architecture))


def needed(name: str, cache: Path) -> str:
    """Which weights file a backbone needs and where it is looked for, as part of a sentence."""
    return weights_cache.needed(resolve(name, cache)[1])


def build(name: str, cache: Path) -> Backbone:
    """The network with its weights, all of them, in eval mode: normalised images -> features (B, D) float32.

    Raises:
        RegraftError: as `card`.
    """
    known = read_card(name, cache)
    if known is None:
        return _make(name, cache)
    zoo, entry = resolve(name, cache)
    return Backbone(known, zoo.load(entry, Path(known.weights_file)))


def card_and_builder(name: str, cache: Path) -> tuple[BackboneCard, Callable[[], Backbone]]:
    """The card, and what builds the network; a network that had to be built for its card is not built again.

    Raises:
        RegraftError: as `card`.
    """
    known = read_card(name, cache)
    if known is not None:
        return known, lambda: build(name, cache)
    made = _make(name, cache)
    return made.card, lambda: made


def build_module(architecture: str) -> nn.Module:
    """The network with random weights, without classifier, in eval mode; nothing is read or downloaded.

    Args:
        architecture: a card's `architecture`, with or without convolutions added: `NAME?conv=WIDTH`.

    Raises:
        BackboneError: no such network in the installed zoo.
        OptionError: convolutions for a network that has no place for them.
    """
    bare, width = split_convolutions(architecture)
    zoo = zoo_of(bare)
    if zoo is None:
        raise BackboneError(f"There is no network {architecture!r}. Expected timm/NAME or torchvision/NAME.")
    module = zoo.build_module(bare)
    if width is None:
        return module
    return add_convolutions(module, width, size=zoo.fixed_size(bare) or _LOOKED_AT)


def _make(name: str, cache: Path) -> Backbone:
    """Build the network, look at it, and keep its card."""
    zoo, entry = resolve(name, cache)
    path = _weights_file(entry, cache).absolute()
    digest = sha256(path)
    module = zoo.load(entry, path)
    made = replace(_look_at(zoo, entry, module), weights_file=str(path), weights_sha256=digest)
    write_card(name, made, cache)
    return Backbone(made, module)


def _look_at(zoo: Zoo, entry: Entry, module: nn.Module) -> BackboneCard:
    """A card that lacks only the weights file."""
    preprocessing = zoo.preprocessing(entry)
    parts, output = stages(module, preprocessing.size)
    if len(output) != 1:
        raise BackboneError(
            f"{entry.name} gives an output of shape {output} for one image, not a row of features:"
            " choose another backbone."
        )
    return BackboneCard(
        name=entry.name,
        architecture=entry.architecture,
        weights=entry.weights,
        weights_file="",
        weights_sha256="",
        licence=zoo.licence(entry),
        preprocessing=preprocessing,
        feature_dim=output[0],
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        stages=parts,
        versions=versions(zoo.DISTRIBUTIONS),
    )


def _weights_file(entry: Entry, cache: Path) -> Path:
    if path := weights_cache.find(entry):
        return path
    if entry.name in packaged.NAMES:
        raise packaged.absent(entry)
    try:
        return weights_cache.fetch(entry)
    except BackboneUnavailable as error:
        here = available(cache)
        more = f" and {len(here) - _SHOWN} more" if len(here) > _SHOWN else ""
        usable = f"Available now: {', '.join(here[:_SHOWN])}{more}." if here else "No backbone is available now."
        raise BackboneUnavailable(f"{error} {usable}") from error
