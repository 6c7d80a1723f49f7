"""All networks of the installed timm that have published weights."""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any

from regraft.backbones.preprocessing import Preprocessing
from regraft.backbones.zoo import Entry, split_size
from regraft.errors import BackboneError, CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

NAME = "timm"
DISTRIBUTIONS = ("torch", "timm")
_PREFIX = "timm/"
_MODES = {"center": "shorter", "squash": "squash", "border": "pad"}


def entries() -> list[Entry]:
    """Every network with each of its weights, the default ones first."""
    from timm.models import list_pretrained

    found = []
    for model in list_pretrained():
        cfg = _cfg(model)
        default = _cfg(cfg.architecture).tag == cfg.tag
        found.append((cfg.architecture, not default, _entry(model, cfg)))
    return [entry for _, _, entry in sorted(found, key=lambda item: item[:2])]


def _cfg(model: str) -> Any:
    """What timm records of a network's weights."""
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(model.removeprefix(_PREFIX))


def _entry(model: str, cfg: Any) -> Entry:
    usable_url = cfg.url if isinstance(cfg.url, str) and not cfg.custom_load else ""
    return Entry(
        name=f"{_PREFIX}{model}",
        architecture=f"{_PREFIX}{cfg.architecture}",
        weights=cfg.tag or "",
        repo=cfg.hf_hub_id or "",
        filename=cfg.hf_hub_filename or "",
        url=usable_url,
        path="" if cfg.custom_load else cfg.file or "",
    )


def build_module(architecture: str, classes: int = 0) -> nn.Module:
    """The network with random weights, in eval mode: images -> features (B, D), or logits (B, classes)."""
    import timm

    name, side = split_size(architecture)
    model = name.removeprefix(_PREFIX)
    if not timm.is_model(model):
        raise BackboneError(f"timm {timm.__version__} has no network {model!r}; see `regraft backbones timm/`.")
    options: dict[str, Any] = {} if side is None else {"img_size": side}
    try:
        module: nn.Module = timm.create_model(model, num_classes=classes, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise BackboneError(f"{model} cannot be built for images of {side} pixels: {error}") from error
    return module.eval()


def fixed_size(architecture: str) -> tuple[int, int] | None:
    """Height and width of the input that the network is built for, as timm records it; None if it takes any."""
    from timm.models import get_pretrained_cfg

    name, side = split_size(architecture)
    if side is not None:
        return side, side
    cfg = get_pretrained_cfg(name.removeprefix(_PREFIX))
    if cfg is None or not cfg.fixed_input_size:
        return None
    _, height, width = cfg.input_size
    return height, width


def load(entry: Entry, path: Path) -> nn.Module:
    """The network with all its weights; raises CheckpointError if one is missing from the file.

    timm knows how to turn the published files into its networks' tensors, but loads them without telling
    what was missing. So the loading is done a second time with the same tensors full of NaN: what
    is not NaN afterwards did not come from the file.
    """
    import torch

    from regraft.checkpoints.match import match
    from regraft.checkpoints.read import read_state_dict

    state = read_state_dict(path)
    module = _through_timm(entry, path, state)
    marked = _through_timm(entry, path, {name: _marked(tensor) for name, tensor in state.items()}).state_dict()
    tensors = module.state_dict()
    came = {
        name: tensor
        for name, tensor in tensors.items()
        if not marked[name].is_floating_point() or bool(torch.isnan(marked[name]).any())
    }
    match(came, module, allow_partial=1, head=())
    return module


def _marked(tensor: Tensor) -> Tensor:
    import torch

    return torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor


def _through_timm(entry: Entry, path: Path, state: dict[str, Tensor]) -> nn.Module:
    import timm

    model = entry.name.removeprefix(_PREFIX)
    try:
        with _quiet():
            module: nn.Module = timm.create_model(
                model, pretrained=True, num_classes=0, pretrained_cfg_overlay={"state_dict": state}
            )
    except (
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        AttributeError,
        AssertionError,
    ) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{path} does not fit {entry.name}: {' '.join(reason[:2])[:300]}") from error
    kept: Any = module.pretrained_cfg
    kept.pop("state_dict", None)  # a second copy of all weights
    return module.eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without timm's warnings of the classifier's tensors, which are left over on purpose."""
    log = logging.getLogger("timm.models._builder")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def preprocessing(entry: Entry) -> Preprocessing:
    """As timm's own evaluation resizes and crops for these weights."""
    from timm.data import config as timm_config

    resolve: Any = timm_config.resolve_data_config
    config = resolve({}, pretrained_cfg=_cfg(entry.name).to_dict())
    channels, height, width = config["input_size"]
    mode = _MODES.get(config["crop_mode"])
    if channels != 3 or mode is None:  # noqa: PLR2004 (red, green, blue)
        raise BackboneError(
            f"{entry.name} takes {channels} channels, cropped by {config['crop_mode']!r}: not supported."
        )
    (red, green, blue), (red_std, green_std, blue_std) = config["mean"], config["std"]
    return Preprocessing(
        size=(height, width),
        resize=math.floor(min(height, width) / config["crop_pct"]),
        mode=mode,  # type: ignore[arg-type]  # a value of _MODES
        interpolation=config["interpolation"],
        mean=(red, green, blue),
        std=(red_std, green_std, blue_std),
    )


def licence(entry: Entry) -> str:
    """As timm records it."""
    return _cfg(entry.name).license or "unknown"
