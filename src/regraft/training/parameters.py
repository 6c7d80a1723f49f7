"""Which parameters learn, and how fast: groups of an optimiser by depth, without decay where it does harm."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from regraft.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from torch import nn

OPTIMISERS = ("adamw", "sgd")
HEAD, WEIGHING = "head.", "weighing."
_WEIGHING_RATE = 0.01  # of learnt task weights: they shall settle within the few hundred steps of a small training


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast what learns.

    Attributes:
        lr: peak rate of the deepest trained layers of the trunk, the ones next to the head.
        head_lr: peak rate of the head.
        layer_decay: a part that lies one deeper from the head learns at this fraction (Clark et al. 2020, ELECTRA;
            Howard and Ruder 2018, discriminative fine-tuning, arXiv 1801.06146).
        weight_decay: of weights; norms and biases, and whatever has one axis only, have none.
    """

    lr: float
    head_lr: float
    layer_decay: float = 1.0
    weight_decay: float = 0.0


def groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    rates: Rates,
    depth_of: Callable[[str], int],
    fresh: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Optimiser groups of the parameters that learn.

    Args:
        parameters: of a `Classifier`, as `named_parameters` gives them; frozen ones are left out. Those of a part
            `weighing`, if it has one, weigh tasks and have a rate of their own.
        rates: how fast what learns.
        depth_of: name inside the backbone -> how many parts lie between it and the head, 0 for the last part.
        fresh: names inside the backbone of what no pretraining filled; they learn as fast as the head.

    Returns:
        Groups with `params`, `names`, `lr`, `peak`, `weight_decay` and `where` ("head", "backbone" or "weighing").
    """
    found: dict[tuple[float, float, str], list[tuple[str, nn.Parameter]]] = defaultdict(list)
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        decay = 0.0 if parameter.ndim <= 1 else rates.weight_decay
        inside = name.partition(".")[2]
        if name.startswith(WEIGHING):
            found[_WEIGHING_RATE, 0.0, "weighing"].append((name, parameter))
        elif name.startswith(HEAD) or inside in fresh:
            found[rates.head_lr, decay, "head"].append((name, parameter))
        else:
            found[rates.lr * rates.layer_decay ** depth_of(inside), decay, "backbone"].append((name, parameter))
    return [
        {
            "params": [parameter for _, parameter in members],
            "names": [name for name, _ in members],
            "lr": rate,
            "peak": rate,
            "weight_decay": decay,
            "where": where,
        }
        for (rate, decay, where), members in found.items()
    ]


def make_optimiser(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum 0.9.

    Raises:
        OptionError: another name.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, betas=(0.9, 0.999))
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    raise OptionError(f"optimiser {name!r} is unknown: use {' or '.join(OPTIMISERS)}")


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state by parameter name and kind: `NAME/exp_avg`."""
    found: dict[str, torch.Tensor] = {}
    for group in optimiser.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for kind, value in optimiser.state.get(parameter, {}).items():
                if value is not None:
                    found[f"{name}/{kind}"] = torch.as_tensor(value)
    return found


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Give parameters the state that `optimiser_tensors` told of parameters of their names; the rest starts anew."""
    states: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        states[name][kind] = value
    for group in optimiser.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for kind, value in states.get(name, {}).items():
                # Where a tensor lies in memory as its parameter does, the optimiser's kernels stay the fast ones.
                own = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
                optimiser.state[parameter][kind] = own.copy_(value)
