"""A state dict against a module: copy what fits and say exactly what did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

_COUNTER = "num_batches_tracked"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One name that both sides have, with tensors that do not fit each other.

    Attributes:
        name: the name in the module.
        found: shape in the file.
        expected: shape in the module.
        found_dtype: number type in the file.
        expected_dtype: number type in the module; they conflict only if one is integer and the other not.
    """

    name: str
    found: tuple[int, ...]
    expected: tuple[int, ...]
    found_dtype: str
    expected_dtype: str

    def __str__(self) -> str:
        if self.found != self.expected:
            return f"{self.name} is {self.found} in the file, {self.expected} in the network"
        return f"{self.name} is {self.found_dtype} in the file, {self.expected_dtype} in the network"


@dataclass(frozen=True, slots=True)
class MatchReport:
    """What of a checkpoint went into a module.

    Attributes:
        loaded: names in the module that were filled, in the module's order.
        missing: names in the module that the checkpoint lacks; never BatchNorm's batch counters.
        unexpected: names in the checkpoint that the module lacks.
        mismatched: names that both have with tensors that do not fit; they were not copied.
        loaded_size: how many of the module's numbers (parameters and floating-point buffers) were filled.
        size: how many there are.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    loaded_size: int
    size: int

    @property
    def share(self) -> float:
        """Share of the module's numbers that were filled, 0..1; 1 only if every single one was."""
        return self.loaded_size / self.size if self.size else 1.0

    def __str__(self) -> str:
        parts = [f"loaded {len(self.loaded)} tensors ({_percent(self)} of the numbers)"]
        parts += [f"missing {_some(self.missing)}"] if self.missing else []
        parts += [f"not fitting: {_some([str(m) for m in self.mismatched], '; ')}"] if self.mismatched else []
        parts += [f"not used {_some(self.unexpected)}"] if self.unexpected else []
        return "; ".join(parts)


def match(
    state_dict: Mapping[str, Tensor], module: nn.Module, translate: Callable[[str], str] | None = None
) -> MatchReport:
    """Copy into `module` every tensor of `state_dict` that fits, by name, and report.

    Args:
        state_dict: named tensors, as `read_state_dict` gives them.
        module: the network; its parameters and buffers are overwritten in place where they match.
        translate: a checkpoint's name to the module's name; see `checkpoints.translate`.

    Raises:
        CheckpointError: two names of the checkpoint mean the same tensor of the module.
    """
    import torch

    source = _renamed(state_dict, translate)
    target = module.state_dict()
    loaded, missing, mismatched = [], [], []
    loaded_size = 0
    with torch.no_grad():
        for name, slot in target.items():
            if name not in source:
                if name.rpartition(".")[2] != _COUNTER:
                    missing.append(name)
                continue
            tensor = source[name][1]
            if tensor.shape != slot.shape or _is_integer(tensor) != _is_integer(slot):
                mismatched.append(
                    Mismatch(name, tuple(tensor.shape), tuple(slot.shape), str(tensor.dtype), str(slot.dtype))
                )
                continue
            slot.copy_(tensor)
            loaded.append(name)
            loaded_size += _size(slot)
    unexpected = tuple(original for name, (original, _) in source.items() if name not in target)
    size = sum(_size(slot) for slot in target.values())
    return MatchReport(tuple(loaded), tuple(missing), unexpected, tuple(mismatched), loaded_size, size)


def require(report: MatchReport, share: float) -> None:
    """Stop unless at least `share` (0..1) of the module's numbers were filled.

    Raises:
        CheckpointError: less was; the message says what did not fit and what to try.
    """
    if report.share >= share:
        return
    raise CheckpointError(
        f"Only {_percent(report)} of the network's numbers are in the checkpoint, expected at least"
        f" {share:.0%}: {report}. {_advice(report)}"
    )


def _advice(report: MatchReport) -> str:
    if report.mismatched and not report.missing:
        return "The names agree but the sizes do not: try another width, depth or input size of the same family."
    if report.missing and report.unexpected:
        return "The names differ: it may be another architecture, or carry a prefix or another zoo's names."
    return "The file lacks parts of the network: it may be cut short, or of a smaller network."


def _renamed(state_dict: Mapping[str, Tensor], translate: Callable[[str], str] | None) -> dict[str, tuple[str, Tensor]]:
    """Name in the module -> (name in the checkpoint, tensor)."""
    renamed: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in state_dict.items():
        new = translate(name) if translate else name
        if new in renamed:
            raise CheckpointError(f"{renamed[new][0]} and {name} of the checkpoint both mean {new} of the network.")
        renamed[new] = (name, tensor)
    return renamed


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def _size(tensor: Tensor) -> int:
    """Integers are counters and index tables that the architecture itself sets: they do not count."""
    return 0 if _is_integer(tensor) else tensor.numel()


def _percent(report: MatchReport) -> str:
    """Never rounds an incomplete share up to 100 %."""
    return f"{int(report.share * 1000) / 10:g} %"


def _some(names: tuple[str, ...] | list[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more
