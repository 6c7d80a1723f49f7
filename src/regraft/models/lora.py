"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) by the library peft, and their way back into the weights."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from regraft.backbones.calls import leaf_calls
from regraft.errors import MissingExtra, OptionError
from regraft.models.freezing import freeze, thaw


def add_lora(
    module: nn.Module, rank: int = 8, alpha: float = 16, *, size: tuple[int, int] = (224, 224), seed: int = 0
) -> nn.Module:
    """Freeze a network and put adapters beside its linear layers and pointwise convolutions; at first they add nothing.

    Only layers that are called as modules can have one. Some attention uses the weights of its linear layers directly
    (torch's MultiheadAttention and so torchvision's vision transformers and Swin): there only the other layers do.

    Args:
        module: the backbone; changed in place.
        rank: of the adapters; layers that are no wider than this get none.
        alpha: what an adapter adds is multiplied by alpha / rank.
        size: height and width of images that the network takes.
        seed: of the adapters' first weights.

    Returns:
        The module. Of its parameters only the adapters' learn, and it has no dropout and learns no statistics.

    Raises:
        MissingExtra: peft is not installed.
        OptionError: a rank below 1, or the network has no layer for an adapter.
    """
    if rank < 1:
        raise OptionError(f"adapters of rank {rank} are not possible: choose a rank of 1 or more, such as 8.")
    names = _places(module, rank, size)
    if not names:
        raise OptionError(f"{type(module).__name__} has no linear layer or 1x1 convolution wider than rank {rank}.")
    peft = _peft()
    freeze(module, [""])
    # As one expression: in a list, peft takes a name for the end of other names too.
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules="|".join(map(re.escape, names)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted: nn.Module = peft.inject_adapter_in_model(config, module)
    return adapted


def merge_lora(module: nn.Module) -> nn.Module:
    """Add what the adapters learnt to the weights and remove them: names and shapes are as before, all can learn again.

    Args:
        module: from `add_lora`; changed in place.

    Returns:
        The module; it gives what it gave before, up to rounding.

    Raises:
        MissingExtra: peft is not installed.
    """
    layer_class = _peft().tuners.tuners_utils.BaseTunerLayer
    for name, layer in list(module.named_modules()):
        if isinstance(layer, layer_class):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, layer.get_base_layer())
    thaw(module, [""])
    return module


def _places(module: nn.Module, rank: int, size: tuple[int, int]) -> list[str]:
    """Names of the called layers that an adapter makes cheaper; exact types, as others may change their weights."""
    found = []
    for name in dict.fromkeys(call.name for call in leaf_calls(module, size)):
        layer = module.get_submodule(name)
        if type(layer) is nn.Linear:
            wide = min(layer.in_features, layer.out_features) > rank
        elif type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and layer.groups == 1:
            wide = min(layer.in_channels, layer.out_channels) > rank
        else:
            continue
        if wide:
            found.append(name)
    return found


def _peft() -> Any:
    try:
        import peft
        import peft.tuners.tuners_utils
    except ImportError as error:
        raise MissingExtra("peft", "lora", "the strategy lora") from error
    return peft
