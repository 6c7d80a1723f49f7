"""A residual block of convolutions before the pooling: more head for a network, as `ARCHITECTURE?conv=WIDTH`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from regraft.backbones.calls import Call, leaf_calls
from regraft.errors import BackboneError, OptionError

if TYPE_CHECKING:
    from torch import Tensor, nn

WIDTH = 256
_MARK = "conv="
_IMAGE_AXES = 4


def split_convolutions(architecture: str) -> tuple[str, int | None]:
    """`timm/resnet18?size=160&conv=256` -> the architecture without the block, and its width or None.

    Raises:
        BackboneError: the width is not a whole number above 0.
    """
    name, _, query = architecture.partition("?")
    options = query.split("&") if query else []
    widths = [option.removeprefix(_MARK) for option in options if option.startswith(_MARK)]
    rest = "&".join(option for option in options if not option.startswith(_MARK))
    bare = f"{name}?{rest}" if rest else name
    if not widths:
        return bare, None
    if len(widths) > 1 or not widths[0].isdecimal() or int(widths[0]) < 1:
        raise BackboneError(f"{architecture!r}: expected one width of convolutions, a whole number, as ?conv={WIDTH}.")
    return bare, int(widths[0])


def with_convolutions(architecture: str, width: int = WIDTH) -> str:
    """The name of the architecture with the block added; instead of one that it may name already."""
    bare, _ = split_convolutions(architecture)
    return f"{bare}{'&' if '?' in bare else '?'}{_MARK}{width}"


def add_convolutions(
    module: nn.Module, width: int = WIDTH, *, size: tuple[int, int] = (224, 224), seed: int = 0
) -> nn.Module:
    """Put a residual bottleneck before the network's last pooling; at first it changes nothing.

    The block is a 1x1 convolution to `width`, a 3x3 one, and a 1x1 one back, each with BatchNorm, and ReLU between
    them; the last BatchNorm starts with weight 0 (Goyal et al. 2017, arXiv 1706.02677), which makes the block an
    identity. The pooling POOL becomes a sequence of block and pooling, `POOL.0` and `POOL.1`.

    Args:
        module: images (B, 3, H, W) -> features (B, D); changed in place, in eval or training mode as it was.
        width: channels inside the block.
        size: height and width of images that the network takes.
        seed: of the first weights.

    Returns:
        The module.

    Raises:
        OptionError: the network has no module that pools (B, C, H, W) to (B, C) at its end.
    """
    from torch import nn

    pooling = _last_pooling(leaf_calls(module, size))
    if pooling is None:
        raise OptionError(
            f"{type(module).__name__} does not end with a pooling of its maps (B, C, H, W), so no convolutions can be"
            " added before it: use a linear or mlp head, or a convolutional network."
        )
    old = module.get_submodule(pooling.name)
    parameter = next(module.parameters())
    block = _block_class()(pooling.taken[1], width, seed).to(parameter.device, parameter.dtype)
    parent, _, child = pooling.name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Sequential(block, old).train(module.training))
    return module


def added(module: nn.Module) -> str | None:
    """The name of the block that `add_convolutions` put into the network, or None."""
    kind = _block_class()
    return next((name for name, part in module.named_modules() if isinstance(part, kind)), None)


def _last_pooling(calls: list[Call]) -> Call | None:
    """The last call that takes maps, if it takes all of each map together.

    Squeeze-and-excitation pools too, but maps come after it.
    """
    spatial = [call for call in calls if len(call.taken) == _IMAGE_AXES and call.taken[2] * call.taken[3] > 1]
    if not spatial:
        return None
    last = spatial[-1]
    pooled = last.given in {last.taken[:2], (*last.taken[:2], 1, 1)}
    return last if pooled else None


@functools.cache
def _block_class() -> type[nn.Module]:
    """The block's class, made when torch is there."""
    import torch
    from torch import nn

    class ResidualConvolutions(nn.Module):
        """maps (B, C, H, W) -> maps (B, C, H, W)."""

        def __init__(self, channels: int, width: int, seed: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(channels)
            self.relu = nn.ReLU()
            generator = torch.Generator().manual_seed(seed)
            for conv in (self.conv1, self.conv2, self.conv3):
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            nn.init.zeros_(self.bn3.weight)

        def forward(self, maps: Tensor) -> Tensor:
            inner: Tensor = self.relu(self.bn1(self.conv1(maps)))
            inner = self.relu(self.bn2(self.conv2(inner)))
            summed: Tensor = maps + self.bn3(self.conv3(inner))
            return summed

    return ResidualConvolutions
