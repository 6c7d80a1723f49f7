"""Depthwise convolutions whose gradients do not take longer than everything else on a processor.

Measured on an AVX-512 processor with bfloat16 (torch 2.14, oneDNN, channels_last, batch 16): where the forward pass
of a depthwise layer takes 0.2 to 2 ms, torch's gradient of the input takes 15 to 60 ms when the layer has a stride,
and its gradient of the weights 7 to 36 ms when the kernel is larger than 3 x 3. Both can be had from the fast cases:

- The gradient of the input of a layer with a stride is that of the same layer without one, with zeros between the
  pixels of the gradient; and that in turn is a forward convolution with the kernel turned by half a circle.
- The gradient of a large kernel is put together from 3 x 3 pieces, each of them the gradient of a 3 x 3 kernel that
  looks at the input from another offset.

Sums are the same up to the order of their terms.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 3
_DTYPES = (torch.float32, torch.bfloat16)
# In float32 pieces win where maps are small: 6.2 to 4.1 ms at 28 x 28, but 17.6 to 19.9 ms at 56 x 56.
_FLOAT32_PIXELS = 28 * 28


@contextmanager
def fast_depthwise(module: nn.Module) -> Iterator[int]:
    """Give the depthwise convolutions of a network faster gradients on the processor for a while.

    The forward pass calls the same kernel as before and gives the same numbers; on another device, without gradients
    or in a type other than float32 and bfloat16 nothing changes. Classes, state_dict and copies of the module stay as
    they are: only `forward` is set on the layers themselves, and taken away again at the end. Works under
    `torch.autocast`. Gradients of gradients are not available meanwhile.

    Args:
        module: the network; layers that need no help (3 x 3 without a stride) are left alone.

    Yields:
        The number of layers that are faster now.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and _helps(layer)]
    for layer in layers:
        # A bound method, so that a deep copy made meanwhile is bound to the copy's weights.
        layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]
    try:
        yield len(layers)
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _helps(layer: nn.Conv2d) -> bool:
    """Whether the layer is one that this module knows and that torch is slow at."""
    (kernel, other), (stride, second) = layer.kernel_size, layer.stride
    depthwise = layer.groups == layer.in_channels == layer.out_channels > 1 and tuple(layer.dilation) == (1, 1)
    square = kernel == other and stride == second and kernel % 2 == 1 and kernel >= _PIECE and stride in {1, 2}
    slow = kernel > _PIECE or stride > 1
    return depthwise and square and slow and "forward" not in vars(layer) and (_same(layer) or _plain(layer))


def _same(layer: nn.Conv2d) -> bool:
    """Whether it is timm's Conv2dSame, known by name to leave timm unimported; it pads in its own `forward`."""
    return type(layer).__name__ == "Conv2dSame"


def _plain(layer: nn.Conv2d) -> bool:
    """Whether its forward pass is torch's own, with zeros around and fewer of them than the kernel is wide."""
    kind = type(layer)
    own = kind.forward is nn.Conv2d.forward and kind._conv_forward is nn.Conv2d._conv_forward  # noqa: SLF001
    if not own or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return False
    return all(padding < kernel for padding, kernel in zip(layer.padding, layer.kernel_size, strict=True))


