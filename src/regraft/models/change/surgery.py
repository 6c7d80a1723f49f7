"""Changes to a backbone's network, in place: a finer last map, other bands, images of any size."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from regraft.backbones.calls import leaf_calls
from regraft.checkpoints.adapt import adapt
from regraft.errors import BackboneError, OptionError

_LOOKED_AT = 256  # pixels
_IMAGE_AXES = 4
_LARGEST_STRIDE = 32


def keep_stride(network: nn.Module, stride: int) -> None:
    """Keep the maps of a network from becoming coarser than `stride`, with the same weights.

    As in DeepLab (Chen et al. 2017, arXiv 1606.00915): a convolution whose output would be coarser gets stride 1; one
    with a kernel larger than 1x1 whose input would have been coarser by a factor is dilated by it, so that it looks at
    the pixels that it looked at before. Convolutions in blocks of the class `BasicBlock` (ResNet 18 and 34) are not
    dilated: the published change detection networks were trained so, and torchvision has no dilation there.

    Args:
        network: takes images (N, 3, H, W).
        stride: a power of two.

    Raises:
        BackboneError: the network cannot be looked at.
    """
    try:
        calls = leaf_calls(network, (_LOOKED_AT, _LOOKED_AT))
    except OptionError as error:
        raise BackboneError(
            f"{str(error).rstrip('.!')}. Its stride cannot be kept by dilation: write keep=upsampling, or neck=pyramid."
        ) from error
    basic = {part for block in network.modules() if type(block).__name__ == "BasicBlock" for part in block.modules()}
    done: set[nn.Module] = set()
    for call in calls:
        conv = network.get_submodule(call.name)
        if not isinstance(conv, nn.Conv2d) or conv in done or len(call.given) != _IMAGE_AXES:
            continue
        done.add(conv)
        before, after = _LOOKED_AT // call.taken[-1], _LOOKED_AT // call.given[-1]
        if stride <= before < after:
            conv.stride = (1, 1)
        if stride < before <= _LARGEST_STRIDE and max(conv.kernel_size) > 1 and conv not in basic:
            _dilate(conv, before // stride)


def _dilate(conv: nn.Conv2d, rate: int) -> None:
    conv.dilation = (conv.dilation[0] * rate, conv.dilation[1] * rate)
    if not isinstance(conv.padding, str):
        conv.padding = (int(conv.padding[0]) * rate, int(conv.padding[1]) * rate)


def adapt_bands(network: nn.Module, bands: int, *, pretrained: bool) -> None:
    """Let the first convolution take images of so many bands.

    Pretrained weights are summed to one band, or repeated in turn and scaled (`checkpoints.adapt`); others are drawn
    anew (He et al. 2015).

    Raises:
        BackboneError: no convolution takes the 3 bands of the image.
    """
    stem = next((m for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3), None)  # noqa: PLR2004
    if stem is None or stem.groups != 1:
        raise BackboneError(
            f"{type(network).__name__} has no first convolution that could take {bands} bands instead of 3: choose"
            " another backbone, or give images of 3 bands."
        )
    shape = (stem.out_channels, bands, *stem.kernel_size)
    with torch.no_grad():
        weight = adapt(stem.weight, "weight", shape, stem=True).clone()
        if not pretrained:
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    stem.weight = nn.Parameter(weight)
    stem.in_channels = bands


def allow_any_size(network: nn.Module) -> None:
    """Let timm's transformers take images of any size; they interpolate their positions and make their masks anew."""
    for part in network.modules():
        switches: Any = part
        if getattr(part, "strict_img_size", None) is True:
            switches.strict_img_size = False
        if getattr(part, "dynamic_mask", None) is False:
            switches.dynamic_mask = True
    root: Any = network
    embedding = getattr(root, "patch_embed", None)
    if getattr(root, "dynamic_img_size", None) is False and hasattr(embedding, "output_fmt"):
        from timm import layers

        formats: Any = layers
        root.dynamic_img_size = True
        root.patch_embed.flatten = False
        root.patch_embed.output_fmt = formats.Format.NHWC
