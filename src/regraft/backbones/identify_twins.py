"""Networks that a file's tensors cannot tell apart, or hardly: which of them to name first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regraft.backbones.fingerprints import HEAD, POSITION, shipped
from regraft.backbones.identify_scores import fits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regraft.backbones.fingerprints import Network
    from regraft.backbones.identify_readings import Reading
    from regraft.checkpoints.checkpoint import Shape

_DERIVED = re.compile(r"(tf|test|gluon|legacy|naflex|flexi).*|.*(resne[xt]*(aa|blur)|_(aa|blur|pruned|quickgelu)_).*")
_MEANT_BY = {"lukemelas": "tf_"}  # these weights were carried over from TensorFlow, with its padding
_PADDED = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Choice:
    """The networks of one body in the order of how well they fit.

    Attributes:
        first: one network for each function that is possible, best first.
        same: for each of them, other names of the same function with the same tensors.
        rivals: how many functions nothing in the tensors speaks against.
        decided: what chose among rivals, for people ("the file's name"); empty if nothing but custom did.
    """

    first: tuple[Network, ...]
    same: tuple[tuple[Network, ...], ...]
    rivals: int
    decided: str


@dataclass(frozen=True)
class _Evidence:
    """For one network: what the tensors say, and what else speaks for it."""

    tensors: tuple[int, int, int]
    modules: float
    hint: int
    meant: bool
    positions: tuple[Shape, ...]


def choose(reading: Reading, file: Mapping[str, Shape], modules: Sequence[str], hints: Sequence[str]) -> Choice:
    """Order the networks of the body that a reading found.

    Args:
        reading: how the file was read.
        file: name -> shape as in the file.
        modules: names of the writer's modules, as in the file.
        hints: names that may be an architecture's.
    """
    networks = [network for network in shipped().networks if network.body == reading.body]
    view = {name.removeprefix(reading.prefix): shape for name, shape in file.items()}
    present = {name.removeprefix(reading.prefix) for name in modules}
    telling = frozenset().union(*(network.modules for network in networks)) & present
    evidence = {n.architecture: _evidence(n, reading, file, view, telling, hints) for n in networks}
    ordered = sorted(networks, key=lambda network: _order(network, evidence[network.architecture]))
    first: list[Network] = []
    same: list[tuple[Network, ...]] = []
    for network in ordered:
        if network.function in {one.function for one in first}:
            continue
        positions = evidence[network.architecture].positions
        first.append(network)
        same.append(
            tuple(
                other
                for other in ordered
                if other is not network
                and other.function == network.function
                and evidence[other.architecture].positions == positions
            )
        )
    rivals = [n for n in first if evidence[n.architecture].tensors == evidence[first[0].architecture].tensors]
    return Choice(tuple(first), tuple(same), len(rivals), _decided(rivals, evidence))


def _evidence(
    network: Network,
    reading: Reading,
    file: Mapping[str, Shape],
    view: Mapping[str, Shape],
    telling: frozenset[str],
    hints: Sequence[str],
) -> _Evidence:
    slots = shipped().slots(network)
    positions = {slot.name: slot.shape for slot in slots if slot.role == POSITION and not slot.integer}
    exact = sum(file[reading.found[name]] == shape for name, shape in positions.items() if name in reading.found)
    heads = sum(slot.name in view and fits(view[slot.name], slot.pattern) for slot in slots if slot.role == HEAD)
    integers = sum(view.get(slot.name) == slot.shape for slot in slots if slot.integer and slot.shape)
    union = len(telling | network.modules)
    name = network.architecture.partition("/")[2]
    return _Evidence(
        tensors=(heads, exact, integers),
        modules=len(telling & network.modules) / union if telling and union else 0.0,
        hint=max((_named(name, hint) for hint in hints), default=0),
        meant=any(word in reading.source and name.startswith(start) for word, start in _MEANT_BY.items()),
        positions=tuple(positions.values()),
    )


def _named(name: str, hint: str) -> int:
    """How many letters of the hint are this name, which must stand there as whole words; 0 if it does not."""
    words, wanted = (f"_{_PADDED.sub('_', text.lower()).strip('_')}_" for text in (hint, name))
    return len(wanted) if wanted in words else 0


def _order(network: Network, evidence: _Evidence) -> tuple[object, ...]:
    zoo, _, name = network.architecture.partition("/")
    return (
        tuple(-count for count in evidence.tensors),
        not evidence.meant,
        -evidence.modules,
        -evidence.hint,
        zoo != "torchvision",
        not network.published,
        bool(_DERIVED.fullmatch(f"{name}_")),
        len(name),
        network.size,
        name,
    )


def _decided(rivals: Sequence[Network], evidence: Mapping[str, _Evidence]) -> str:
    """What sets the first of several apart from the others."""
    if len(rivals) == 1:
        return ""
    first, *others = (evidence[network.architecture] for network in rivals)
    if first.meant and not any(other.meant for other in others):
        return "the file's naming"
    if all(first.modules > other.modules for other in others):
        return "the modules that the file lists"
    if all(first.hint > other.hint for other in others) and all(first.modules == o.modules for o in others):
        return "the names that the file gives"
    return ""
