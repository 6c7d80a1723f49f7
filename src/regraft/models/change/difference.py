"""The plainest comparison: a linear layer on the |difference| of a backbone's maps.

The backbone stays as it is, so its differences can be computed once and kept: `LinearDifference.differences` makes
them, `forward_stored` takes them. What this reaches is what the pretrained features know without any learning of
their own.
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

_STAGES = (2, 5)
_FINEST = (2, 4, 8)


@dataclass(frozen=True)
class LinearOptions:
    """What can be chosen of the linear difference.

    Attributes:
        stages: how many of the backbone's five halvings are used, 2 to 5.
        finest: the stride of the finest map: 2, 4 or 8.
    """

    stages: int = 5
    finest: int = 4

    def __post_init__(self) -> None:
        """Raise OptionError for a value that no network can have."""
        if not _STAGES[0] <= self.stages <= _STAGES[1]:
            raise OptionError(f"linear:stages={self.stages} is not possible. Expected {_STAGES[0]} to {_STAGES[1]}.")
        if self.finest not in _FINEST:
            raise OptionError(f"linear:finest={self.finest} is not possible. Expected 2, 4 or 8.")
        if self.finest > 2**self.stages:
            raise OptionError(
                f"linear:finest={self.finest} is coarser than stages={self.stages} reach, which is {2**self.stages}."
            )


class LinearDifference(nn.Module):
    """Maps of both dates to logits: the sum over strides of W_s |f1_s - f2_s|, enlarged, and a bias.

    Each channel of the differences is brought to mean 0 and variance 1 first (BatchNorm without parameters: of the
    batch while training, of all batches afterwards), since maps of other strides have other scales and one learning
    rate is to serve them all. W_s is applied at the map's own size: it commutes with bilinear enlarging, so nothing
    wide is enlarged. W_s and the bias start at zero: the loss is convex.

    Args:
        channels: C_s of each map.
        classes: K.
    """

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.BatchNorm2d(count, affine=False) for count in channels)
        self.weights = nn.ModuleList(nn.Conv2d(count, classes, 1, bias=False) for count in channels)
        self.bias = nn.Parameter(torch.zeros(classes))
        for layer in self.weights:
            nn.init.zeros_(layer.get_parameter("weight"))

    @staticmethod
    def differences(maps: Sequence[Tensor]) -> list[Tensor]:
        """[(B, T=2, C_s, h_s, w_s)] -> [(B, C_s, h_s, w_s)], absolute."""
        return [(one[:, 0] - one[:, 1]).abs() for one in maps]

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """[(B, T=2, C_s, h_s, w_s)] -> logits (B, K, *size) float32."""
        return self.forward_stored(self.differences(maps), size)

    def forward_stored(self, differences: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """[(B, C_s, h_s, w_s)], in any float type -> logits (B, K, *size) float32."""
        logits = self.bias[:, None, None]
        with torch.autocast(self.bias.device.type, enabled=False):
            for scale, layer, one in zip(self.scales, self.weights, differences, strict=True):
                part = layer(scale(one.float()))
                logits = logits + functional.interpolate(part, size, mode="bilinear", align_corners=False)
        return logits