def _forward(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Takes the place of the layer's `forward`: the same result, other gradients."""
    weight, bias = layer.weight, layer.bias
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    needed = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if not needed or x.device.type != "cpu" or x.dtype not in _DTYPES or x.dtype != weight.dtype or x.dim() != 4:  # noqa: PLR2004
        return type(layer).forward(layer, x)
    if _same(layer):
        x = _pad_same(x, layer.kernel_size[0], layer.stride[0])
    result: Tensor = _Depthwise.apply(x, weight, bias, layer.stride[0], layer.padding)
    return result


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding: as little as gives ceil(size / stride) pixels, the odd one after the end."""
    ends: list[int] = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        ends += [total // 2, total - total // 2]
    return functional.pad(x, ends)


class _Depthwise(torch.autograd.Function):
    """conv2d(x, weight, bias, stride, padding, groups=channels) with the gradients of this module."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, bias, stride, padding, groups=weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        ask_x, ask_weight, ask_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous(memory_format=_layout(x))
        for_x = for_weight = for_bias = None
        with torch.autocast("cpu", enabled=False):
            own_x = ask_x and _own_input(x, ctx.stride)
            own_weight = ask_weight and _own_weight(gradient, weight, ctx.stride)
            if own_x:
                for_x = _input_gradient(gradient, x, weight, ctx.stride, ctx.padding)
            if own_weight:
                for_weight = _weight_gradient(gradient, x, weight, ctx.stride, ctx.padding)
            mask = [ask_x and not own_x, ask_weight and not own_weight, False]
            if any(mask):
                theirs = _torch_gradients(gradient, x, weight, ctx.stride, ctx.padding, mask)
                for_x, for_weight = for_x if own_x else theirs[0], for_weight if own_weight else theirs[1]
            if ask_bias:
                for_bias = gradient.sum((0, 2, 3))
        return for_x, for_weight, for_bias, None, None


def _layout(x: Tensor) -> torch.memory_format:
    """The memory format to work in: the input's own."""
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def _own_input(x: Tensor, stride: int) -> bool:
    """Whether our gradient of the input is the faster one: always, except in float32 with a stride."""
    return x.dtype is torch.bfloat16 or stride == 1


def _own_weight(gradient: Tensor, weight: Tensor, stride: int) -> bool:
    """Whether our gradient of the weights is the faster one."""
    few = stride == 1 and gradient.shape[-1] * gradient.shape[-2] <= _FLOAT32_PIXELS
    return weight.shape[-1] > _PIECE and (gradient.dtype is torch.bfloat16 or few)


def _input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]) -> Tensor:
    """The gradient of the input, (B, C, H, W), by a forward convolution without a stride."""
    count, channels, height, width = x.shape
    kernel = weight.shape[-1]
    if stride > 1:
        size = (count, channels, height + 2 * padding[0] - kernel + 1, width + 2 * padding[1] - kernel + 1)
        spread = torch.empty(size, dtype=gradient.dtype, memory_format=_layout(x)).zero_()
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    around = (kernel - 1 - padding[0], kernel - 1 - padding[1])
    return functional.conv2d(gradient, weight.flip(2, 3), None, 1, around, groups=channels)


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]) -> Tensor:
    """The gradient of the weights, (C, 1, K, K), from pieces of 3 x 3."""
    rows, columns = ((size - 1) * stride + _PIECE for size in gradient.shape[-2:])
    padded = functional.pad(x, (padding[1], padding[1], padding[0], padding[0])) if any(padding) else x
    result = torch.empty_like(weight)
    piece = weight[:, :, :_PIECE, :_PIECE].contiguous()  # only its shape counts
    for top in _offsets(weight.shape[-1]):
        for left in _offsets(weight.shape[-1]):
            window = padded[:, :, top : top + rows, left : left + columns].contiguous(memory_format=_layout(x))
            _, found, _ = _torch_gradients(gradient, window, piece, stride, (0, 0), [False, True, False])
            result[:, :, top : top + _PIECE, left : left + _PIECE] = found
    return result


def _offsets(kernel: int) -> list[int]:
    """Where pieces begin so that they cover a kernel: 0, 2 for 5 taps; 0, 3, 4 for 7 (the overlap is written twice)."""
    return [*range(0, kernel - _PIECE, _PIECE), kernel - _PIECE]


def _torch_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], mask: list[bool]
) -> tuple[Any, Any, Any]:
    """Torch's own gradients of input, weight and bias; those not in the mask are None."""
    found: tuple[Any, Any, Any] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, (stride, stride), padding, (1, 1), False, (0, 0), weight.shape[0], mask
    )
    return found
