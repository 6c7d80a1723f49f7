"""Several backbones as one module: each looks at the same picture in its own way, and their features stand in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from regraft.backbones.catalogue import build_module
from regraft.errors import BackboneError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from regraft.backbones.backbone import BackboneCard
    from regraft.backbones.preprocessing import Preprocessing

_BRANCHES = "branches"


class Joint(nn.Module):
    """Pictures (B, 3, H, W), 0 to 1, to the features of all branches side by side (B, D1 + D2 + ...).

    Each branch gets the picture at its own size (bilinear, antialiased; untouched where it has that size already),
    normalised by its own mean and std. A branch of which no parameter learns runs without a trace for gradients.

    Attributes:
        branches: normalised images (B, 3, h, w) -> features (B, D).
    """

    def __init__(self, branches: Sequence[nn.Module], preprocessings: Sequence[Preprocessing]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self._sizes = [one.size for one in preprocessings]
        for position, one in enumerate(preprocessings):  # not of the weights, so not in the state
            self.register_buffer(f"_mean{position}", torch.tensor(one.mean).view(1, 3, 1, 1), persistent=False)
            self.register_buffer(f"_std{position}", torch.tensor(one.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        found = [branch(self._shown(position, pictures)).float() for position, branch in enumerate(self.branches)]
        return torch.cat(found, dim=1)

    def _shown(self, position: int, pictures: Tensor) -> Tensor:
        """The pictures as a branch takes them; in float32 under autocast too, as torch resizes in nothing less."""
        size = self._sizes[position]
        if tuple(pictures.shape[2:]) != size:
            with torch.autocast(pictures.device.type, enabled=False):
                pictures = functional.interpolate(pictures.float(), size, mode="bilinear", antialias=True)
        mean, std = self.get_buffer(f"_mean{position}"), self.get_buffer(f"_std{position}")
        return ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)


def build_trunk(
    cards: Sequence[BackboneCard], weights: Sequence[Path | None], seed: int
) -> tuple[nn.Module, frozenset[str]]:
    """The network that is trained: a backbone as it is, or several as one.

    Args:
        cards: of the backbones.
        weights: the state dict of each as safetensors; None: random first weights.
        seed: of what the files do not fill.

    Returns:
        The module, and the names of the parameters and buffers in it that no file filled.

    Raises:
        BackboneError: a file has a tensor that its network has not.
    """
    from safetensors.torch import load_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = [build_module(card.architecture) for card in cards]
    trunk = modules[0] if len(modules) == 1 else Joint(modules, [card.preprocessing for card in cards])
    fresh = set(trunk.state_dict())
    for position, (card, module, file) in enumerate(zip(cards, modules, weights, strict=True)):
        if file is None:
            continue
        state = load_file(file)
        unexpected = module.load_state_dict(state, strict=False).unexpected_keys
        if unexpected:
            raise BackboneError(f"{card.architecture} has no {unexpected[0]}, which its weights have. Prune the cache.")
        fresh -= {name if trunk is module else f"{branch_name(position)}.{name}" for name in state}
    return trunk, frozenset(fresh)


def branch_name(position: int) -> str:
    """The name inside a `Joint` of the branch with that number."""
    return f"{_BRANCHES}.{position}"


def branch_of(name: str) -> tuple[int, str]:
    """The branch in which a tensor of a `Joint` lies, and the tensor's name there."""
    _, position, inside = name.split(".", 2)
    return int(position), inside


def branches_of(trunk: nn.Module) -> list[nn.Module]:
    """The backbones that `build_trunk` made one of, in order."""
    return list(trunk.branches) if isinstance(trunk, Joint) else [trunk]


def largest(preprocessings: Sequence[Preprocessing]) -> Preprocessing:
    """That of the backbone which sees most: pictures are kept as it takes them, and the others' are made of them."""
    return max(preprocessings, key=lambda one: one.size[0] * one.size[1])  # the first of equal ones
