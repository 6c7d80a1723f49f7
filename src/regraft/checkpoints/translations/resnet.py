"""ResNet and its kin: torchvision and timm agree; Hugging Face does not, nor does a ResNet cut into a Sequential.

`nn.Sequential(*list(resnet.children())[:-1])`, the usual way to drop the last layer, keeps only the children's
numbers: 0 and 1 are the first convolution and its norm, 4 to 7 the stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.checkpoints.translations.naming import Naming, renamer, translations

if TYPE_CHECKING:
    import re

_KINDS = {"convolution": "conv", "normalization": "bn"}
_SHORTCUT = {"convolution": "downsample.0", "normalization": "downsample.1"}
_HF = r"(?:resnet\.)?"
_KIND = r"(convolution|normalization)\.(\w+)"


def _stem(found: re.Match[str]) -> str:
    return f"{_KINDS[found[1]]}1.{found[2]}"


def _shortcut(found: re.Match[str]) -> str:
    return f"layer{int(found[1]) + 1}.{found[2]}.{_SHORTCUT[found[3]]}.{found[4]}"


def _layer(found: re.Match[str]) -> str:
    stage, block, layer, kind, rest = found.groups()
    return f"layer{int(stage) + 1}.{block}.{_KINDS[kind]}{int(layer) + 1}.{rest}"


def _numbered(found: re.Match[str]) -> str:
    return f"layer{int(found[1]) - 3}.{found[2]}"


_BLOCK = r"\d+\.(?:conv|bn|downsample)"

TRANSLATIONS = translations(
    "ResNet",
    Naming(
        "torchvision/timm",
        renamer(r"layer[1-4]\." + _BLOCK, (r"(?:conv1|bn1|layer[1-4]|fc)\..+", r"\g<0>")),
    ),
    Naming(
        "Hugging Face",
        renamer(
            _HF + r"encoder\.stages\.\d\.layers\.\d+\.layer\.\d\.",
            (_HF + r"embedder\.embedder\." + _KIND, _stem),
            (_HF + r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\." + _KIND, _shortcut),
            (_HF + r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\." + _KIND, _layer),
            (r"classifier\.1\.(\w+)", r"fc.\1"),
        ),
    ),
    Naming(
        "a Sequential",
        renamer(
            r"[4-7]\." + _BLOCK,
            (r"0\.(\w+)", r"conv1.\1"),
            (r"1\.(\w+)", r"bn1.\1"),
            (r"([4-7])\.(\d+\..+)", _numbered),
        ),
    ),
)
