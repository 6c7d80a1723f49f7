"""What a weights file holds, once it has been read: named tensors, and what stood around them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True, repr=False)
class Part:
    """One state dict inside a file.

    Attributes:
        name: where it stands, as the user names it with `--part`: the keys that lead to it, joined by dots
            (`state_dict_ema`, `teacher`); empty for a file that is nothing but a state dict.
        state_dict: name -> tensor, names as in the file (wrappers such as `module.` included).
        modules: names of all modules that the writer's network had, those without tensors included (kept by
            torch in a state dict's metadata); empty where the file does not say.
    """

    name: str
    state_dict: dict[str, Tensor]
    modules: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(tensor.numel() for tensor in self.state_dict.values())

    def __repr__(self) -> str:
        """One line; the numbers are too many to print."""
        return f"Part({self.name!r}, {len(self.state_dict)} tensors)"


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A weights file.

    Attributes:
        path: the file.
        container: its format, for people: "torch zip", "torch legacy", "TorchScript", "safetensors",
            "safetensors in 3 files", "npz", "pickled model".
        parts: every state dict that was found, the one that is used by default first.
        part: the one that was asked for, or the first.
        extras: what else stood in the file, name -> a few words ("optimizer" -> "dict with 2 entries", "epoch" ->
            "12").
        hints: names of architectures that the file itself mentions (`arch`, `args.model`), as written there.
        notes: what the user should know: several parts, non-finite weights, tensors left out.
        metadata: text pairs of a safetensors header.
    """

    path: Path
    container: str
    parts: tuple[Part, ...]
    part: Part
    extras: dict[str, str] = field(default_factory=dict)
    hints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of the chosen part, names as in the file."""
        return self.part.state_dict

    def __repr__(self) -> str:
        """One line."""
        return f"Checkpoint({str(self.path)!r}, {self.container}, {len(self.state_dict)} tensors)"


def shapes(state_dict: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
