"""All translations between namings, and which of them say something about a file and a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from regraft.checkpoints.translations import (
    convnext,
    densenet,
    inverted,
    regnet,
    resnet,
    swin,
    vgg,
    vision_transformer,
)
from regraft.checkpoints.translations.origin import Origin, Translation, with_eps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regraft.checkpoints.checkpoint import Shape

TRANSLATIONS: tuple[Translation, ...] = (
    *vgg.TRANSLATIONS,
    *densenet.TRANSLATIONS,
    *resnet.TRANSLATIONS,
    *inverted.TRANSLATIONS,
    *regnet.TRANSLATIONS,
    *convnext.TRANSLATIONS,
    *vision_transformer.TRANSLATIONS,
    *swin.TRANSLATIONS,
)


def translations_for(
    source: Mapping[str, Shape], target: Mapping[str, Shape], eps: Mapping[str, float] | None = None
) -> list[tuple[Translation, dict[str, Origin]]]:
    """The translations under which at least one tensor of the network has an origin of its size in the file.

    Args:
        source: name -> shape in the file, without what wrappers put before the names.
        target: name -> shape in the network; it may be without its classifier.
        eps: name of a `running_var` in the network -> its BatchNorm's eps, where the network is at hand. Without
            it, what the networks of the target's naming usually have.

    Returns:
        Each with name in the network -> origin; first the one that gives most numbers in tensors of the right size.
    """
    found = []
    for translation in TRANSLATIONS:
        origins = translation.apply(source, target)
        if covered := _covered(origins, source, target):
            found.append((covered, translation, _exact(origins, eps or {})))
    found.sort(key=lambda entry: -entry[0])
    return [(translation, origins) for _, translation, origins in found]


def _covered(origins: Mapping[str, Origin], source: Mapping[str, Shape], target: Mapping[str, Shape]) -> int:
    """How many numbers of the network have an origin of their size."""
    sizes = {name: math.prod(target[name]) for name in origins}
    return sum(sizes[name] for name, origin in origins.items() if math.prod(_shape(origin, source)) == sizes[name])


def _shape(origin: Origin, source: Mapping[str, Shape]) -> Shape:
    return source[origin.names[0]] if origin.shape is None else origin.shape


def _exact(origins: dict[str, Origin], eps: Mapping[str, float]) -> dict[str, Origin]:
    return {
        name: with_eps(origin, eps[name]) if origin.eps and name in eps else origin for name, origin in origins.items()
    }
