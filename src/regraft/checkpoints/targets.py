"""The network's side of a match: every tensor of it, and what it counts for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regraft.checkpoints.checkpoint import shapes
from regraft.checkpoints.match_report import product
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from regraft.checkpoints.checkpoint import Shape

_CONSTANTS = {"num_batches_tracked", "relative_position_index", "attn_mask", "relative_coords_table"}
_HEADS = {"classifier", "fc", "head", "head_dist", "heads", "last_linear", "logits", "_fc", "linear", "classif"}
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Target:
    """One tensor of the network: where something may be put."""

    name: str
    shape: Shape
    dtype: str
    integer: bool
    complex: bool
    parameter: bool
    head: bool
    stem: bool

    @property
    def size(self) -> int:
        """How many numbers it counts for: parameters outside the head do."""
        return product(self.shape) if self.parameter and not self.head else 0

    @property
    def constant(self) -> bool:
        """The network computes it itself: no file needs to have it."""
        return not self.parameter and (self.integer or self.name.rpartition(".")[2] in _CONSTANTS)


def targets_of(module: nn.Module, head: tuple[str, ...] | None) -> list[Target]:
    """Every tensor of a network, in its order.

    Args:
        module: the network; it may live on the device `meta`.
        head: names of the last layer's tensors; None guesses them from the usual names.

    Raises:
        CheckpointError: it has lazy layers that were never run.
    """
    from torch.nn.parameter import is_lazy

    if lazy := [name for name, tensor in module.state_dict(keep_vars=True).items() if is_lazy(tensor)]:
        raise CheckpointError(
            f"{lazy[0]} of the network is lazy and has no shape yet. Run the network once on an image first."
        )
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    tensors = module.state_dict()
    sizes = shapes(tensors)
    heads = set(_guessed_head(sizes) if head is None else head)
    stem = next((n for n, shape in sizes.items() if len(shape) > _MATRIX and n.endswith("weight")), "")
    return [
        Target(
            name=name,
            shape=sizes[name],
            dtype=str(tensor.dtype),
            integer=is_integer(tensor),
            complex=tensor.is_complex(),
            parameter=name in parameters,
            head=name in heads,
            stem=name == stem,
        )
        for name, tensor in tensors.items()
    ]


def batch_norm_eps(module: nn.Module) -> dict[str, float]:
    """Name of each running variance -> what its BatchNorm adds to it."""
    from torch import Tensor

    return {
        f"{name}.running_var": float(layer.eps)
        for name, layer in module.named_modules()
        if isinstance(getattr(layer, "running_var", None), Tensor) and hasattr(layer, "eps")
    }


def _guessed_head(shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """The last layer, if its name is one that heads have."""
    last: str = next((name for name in reversed(list(shapes)) if len(shapes[name]) >= _MATRIX), "")
    owner = last.rpartition(".")[0]
    if not owner or not is_head(last):
        return ()
    return tuple(name for name in shapes if name.rpartition(".")[0] == owner or name.startswith("head_dist."))


def is_head(name: str) -> bool:
    """Whether a name is one that heads have."""
    return bool(_HEADS & set(name.split(".")[:-1]))


def is_constant(name: str) -> bool:
    """Whether a name is that of a tensor which networks compute themselves."""
    return name.rpartition(".")[2] in _CONSTANTS


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor counts or points rather than weighs."""
    return not (tensor.is_floating_point() or tensor.is_complex())
