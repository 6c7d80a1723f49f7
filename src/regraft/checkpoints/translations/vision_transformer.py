"""Vision transformers: torchvision, timm, Hugging Face (ViT, DeiT, DINOv2), and the image half of CLIP.

LayerNorm's eps is 1e-6 in torchvision and timm, 1e-12 in Hugging Face's ViT and 1e-5 in CLIP; unlike a BatchNorm's
it cannot be moved into a weight. timm's `vit_*_clip_*` have CLIP's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.checkpoints.translations.naming import Naming, Read, renamer, translations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regraft.checkpoints.checkpoint import Shape

_TORCHVISION_LAYER = r"encoder\.layers\.encoder_layer_(\d+)\."
_WEIGHT = r"(weight|bias)"
_TORCHVISION = (
    (r"class_token", r"cls_token"),
    (r"encoder\.pos_embedding", r"pos_embed"),
    (r"conv_proj\." + _WEIGHT, r"patch_embed.proj.\1"),
    (_TORCHVISION_LAYER + r"ln_([12])\." + _WEIGHT, r"blocks.\1.norm\2.\3"),
    (_TORCHVISION_LAYER + r"self_attention\.in_proj_" + _WEIGHT, r"blocks.\1.attn.qkv.\2"),
    (_TORCHVISION_LAYER + r"self_attention\.out_proj\." + _WEIGHT, r"blocks.\1.attn.proj.\2"),
    (r"encoder\.ln\." + _WEIGHT, r"norm.\1"),
    (r"heads\.head\." + _WEIGHT, r"head.\1"),
)
_NOW = (
    (_TORCHVISION_LAYER + r"mlp\.0\." + _WEIGHT, r"blocks.\1.mlp.fc1.\2"),
    (_TORCHVISION_LAYER + r"mlp\.3\." + _WEIGHT, r"blocks.\1.mlp.fc2.\2"),
)
_EARLY = ((_TORCHVISION_LAYER + r"mlp\.linear_([12])\." + _WEIGHT, r"blocks.\1.mlp.fc\2.\3"),)

_HF = r"(?:(?:vit|deit|dinov2)\.)?"
_HF_LAYER = _HF + r"encoder\.layer\.(\d+)\."
_HUGGING_FACE = (
    (_HF + r"embeddings\.cls_token", r"cls_token"),
    (_HF + r"embeddings\.distillation_token", r"dist_token"),
    (_HF + r"embeddings\.register_tokens", r"reg_token"),
    (_HF + r"embeddings\.position_embeddings", r"pos_embed"),
    (_HF + r"embeddings\.patch_embeddings\.projection\." + _WEIGHT, r"patch_embed.proj.\1"),
    (_HF_LAYER + r"layernorm_before\." + _WEIGHT, r"blocks.\1.norm1.\2"),
    (_HF_LAYER + r"layernorm_after\." + _WEIGHT, r"blocks.\1.norm2.\2"),
    (_HF_LAYER + r"(norm[12])\." + _WEIGHT, r"blocks.\1.\2.\3"),
    (_HF_LAYER + r"attention\.attention\.query\." + _WEIGHT, r"blocks.\1.attn.q.\2"),
    (_HF_LAYER + r"attention\.attention\.key\." + _WEIGHT, r"blocks.\1.attn.k.\2"),
    (_HF_LAYER + r"attention\.attention\.value\." + _WEIGHT, r"blocks.\1.attn.v.\2"),
    (_HF_LAYER + r"attention\.output\.dense\." + _WEIGHT, r"blocks.\1.attn.proj.\2"),
    (_HF_LAYER + r"intermediate\.dense\." + _WEIGHT, r"blocks.\1.mlp.fc1.\2"),
    (_HF_LAYER + r"output\.dense\." + _WEIGHT, r"blocks.\1.mlp.fc2.\2"),
    (_HF_LAYER + r"(mlp\.fc[12])\." + _WEIGHT, r"blocks.\1.\2.\3"),
    (_HF_LAYER + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (_HF + r"layernorm\." + _WEIGHT, r"norm.\1"),
    (r"(?:cls_)?classifier\." + _WEIGHT, r"head.\1"),
    (r"distillation_classifier\." + _WEIGHT, r"head_dist.\1"),
)

_CLIP_LAYER = r"(?:visual\.)?transformer\.resblocks\.(\d+)\."
_CLIP_END = r"(?:visual\.)?"
_CLIP = (
    (_CLIP_END + r"class_embedding", r"cls_token"),
    (_CLIP_END + r"positional_embedding", r"pos_embed"),
    (_CLIP_END + r"conv1\.weight", r"patch_embed.proj.weight"),
    (_CLIP_END + r"ln_pre\." + _WEIGHT, r"norm_pre.\1"),
    (_CLIP_LAYER + r"ln_([12])\." + _WEIGHT, r"blocks.\1.norm\2.\3"),
    (_CLIP_LAYER + r"attn\.in_proj_" + _WEIGHT, r"blocks.\1.attn.qkv.\2"),
    (_CLIP_LAYER + r"attn\.out_proj\." + _WEIGHT, r"blocks.\1.attn.proj.\2"),
    (_CLIP_LAYER + r"mlp\.c_fc\." + _WEIGHT, r"blocks.\1.mlp.fc1.\2"),
    (_CLIP_LAYER + r"mlp\.c_proj\." + _WEIGHT, r"blocks.\1.mlp.fc2.\2"),
    (_CLIP_END + r"ln_post\." + _WEIGHT, r"norm.\1"),
    (_CLIP_END + r"proj", r"head.weight.T"),
)
_clip_names = renamer(r"(?:visual\.)?ln_pre\.", *_CLIP)


def _clip(shapes: Mapping[str, Shape]) -> Read:
    """Where the whole model is there, the text half has names that the image half has without its `visual.`."""
    image = {name: shape for name, shape in shapes.items() if name.startswith("visual.")}
    return _clip_names(image or shapes)


TRANSLATIONS = translations(
    "ViT",
    Naming("torchvision", renamer(_TORCHVISION_LAYER + r"(?!mlp\.linear)", *_TORCHVISION, *_NOW)),
    Naming("timm", renamer(r"blocks\.\d+\.attn\.qkv\.", (r"(?!head\.weight\.T).+", r"\g<0>"))),
    Naming("early torchvision", renamer(_TORCHVISION_LAYER + r"mlp\.linear_", *_TORCHVISION, *_EARLY)),
    Naming("Hugging Face", renamer(_HF_LAYER, *_HUGGING_FACE)),
    Naming("CLIP", _clip),
)
