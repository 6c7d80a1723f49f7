"""The state of a training on disk: tensors and JSON in one safetensors file, no pickle, complete or absent.

    state-00000040.safetensors    everything after step 40; the last few are kept
    best-00000032.safetensors     the weights that were best so far; named by the newest state

A state names its best file, and the file is written first and removed only after a newer state is durable. So
whatever write fails, the newest complete state and the best weights that it names are there.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from regraft.atomic import atomic_file, remove_leftovers
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

FORMAT = 1
KEEP = 2


@dataclass(frozen=True)
class State:
    """What was read of a state.

    Attributes:
        tensors: by name; `model/NAME`, `average/NAME`, `optimiser/NAME/KIND`, `random/RANK/KIND`.
        facts: everything else, JSON values.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix/`, without it."""
        start = f"{prefix}/"
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def write_tensors(target: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON values as one file, atomically and durably.

    Raises:
        CannotWrite: the disk is full or read-only; what was there before stays.
    """
    from safetensors.torch import save_file

    own = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    with atomic_file(target) as temporary:
        save_file(own, temporary, metadata={"facts": json.dumps({"format": FORMAT, **facts})})


def read_tensors(path: Path) -> State:
    """Read what `write_tensors` wrote.

    Raises:
        CheckpointError: it is not there, damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, RuntimeError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no complete training state ({type(error).__name__}).") from error
    if facts.get("format") != FORMAT:
        raise CheckpointError(f"{path} has the format {facts.get('format')!r}; this Regraft reads {FORMAT}.")
    return State(tensors, facts)


def save(folder: Path, state: State, best: dict[str, Tensor] | None, *, keep: int = KEEP) -> None:
    """Write a state, and before it the best weights where they are new; then remove what is no longer needed.

    Args:
        folder: where states lie.
        state: its facts hold `step` and `best`, the step of the best weights (or None).
        best: the best weights if they are not on disk yet.
        keep: how many states stay.

    Raises:
        CannotWrite: nothing that was complete is lost.
    """
    remove_leftovers(folder)
    for half in folder.glob(".tmp*"):  # safetensors writes into such a file first, and a kill leaves it
        half.unlink(missing_ok=True)
    if best is not None:
        write_tensors(folder / best_name(state.facts["best"]["step"]), best, {})
    write_tensors(folder / f"state-{state.facts['step']:08d}.safetensors", state.tensors, state.facts)
    for old in states(folder)[keep:]:
        old.unlink(missing_ok=True)
    named = {best_name(b["step"]) for path in states(folder) if (b := read_facts(path).get("best")) is not None}
    for old in folder.glob("best-*.safetensors"):
        if old.name not in named:
            old.unlink(missing_ok=True)


def best_name(step: int) -> str:
    """The file of the best weights, found after that step."""
    return f"best-{step:08d}.safetensors"


def states(folder: Path) -> list[Path]:
    """The states in a folder, the newest first."""
    return sorted(folder.glob("state-*.safetensors"), reverse=True)


def read_facts(path: Path) -> dict[str, Any]:
    """The JSON part of a state; empty where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {})["facts"])
    except (OSError, RuntimeError, SafetensorError, ValueError, KeyError):
        return {}
    return facts


def newest(folder: Path) -> tuple[State | None, list[str]]:
    """The newest state that can be read with the best weights it names, and sentences about those that cannot."""
    notes: list[str] = []
    for path in states(folder):
        try:
            return _whole(folder, path), notes
        except CheckpointError as error:  # noqa: PERF203 - there are two of them
            notes.append(f"{error} The one before it is used.")
    return None, notes


def _whole(folder: Path, path: Path) -> State:
    """A state whose best weights are there too."""
    state = read_tensors(path)
    if state.facts["best"] is not None:
        read_tensors(folder / best_name(state.facts["best"]["step"]))
    return state


def remove_damaged(folder: Path, kept: State | None) -> None:
    """Remove the states that are newer than the one that training goes on from: they could not be read."""
    step = -1 if kept is None else kept.facts["step"]
    for path in states(folder):
        if int(path.stem.removeprefix("state-")) > step:
            path.unlink(missing_ok=True)


def seed_everything(seed: int) -> None:
    """Start all random number generators of this process anew, so that nothing depends on what came before."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global one, which libraries use
    random.seed(seed)


def random_states() -> dict[str, Tensor]:
    """The states of all random number generators of this process, as tensors."""
    found = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        found |= {f"cuda{n}": state for n, state in enumerate(torch.cuda.get_rng_state_all())}
    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - the global one, which libraries use
    found["numpy"] = torch.from_numpy(np.asarray(keys, np.int64))
    found["numpy_rest"] = torch.tensor([float(position), float(has_gauss), float(gauss)], dtype=torch.float64)
    _, words, gauss_next = random.getstate()
    found["python"] = torch.tensor(words, dtype=torch.int64)
    found["python_rest"] = torch.tensor([float("nan") if gauss_next is None else gauss_next], dtype=torch.float64)
    return found


def set_random_states(states: dict[str, Tensor]) -> None:
    """Continue where `random_states` was called."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        for n in range(torch.cuda.device_count()):
            if f"cuda{n}" in states:
                torch.cuda.set_rng_state(states[f"cuda{n}"], n)
    position, has_gauss, gauss = states["numpy_rest"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))  # noqa: NPY002
    rest = float(states["python_rest"][0])
    random.setstate((3, tuple(states["python"].tolist()), None if rest != rest else rest))  # noqa: PLR0124 - NaN
