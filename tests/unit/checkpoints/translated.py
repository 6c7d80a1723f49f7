"""Networks with stirred weights, and a plain way to carry them over by a translation."""

import math

import timm
import torch
from torch import nn
from torchvision import models

from regraft.checkpoints.translations import translations_for


def torchvision_net(name, **options):
    extra = {"init_weights": False} if name in {"inception_v3", "googlenet"} else {}
    return models.get_model(name, **extra, **options).eval()


def timm_net(name, **options):
    return timm.create_model(name, **options).eval()


def shapes_of(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def stirred(module, side, seed=0):
    """Random weights that all matter, and BatchNorm statistics as three random images give them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and "relative_coords" not in name:
                tensor.copy_(_stirred(name, tensor, generator))
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    with torch.no_grad():
        module(images(side))
    for norm in norms:
        norm.eval()
    return module


def _stirred(name, tensor, generator):
    normal = torch.randn(tensor.shape, generator=generator)
    uniform = torch.rand(tensor.shape, generator=generator)
    last = name.rpartition(".")[2]
    if "logit_scale" in name:
        return math.log(10) + normal * 0.1
    if last in {"layer_scale", "gamma"}:
        return uniform * 0.3 + 0.1
    if last == "bias" or last.endswith("_bias"):
        return normal * 0.1
    return uniform + 0.5 if tensor.dim() <= 1 else normal * math.sqrt(2 / max(tensor[0].numel(), 1))


def images(side):
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(7))


def carried(source, target):
    """Fill a network by the best translation; returns it and the names that it left as they were."""
    state = source.state_dict()
    translation, origins = translations_for(shapes_of(source), shapes_of(target))[0]
    slots = target.state_dict()
    with torch.no_grad():
        for name, origin in origins.items():
            tensors = [state[old] for old in origin.names]
            tensor = origin.make(tensors) if origin.make else tensors[0]
            if origin.shape:
                assert tuple(tensor.shape) == origin.shape
            slots[name].copy_(tensor.reshape(slots[name].shape))
    return translation, {name for name in slots if name not in origins}


def difference(one, two, side):
    """The largest between the outputs, in units of what tells the outputs for different images apart."""
    inputs = images(side).to(next(one.parameters()).dtype)
    with torch.no_grad():
        left, right = one(inputs), two(inputs)
    assert left.shape == right.shape
    return ((left - right).abs().max() / (left - left.mean(0)).std()).item()
