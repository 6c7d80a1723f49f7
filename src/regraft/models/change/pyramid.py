"""Any backbone as a feature pyramid: its maps at the strides 2, 4, 8, 16 and 32, as far as it has them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones.stages import stages as stages_of
from regraft.errors import BackboneError
from regraft.models.change.levels import Level, levels_of
from regraft.models.change.surgery import adapt_bands, allow_any_size, keep_stride

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regraft.backbones.backbone import Stage

_FACTORS = (1, 2, 4, 7)  # of the coarsest stride; some networks split their maps in windows of 7
_SMALL = 128  # pixels


class Pyramid(nn.Module):
    """Images (N, C, H, W) to maps (N, C_s, H/s, W/s), finest first. H and W must be multiples of `multiple`.

    What comes after the last map is neither run nor kept. Not for several threads at once.

    Attributes:
        network: the backbone, with its own names.
        levels: of the maps that are given; strides are those after `least`.
        multiple: pixels that height and width must be a multiple of.
    """

    def __init__(self, network: nn.Module, levels: Sequence[Level], *, least: int | None = None) -> None:
        """Take the network as it is.

        Args:
            network: changed by nothing but its use.
            levels: what to give.
            least: maps of a larger stride are enlarged to this one, bilinearly.
        """
        super().__init__()
        self.network = network
        self.multiple = max(level.stride for level in levels)
        self._taken = tuple(levels)
        self.levels = tuple(replace(level, stride=min(level.stride, least or level.stride)) for level in levels)

    @property
    def channels(self) -> tuple[int, ...]:
        """C_s of each map."""
        return tuple(level.channels for level in self.levels)

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride s of each map."""
        return tuple(level.stride for level in self.levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See the class."""
        found: dict[str, Tensor] = {}
        wanted = len({level.name for level in self._taken})

        def note(name: str) -> Any:
            def hook(_part: nn.Module, _inputs: object, output: object) -> None:
                found.setdefault(name, _tensor(output))
                if len(found) == wanted:
                    raise _Complete

            return hook

        # Hooks live for one call: a deep copy then notes its own maps, and no tensor outlives the call.
        hooks = [
            self.network.get_submodule(level.name).register_forward_hook(note(level.name)) for level in self._taken
        ]
        try:
            self.network(images)
        except _Complete:
            pass
        finally:
            for handle in hooks:
                handle.remove()
        size = (images.shape[-2], images.shape[-1])
        return [
            _at_stride(_as_map(found[taken.name], taken, size), taken.stride, given.stride, size)
            for taken, given in zip(self._taken, self.levels, strict=True)
        ]


class _Complete(Exception):
    """All maps are there: what comes after them need not run."""


def build_trunk(
    network: nn.Module,
    stages: int = 5,
    stride: int | None = None,
    *,
    finest: int = 4,
    how: Literal["dilation", "upsampling"] = "dilation",
    size: tuple[int, int] = (224, 224),
    bands: int = 3,
    pretrained: bool = True,
) -> Pyramid:
    """Make a pyramid of a backbone; its weights must be loaded already.

    Args:
        network: images (N, 3, H, W) -> features, from `build_module`; changed in place, what is not used is taken out.
        stages: up to the part of stride 2^stages.
        stride: None: all maps from `finest` on. Else the last map alone, kept at this stride where it would be coarser.
        finest: the smallest stride, in pixels.
        how: what keeps the stride, "dilation" (see `keep_stride`) or "upsampling" of the finished map.
        size: height and width of images that the network takes as it comes.
        bands: C of the images.
        pretrained: whether the first convolution has weights worth keeping when there are other than 3 bands.

    Raises:
        BackboneError: the network has no such maps, or cannot do what is asked of it.
    """
    parts, _ = stages_of(network, size)
    every = levels_of(parts, size)
    kept = [level for level in every if level.stride <= 2**stages and (stride is not None or level.stride >= finest)]
    if not kept:
        there = ", ".join(str(level.stride) for level in every) or "none"
        raise BackboneError(
            f"{type(network).__name__} has no map at a stride from {finest} to {2**stages} (stages={stages}); its"
            f" strides: {there}. Choose other stages, or another backbone."
        )
    dilated = stride is not None and how == "dilation" and kept[-1].stride > stride
    if stride is not None:
        kept = kept[-1:]
    if stride is not None and dilated:
        keep_stride(network, stride)
        kept = [replace(kept[0], stride=stride)]
    _take_out(network, parts, {level.name for level in kept})
    allow_any_size(network)
    if bands != 3:  # noqa: PLR2004 (red, green, blue)
        adapt_bands(network, bands, pretrained=pretrained)
    trunk = Pyramid(network, kept, least=stride)
    _settle_multiple(trunk, bands, dilated=dilated)
    return trunk


def _take_out(network: nn.Module, parts: Sequence[Stage], kept: set[str]) -> None:
    """Put identities where the parts after the last one of `kept` are; parts that are never called stay."""
    last = max(index for index, part in enumerate(parts) if part.name in kept)
    for part in parts[last + 1 :]:
        if part.shape:
            parent, _, child = part.name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())


def _settle_multiple(trunk: Pyramid, bands: int, *, dilated: bool) -> None:
    """Find the smallest multiple of the coarsest stride that serves, by images of it and of a few times it.

    Any network's code may have its own mind: windows of 7, maps that must not become smaller than a kernel.

    Raises:
        BackboneError: it gives the expected maps for none.
    """
    coarsest, problem = trunk.multiple, ""
    trunk.eval()
    for factor in _FACTORS:
        side = coarsest * factor
        sides = (side, side * (2 if side >= _SMALL else 3))
        found = next((why for one in sides if (why := _why_not(trunk, bands, one, exact=dilated))), "")
        if not found:
            trunk.multiple = side
            return
        problem = problem or found
    advice = "Choose another backbone; timm/resnet*, timm/convnext* and timm/vit_* take any size."
    if dilated:
        advice = f"Stride {trunk.strides[0]} cannot be kept by dilation: write keep=upsampling, or neck=pyramid."
    raise BackboneError(f"{type(trunk.network).__name__} cannot serve as a pyramid: {problem}. {advice}")


def _why_not(trunk: Pyramid, bands: int, side: int, *, exact: bool) -> str:
    """What is wrong with the maps of an image of so many pixels, as part of a sentence; empty if nothing is."""
    try:
        with torch.no_grad():
            maps = trunk(torch.zeros((1, bands, side, side)))
    except Exception as error:  # noqa: BLE001 (any network's code, on input it was not made for)
        return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".!")
    for found, level in zip(maps, trunk.levels, strict=True):
        expected = side // level.stride
        uneven = expected != found.shape[-1] if exact else abs(math.log2(expected / found.shape[-1])) > 1
        if found.shape[1] != level.channels or uneven:
            return (
                f"of {side} pixels {level.name} makes {found.shape[-1]} in {found.shape[1]} channels, expected were"
                f" {expected} in {level.channels}"
            )
    return ""


def _tensor(output: object) -> Tensor:
    """The first tensor in what a part gives."""
    if isinstance(output, Tensor):
        return output
    items = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    first = next(iter(items), None)
    if first is None:
        raise BackboneError(f"a part that should give a map gives a {type(output).__name__} without any tensor.")
    return _tensor(first)


def _as_map(found: Tensor, level: Level, size: tuple[int, int]) -> Tensor:
    """What a part gave of images of `size`, as (N, C, h, w)."""
    if level.layout == "first":
        return found
    if level.layout == "last":
        return found.permute(0, 3, 1, 2)
    grid = (size[0] // level.stride, size[1] // level.stride)
    return found[:, found.shape[1] - grid[0] * grid[1] :].transpose(1, 2).reshape(len(found), -1, *grid)


def _at_stride(found: Tensor, stride: int, wanted: int, size: tuple[int, int]) -> Tensor:
    if stride <= wanted:
        return found
    grid = (math.ceil(size[0] / wanted), math.ceil(size[1] / wanted))
    return functional.interpolate(found, grid, mode="bilinear", align_corners=False)
