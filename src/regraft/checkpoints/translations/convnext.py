"""ConvNeXt 1 and 2: torchvision, timm, the authors' repositories (facebookresearch), Hugging Face.

torchvision keeps a block's scale as (C, 1, 1), the authors' second version its response norm as (1, 1, 1, C);
both hold C numbers, as in timm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.checkpoints.translations.naming import Naming, renamer, translations

if TYPE_CHECKING:
    import re

_TORCHVISION = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}
_AUTHORS = {
    "dwconv": "conv_dw",
    "norm": "norm",
    "layernorm": "norm",
    "pwconv1": "mlp.fc1",
    "pwconv2": "mlp.fc2",
    "grn": "mlp.grn",
}
_GRN = {"gamma": "weight", "beta": "bias"}
_HF = r"(?:convnext(?:v2)?\.)?"


def _block(found: re.Match[str]) -> str:
    """Of torchvision: stages 0 to 3 are its features 1, 3, 5 and 7."""
    stage, block, layer, rest = found.groups()
    return f"stages.{int(stage) // 2}.blocks.{block}.{_TORCHVISION[layer]}.{rest}"


def _scale(found: re.Match[str]) -> str:
    return f"stages.{int(found[1]) // 2}.blocks.{found[2]}.gamma"


def _downsample(found: re.Match[str]) -> str:
    return f"stages.{int(found[1]) // 2}.downsample.{found[2]}"


def _authors(found: re.Match[str]) -> str:
    stage, block, layer, rest = found.groups()
    rest = _GRN.get(rest, rest) if layer == "grn" else rest
    return f"stages.{stage}.blocks.{block}.{_AUTHORS[layer]}.{rest}"


_LAYER = r"(dwconv|norm|layernorm|pwconv1|pwconv2|grn)\.(\w+)"

TRANSLATIONS = translations(
    "ConvNeXt",
    Naming(
        "torchvision",
        renamer(
            r"features\.\d\.\d+\.layer_scale",
            (r"features\.0\.([01])\.(\w+)", r"stem.\1.\2"),
            (r"features\.([1357])\.(\d+)\.block\.([0235])\.(\w+)", _block),
            (r"features\.([1357])\.(\d+)\.layer_scale", _scale),
            (r"features\.([246])\.([01]\.\w+)", _downsample),
            (r"classifier\.0\.(\w+)", r"head.norm.\1"),
            (r"classifier\.2\.(\w+)", r"head.fc.\1"),
        ),
    ),
    Naming("timm", renamer(r"stages\.\d\.blocks\.\d+\.conv_dw\.", (r"(?:stem|stages|head)\..+", r"\g<0>"))),
    Naming(
        "official",
        renamer(
            r"stages\.\d\.\d+\.dwconv\.",
            (r"downsample_layers\.0\.([01]\.\w+)", r"stem.\1"),
            (r"downsample_layers\.(\d)\.([01]\.\w+)", r"stages.\1.downsample.\2"),
            (r"stages\.(\d)\.(\d+)\." + _LAYER, _authors),
            (r"stages\.(\d)\.(\d+)\.gamma", r"stages.\1.blocks.\2.gamma"),
            (r"norm\.(\w+)", r"head.norm.\1"),
            (r"head\.(\w+)", r"head.fc.\1"),
        ),
    ),
    Naming(
        "Hugging Face",
        renamer(
            _HF + r"encoder\.stages\.\d\.layers\.\d+\.dwconv\.",
            (_HF + r"embeddings\.patch_embeddings\.(\w+)", r"stem.0.\1"),
            (_HF + r"embeddings\.layernorm\.(\w+)", r"stem.1.\1"),
            (_HF + r"encoder\.stages\.(\d)\.downsampling_layer\.([01]\.\w+)", r"stages.\1.downsample.\2"),
            (_HF + r"encoder\.stages\.(\d)\.layers\.(\d+)\." + _LAYER, _authors),
            (_HF + r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer_scale_parameter", r"stages.\1.blocks.\2.gamma"),
            (_HF + r"layernorm\.(\w+)", r"head.norm.\1"),
            (r"classifier\.(\w+)", r"head.fc.\1"),
        ),
    ),
)
