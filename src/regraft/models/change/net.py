"""The network for what changed: one trunk for both dates, and a head that compares their maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones.catalogue import build_module
from regraft.errors import BackboneError
from regraft.models.change.bit import BitHead, BitOptions
from regraft.models.change.difference import LinearDifference
from regraft.models.change.pyramid import build_trunk
from regraft.models.change.unet import DifferenceUnet, UnetOptions

if TYPE_CHECKING:
    from pathlib import Path

    from regraft.backbones.backbone import BackboneCard
    from regraft.models.change.pyramid import Pyramid
    from regraft.models.change.spec import ModelSpec

_QUARTER = 4


class ChangeNet(nn.Module):
    """Two dates to logits of what changed.

    Attributes:
        trunk: images (N, C, H, W) -> list of maps (N, C_s, H/s, W/s); its `multiple` is what H and W must be one of.
        neck: None, or what makes one map (N, D, h, w) of the trunk's for a head that takes one: (maps, size) -> map.
        head: (maps, size) -> logits (B, K, *size); takes the list of maps, or the neck's one, each (B, T=2, C_s, h, w).
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, neck: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Both dates (B, T=2, C, H, W), float and normalised, to logits (B, K, H, W) float32.

        Any H and W: the edges are repeated below and to the right up to the trunk's multiple, and cut off again.
        """
        height, width = x.shape[-2:]
        maps, size = self.maps(x)
        if self.neck is None:
            logits: Tensor = self.head([_by_date(one, x.shape[1]) for one in maps], size)
        else:
            logits = self.head(_by_date(self.neck(maps, size), x.shape[1]), size)
        return logits[..., :height, :width].float()

    def maps(self, x: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """The trunk's maps [(B T, C_s, h_s, w_s)] of both dates (B, T=2, C, H, W), and the padded size they are of."""
        images = _padded(x.flatten(0, 1), int(getattr(self.trunk, "multiple", 1)))
        found: list[Tensor] = self.trunk(images.contiguous(memory_format=torch.channels_last))
        return found, (images.shape[-2], images.shape[-1])

    def differences(self, x: Tensor) -> list[Tensor]:
        """Absolute differences [(B, C_s, h_s, w_s)] of the trunk's maps of two dates (B, T=2, C, H, W)."""
        return LinearDifference.differences([_by_date(one, x.shape[1]) for one in self.maps(x)[0]])


class LastMap(nn.Module):
    """The coarsest of the maps as it is; the published form."""

    def forward(self, maps: list[Tensor], _size: tuple[int, int]) -> Tensor:
        """[(N, C_s, h_s, w_s)] -> (N, D, h, w)."""
        return maps[-1]


class SummedMaps(nn.Module):
    """All maps as one at a quarter of the image's size (after Lin et al. 2017, FPN, arXiv 1612.03144, in short).

    A 1x1 convolution with BatchNorm brings each map to `width` channels, since backbones differ in the scale of their
    maps; then they are enlarged bilinearly and summed.

    Args:
        channels: C_s of each map.
        width: D.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width)) for count in channels
        )

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """[(N, C_s, h_s, w_s)] of images of `size` -> (N, width, H/4, W/4)."""
        grid = (-(-size[0] // _QUARTER), -(-size[1] // _QUARTER))
        brought = [layer(one) for layer, one in zip(self.lateral, maps, strict=True)]
        enlarged = [functional.interpolate(one, grid, mode="bilinear", align_corners=False) for one in brought]
        return torch.stack(enlarged).sum(0) if len(enlarged) > 1 else enlarged[0]


def build_change(
    spec: ModelSpec, card: BackboneCard, weights: Path | None, *, bands: int = 3, classes: int = 2, seed: int = 0
) -> tuple[ChangeNet, frozenset[str]]:
    """The network that a spec asks for, on a backbone.

    Args:
        spec: which head with which options.
        card: of the backbone.
        weights: the backbone's state dict as safetensors; None: random first weights.
        bands: C of the images; with other than 3 the first convolution is adapted.
        classes: K.
        seed: of whatever the file does not fill.

    Returns:
        The network in eval mode, channels last, and the names of the parameters and buffers that no file filled.

    Raises:
        BackboneError: the backbone has no maps that serve, or the file has a tensor that the backbone has not.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_module(card.architecture)
        # The file comes after everything random in the backbone: nothing overwrites what it brought.
        fresh = set(network.state_dict()) if weights is None else _fill(network, weights, card)
        trunk = _trunk(spec, network, card, bands, pretrained=weights is not None)
        neck, head = _after(spec, trunk, classes)
    net = ChangeNet(trunk, head, neck).eval().to(memory_format=torch.channels_last)
    inside = "trunk.network."
    unfilled = {name for name in net.state_dict() if not name.startswith(inside) or name.removeprefix(inside) in fresh}
    return net, frozenset(unfilled)


def _fill(network: nn.Module, weights: Path, card: BackboneCard) -> set[str]:
    """Load the file; names of what it did not fill."""
    from safetensors.torch import load_file

    state = load_file(weights)
    loaded = network.load_state_dict(state, strict=False)
    if loaded.unexpected_keys:
        raise BackboneError(
            f"{card.architecture} has no {loaded.unexpected_keys[0]}, which its weights have. Prune the cache."
        )
    return set(loaded.missing_keys)


def _trunk(spec: ModelSpec, network: nn.Module, card: BackboneCard, bands: int, *, pretrained: bool) -> Pyramid:
    options, neck = spec.options, spec.neck
    shared: dict[str, Any] = {"size": card.preprocessing.size, "bands": bands, "pretrained": pretrained}
    if not isinstance(options, BitOptions):
        return build_trunk(network, options.stages, finest=options.finest, **shared)
    if neck is not None and neck.neck == "last":
        return build_trunk(network, options.stages, neck.stride, how=neck.keep, **shared)
    return build_trunk(network, options.stages, **shared)


def _after(spec: ModelSpec, trunk: Pyramid, classes: int) -> tuple[nn.Module | None, nn.Module]:
    """The neck, if the head needs one, and the head."""
    options = spec.options
    if isinstance(options, UnetOptions):
        return None, DifferenceUnet(trunk.channels, trunk.strides, classes, options)
    if not isinstance(options, BitOptions):
        return None, LinearDifference(trunk.channels, classes)
    if spec.neck is not None and spec.neck.neck == "last":
        return LastMap(), BitHead(trunk.channels[-1], classes, options)
    return SummedMaps(trunk.channels, options.width), BitHead(options.width, classes, options)


def _by_date(maps: Tensor, dates: int) -> Tensor:
    """(B T, C, h, w) -> (B, T, C, h, w), without a copy."""
    return maps.reshape(-1, dates, *maps.shape[1:])


def _padded(images: Tensor, multiple: int) -> Tensor:
    """(N, C, H, W) with the last rows and columns repeated until H and W are multiples."""
    below, right = -images.shape[-2] % multiple, -images.shape[-1] % multiple
    return functional.pad(images, (0, right, 0, below), mode="replicate") if below or right else images
