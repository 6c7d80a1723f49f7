"""Swin transformers 1 and 2: torchvision, timm, the authors' repository (microsoft), Hugging Face.

The authors and Hugging Face put the layer that halves the image at the end of a stage, timm at the beginning of the
next. In the second version timm and the authors keep biases for q and v alone, torchvision one vector of which k's
part is not used. Tables of relative positions are no weights: every network computes them from its window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.checkpoints.translations.naming import Naming, Read, renamer, translations

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from regraft.checkpoints.checkpoint import Shape

_PLACE = r"features\.([1357])\.(\d+)\."
_MLP = {"0": "fc1", "3": "fc2"}
_BLOCK = r"layers\.(\d)\.blocks\.(\d+)\."
_BIASES = (_BLOCK + r"attn\.([qv])_bias", r"layers.\1.blocks.\2.attn.\3.bias")


def _block(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) // 2}.blocks.{found[2]}.{found[3]}"


def _mlp(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) // 2}.blocks.{found[2]}.mlp.{_MLP[found[3]]}.{found[4]}"


def _downsample(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) // 2}.downsample.{found[2]}"


def _next_stage(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) + 1}.downsample.{found[2]}"


_INSIDE = r"(norm[12]\.\w+|attn\.(?:qkv|proj|cpb_mlp\.[02])\.\w+|attn\.logit_scale|attn\.relative_position_bias_table)"

_HF = r"(?:swin(?:v2)?\.)?"
_HF_BLOCK = _HF + r"encoder\.layers\.(\d)\.blocks\.(\d+)\."
_HUGGING_FACE = (
    (_HF + r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (_HF + r"embeddings\.norm\.(\w+)", r"patch_embed.norm.\1"),
    (_HF_BLOCK + r"layernorm_before\.(\w+)", r"layers.\1.blocks.\2.norm1.\3"),
    (_HF_BLOCK + r"layernorm_after\.(\w+)", r"layers.\1.blocks.\2.norm2.\3"),
    (_HF_BLOCK + r"attention\.self\.query\.(\w+)", r"layers.\1.blocks.\2.attn.q.\3"),
    (_HF_BLOCK + r"attention\.self\.key\.(\w+)", r"layers.\1.blocks.\2.attn.k.\3"),
    (_HF_BLOCK + r"attention\.self\.value\.(\w+)", r"layers.\1.blocks.\2.attn.v.\3"),
    (_HF_BLOCK + r"attention\.self\.(relative_position_bias_table|logit_scale)", r"layers.\1.blocks.\2.attn.\3"),
    (
        _HF_BLOCK + r"attention\.self\.continuous_position_bias_mlp\.([02]\.\w+)",
        r"layers.\1.blocks.\2.attn.cpb_mlp.\3",
    ),
    (_HF_BLOCK + r"attention\.output\.dense\.(\w+)", r"layers.\1.blocks.\2.attn.proj.\3"),
    (_HF_BLOCK + r"intermediate\.dense\.(\w+)", r"layers.\1.blocks.\2.mlp.fc1.\3"),
    (_HF_BLOCK + r"output\.dense\.(\w+)", r"layers.\1.blocks.\2.mlp.fc2.\3"),
    (_HF + r"encoder\.layers\.(\d)\.downsample\.(.+)", _next_stage),
    (_HF + r"layernorm\.(\w+)", r"norm.\1"),
    (r"classifier\.(\w+)", r"head.fc.\1"),
)

_COMMON = ((_BLOCK + _INSIDE, r"\g<0>"), (_BLOCK + r"mlp\.fc[12]\.\w+", r"\g<0>"), _BIASES)
_timm_names = renamer(
    _BLOCK + r"attn\.qkv\.", *_COMMON, (r"(?:patch_embed|norm|head|layers\.\d\.downsample)\..+", r"\g<0>")
)


def _timm(shapes: Mapping[str, Shape]) -> Read:
    """A first stage that ends with a halving is the authors'."""
    return {} if any(name.startswith("layers.0.downsample.") for name in shapes) else _timm_names(shapes)


TRANSLATIONS = translations(
    "Swin",
    Naming(
        "torchvision",
        renamer(
            _PLACE + r"attn\.qkv\.",
            (r"features\.0\.0\.(\w+)", r"patch_embed.proj.\1"),
            (r"features\.0\.2\.(\w+)", r"patch_embed.norm.\1"),
            (_PLACE + _INSIDE, _block),
            (_PLACE + r"mlp\.([03])\.(\w+)", _mlp),
            (r"features\.([246])\.((?:norm|reduction)\.\w+)", _downsample),
            (r"norm\.(\w+)", r"\g<0>"),
            (r"head\.(\w+)", r"head.fc.\1"),
        ),
    ),
    Naming("timm", _timm),
    Naming(
        "official",
        renamer(
            r"layers\.0\.downsample\.",
            *_COMMON,
            (r"layers\.(\d)\.downsample\.(.+)", _next_stage),
            (r"(?:patch_embed|norm)\..+", r"\g<0>"),
            (r"head\.(\w+)", r"head.fc.\1"),
        ),
    ),
    Naming("Hugging Face", renamer(_HF_BLOCK, *_HUGGING_FACE)),
)
