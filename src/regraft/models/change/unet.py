"""A siamese UNet on differences, with a pretrained encoder.

After FC-Siam-diff of Daudt, Le Saux and Boulch, "Fully convolutional siamese networks for change detection", ICIP 2018
(arXiv 1810.08462): both dates go through one encoder, and the decoder is given |difference| of their maps at each
stride. Other than there, the encoder is any backbone, and the decoder's deepest input is a difference too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAST_WIDTH = 32
_STAGES = (2, 5)
_FINEST = (2, 4)


@dataclass(frozen=True)
class UnetOptions:
    """What can be chosen of the siamese UNet.

    Attributes:
        stages: how many of the backbone's five halvings are used, 2 to 5.
        finest: the stride of the finest map, 2 or 4; the logits there are enlarged to the images' size.
        width: channels of the decoder's first level; each finer one has half as many, but not fewer than 32.
        dropout: share of whole channels that is dropped before the last layer while training.
    """

    stages: int = 5
    finest: int = 2
    width: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Raise OptionError for a value that no network can have."""
        if not _STAGES[0] <= self.stages <= _STAGES[1]:
            raise OptionError(f"unet:stages={self.stages} is not possible. Expected {_STAGES[0]} to {_STAGES[1]}.")
        if self.finest not in _FINEST:
            raise OptionError(f"unet:finest={self.finest} is not possible. Expected 2 or 4.")
        if self.width < 1:
            raise OptionError(f"unet:width={self.width} is too small. Expected a whole number from 1 on.")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"unet:dropout={self.dropout} is not possible. Expected a share from 0 to below 1.")


class DifferenceUnet(nn.Module):
    """Maps of both dates at several strides to logits; the dates may be swapped.

    Args:
        channels: C_s of each map, finest first.
        strides: s of each map.
        classes: K.
        options: see `UnetOptions`.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, options: UnetOptions) -> None:
        super().__init__()
        known = dict(zip(strides, channels, strict=True))
        self._places = _places(strides, options.finest)
        steps: list[nn.Module] = []
        before, width = channels[-1], options.width
        for place in self._places:
            steps.append(_two_convolutions(before + (0 if place is None else known[strides[place]]), width))
            before, width = width, min(width, max(_LEAST_WIDTH, width // 2))
        self.steps = nn.ModuleList(steps)
        self.dropout = nn.Dropout2d(options.dropout)
        self.classifier = nn.Conv2d(before, classes, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """[(B, T=2, C_s, h_s, w_s)] -> logits (B, K, *size) float32."""
        differences = [(one[:, 0] - one[:, 1]).abs() for one in maps]
        x = differences[-1]
        for place, step in zip(self._places, self.steps, strict=True):
            if place is None:
                x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            else:
                beside = differences[place]
                x = functional.interpolate(x, beside.shape[-2:], mode="bilinear", align_corners=False)
                x = torch.cat((x, beside), 1)
            x = step(x)
        x = self.dropout(x)
        with torch.autocast(x.device.type, enabled=False):
            logits = self.classifier(x.float())
            return functional.interpolate(logits, size, mode="bilinear", align_corners=False)


def _places(strides: Sequence[int], finest: int) -> list[int | None]:
    """What the decoder's steps are given, deepest first: the place of a map, or None where the backbone has none."""
    places: list[int | None] = list(reversed(range(len(strides) - 1)))
    missing = max(0, (strides[0] // finest).bit_length() - 1)
    return places + [None] * missing


def _two_convolutions(inputs: int, width: int) -> nn.Sequential:
    def layer(before: int) -> list[nn.Module]:
        return [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]

    return nn.Sequential(*layer(inputs), *layer(width))
