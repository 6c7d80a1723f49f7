"""Names that one library gave to tensors, in the words of another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LUKEMELAS_BLOCK = re.compile(r"_blocks\.(\d+)\.(_\w+)\.(.+)")
_LUKEMELAS_ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_TIMM_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(\w+)")


def lukemelas_to_timm(target: Iterable[str]) -> Callable[[str], str]:
    """EfficientNet names as in lukemelas' EfficientNet-PyTorch -> as in timm, for any depth.

    There the blocks are one list, in timm they are grouped by stage; a block with expansion has three
    convolutions in both, one without has two, and timm numbers the convolutions' norms from 1.

    Args:
        target: the names in timm's network, which say how its blocks are grouped and built.

    Returns:
        A function from name to name. What it does not know (a block too many) keeps its name, so that a
        match reports it.
    """
    layers: dict[tuple[int, int], set[str]] = {}
    for name in target:
        if found := _TIMM_BLOCK.match(name):
            layers.setdefault((int(found[1]), int(found[2])), set()).add(found[3])
    places = sorted(layers)
    tables = [_block_table(layers[place]) for place in places]

    def translate(name: str) -> str:
        if found := _LUKEMELAS_BLOCK.fullmatch(name):
            index, layer, rest = int(found[1]), found[2], found[3]
            if index < len(places) and layer in tables[index]:
                stage, position = places[index]
                return f"blocks.{stage}.{position}.{tables[index][layer]}.{rest}"
            return name
        first, dot, rest = name.partition(".")
        return _LUKEMELAS_ENDS.get(first, first) + dot + rest

    return translate


def _block_table(layers: set[str]) -> dict[str, str]:
    """Layer names of one block, after whether timm's block expands (it then ends with `conv_pwl`)."""
    squeeze = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
    if "conv_pwl" in layers:
        return squeeze | {
            "_expand_conv": "conv_pw",
            "_bn0": "bn1",
            "_depthwise_conv": "conv_dw",
            "_bn1": "bn2",
            "_project_conv": "conv_pwl",
            "_bn2": "bn3",
        }
    return squeeze | {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


_DENSE_LAYER = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)")
_TRANSFORMER_MLP = re.compile(r"(.*\.mlp)\.linear_([12])\.(.+)")


def early_torchvision(name: str) -> str:
    """Names as in the files that torchvision published first -> as in its networks today.

    DenseNet's layers were named `norm.1`, today `norm1`; the two layers of a vision transformer's MLP were
    `linear_1` and `linear_2`, today `0` and `3`. (Source: torchvision's own loading of these two families.)
    """
    if found := _DENSE_LAYER.fullmatch(name):
        return found[1] + found[2]
    if found := _TRANSFORMER_MLP.fullmatch(name):
        return f"{found[1]}.{3 * (int(found[2]) - 1)}.{found[3]}"
    return name
