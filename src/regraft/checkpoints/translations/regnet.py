"""RegNet X and Y: torchvision <-> timm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.checkpoints.translations.naming import Naming, renamer, translations

if TYPE_CHECKING:
    import re

_LAYERS = {"0": "conv", "1": "bn"}
_CONVOLUTIONS = {"proj": "downsample", "f.a": "conv1", "f.b": "conv2", "f.c": "conv3"}


def _stem(found: re.Match[str]) -> str:
    return f"stem.{_LAYERS[found[1]]}.{found[2]}"


def _layer(found: re.Match[str]) -> str:
    stage, block, convolution, layer, rest = found.groups()
    return f"s{stage}.b{int(block) + 1}.{_CONVOLUTIONS[convolution]}.{_LAYERS[layer]}.{rest}"


def _squeeze(found: re.Match[str]) -> str:
    return f"s{found[1]}.b{int(found[2]) + 1}.{found[3]}"


_BLOCK = r"trunk_output\.block(\d{1,3})\.block\d{1,3}-(\d{1,3})\."

TRANSLATIONS = translations(
    "RegNet",
    Naming(
        "torchvision",
        renamer(
            _BLOCK,
            (r"stem\.([01])\.(\w+)", _stem),
            (_BLOCK + r"(proj|f\.[abc])\.([01])\.(\w+)", _layer),
            (_BLOCK + r"f\.(se\.fc[12]\.\w+)", _squeeze),
            (r"fc\.(\w+)", r"head.fc.\1"),
        ),
    ),
    Naming("timm", renamer(r"s\d{1,3}\.b\d{1,3}\.conv1\.conv\.", (r"(?:stem|s\d{1,3}|head)\..+", r"\g<0>"))),
)
