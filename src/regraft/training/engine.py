"""The engine under the loop: devices, precision, several processes and machines, by Lightning Fabric."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from regraft.errors import OptionError
from regraft.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

_PRECISIONS = {"f32": "32-true", "bf16": "bf16-mixed", "f16": "16-mixed"}
_PATIENCE = timedelta(hours=12)
"""How long processes wait for each other: one of them may extract features of many images meanwhile."""


def world_size() -> int:
    """How many processes torchrun or Fabric started; 1 where neither did. Needs no torch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Engine:
    """Where and how the steps run.

    Attributes:
        fabric: Lightning Fabric, launched.
        precision: "f32", "bf16" or "f16".
        why: in a few words, why that precision.
    """

    fabric: Any
    precision: str
    why: str

    @property
    def rank(self) -> int:
        """This process among all."""
        return int(self.fabric.global_rank)

    @property
    def world(self) -> int:
        """How many processes there are."""
        return int(self.fabric.world_size)

    @property
    def device(self) -> torch.device:
        """Where tensors go."""
        device: torch.device = self.fabric.device
        return device

    def setup(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """The model and the optimiser as the engine runs them; their weights and states are the same objects."""
        return self.fabric.setup(model, optimiser)  # type: ignore[no-any-return]

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world == 1:
            return value
        total: Tensor = self.fabric.all_reduce(value, reduce_op="sum")
        return total

    def gather(self, value: Tensor) -> list[Tensor]:
        """The tensors of all processes, which are of one shape, in order of rank."""
        if self.world == 1:
            return [value]
        return list(self.fabric.all_gather(value))

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[bool]:
        """Process 0 goes first; the others follow when it is done, and find on disk what it left there."""
        if self.world > 1 and self.rank > 0:
            self.fabric.barrier()
        yield self.rank == 0
        if self.world > 1 and self.rank == 0:
            self.fabric.barrier()

    def scaler_state(self) -> dict[str, Any]:
        """Of the loss scaling that f16 needs; empty otherwise."""
        state = self.fabric.strategy.precision.state_dict()
        return {key: float(value) for key, value in state.items()}

    def restore_scaler(self, state: dict[str, Any]) -> None:
        """Continue with that scaling."""
        if state:
            whole = {"growth_interval", "_growth_tracker"}
            self.fabric.strategy.precision.load_state_dict(
                {key: int(value) if key in whole else value for key, value in state.items()}
            )


def has_bf16() -> bool:
    """Whether this machine computes in bf16 itself; where it is emulated, f32 is faster."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe is not None and probe())


def choose_precision(wanted: str) -> tuple[str, str]:
    """The precision to train in, and why.

    Raises:
        OptionError: a word that is not known.
    """
    if wanted not in {"auto", "f32", "bf16"}:
        raise OptionError(f"precision {wanted!r} is unknown: use auto, f32, bf16")
    if wanted != "auto":
        return wanted, "given"
    if has_bf16():
        return "bf16", "this processor has it"
    if torch.cuda.is_available():
        return "f16", "this GPU has no bf16"
    return "f32", "this processor has no bf16"


def start_engine(precision: str = "auto", *, devices: int | None = None, nodes: int = 1) -> Engine:
    """Start the engine, and the other processes where there are to be several.

    Args:
        precision: "auto", "f32" or "bf16".
        devices: processes on each machine, one a GPU or, without GPUs, on the CPU; by default as torchrun says, else 1.
        nodes: machines.

    Raises:
        OptionError: more devices than there are, or an unknown precision.
    """
    chosen, why = choose_precision(precision)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    count = devices or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if gpus and count > gpus:
        raise OptionError(f"devices is {count}; this machine has {gpus} GPUs. Ask for at most that many.")
    for name in ("lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what runs where is told by us
    if not gpus:
        keep_freed_memory()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that are its own business
        fabric = _fabric(_PRECISIONS[chosen], "cuda" if gpus else "cpu", count, nodes)
        fabric.launch()
    if count * nodes > 1 and not gpus:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // count))
    return Engine(fabric, chosen, why)


def _fabric(precision: Any, accelerator: str, devices: int, nodes: int) -> Any:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    strategy: Any = "auto"
    if devices * nodes > 1:
        # Parts that a schedule has not thawed yet, or that a batch does not reach, get no gradient.
        strategy = DDPStrategy(
            process_group_backend="nccl" if accelerator == "cuda" else "gloo",
            timeout=_PATIENCE,
            broadcast_buffers=True,
        )
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, precision=precision, strategy=strategy)
