"""The state dicts inside a file's content, found by what they hold, not by a list of names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from regraft.checkpoints.leaves import is_floating, is_leaf, shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from regraft.checkpoints.containers.values import Array, LazyTensor

    Leaf = LazyTensor | Array | Tensor

Keys = tuple[str, ...]

_DEEPEST = 16
_MOST = 20_000
_FEWEST_TENSORS = 2
_SMALLEST_SHARE = 0.001
_EMA_SHARE = 0.5
_ALIKE = 0.7  # the follower's head may differ
_KNOWN = ("state_dict", "model", "model_state_dict", "model_g_state_dict", "net", "module", "network", "params",
          "weights", "student", "backbone", "encoder")  # fmt: skip
_AVERAGES = {"ema", "teacher", "swa", "averaged", "average", "avg"}
_TRAINING = {
    "optim", "optimizer", "optimizers", "optimiser", "sched", "scheduler", "schedulers", "scaler", "amp", "rng",
    "callbacks", "loops",
}  # fmt: skip
_LAYER = {
    "weight", "bias", "running_mean", "running_var", "num_batches_tracked", "kernel", "scale", "gamma", "beta", "mean",
    "var", "moving_mean", "moving_variance", "in_proj_weight", "in_proj_bias", "weight_g", "weight_v", "embedding",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mapping that may be a state dict.

    Attributes:
        keys: the keys that lead to it.
        leaves: name -> tensor, not read yet.
        left_out: names of entries that belong to no part: no tensors, or beside two networks.
        modules: names of all modules, from the metadata that torch keeps beside a state dict.
    """

    keys: Keys
    leaves: dict[str, Leaf]
    left_out: tuple[object, ...] = ()
    modules: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As the user names it."""
        return ".".join(self.keys)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(math.prod(shape(leaf)) for leaf in self.leaves.values())


def find(content: object) -> list[Candidate]:
    """All state dicts, the one to use by default first: averages over training before what was trained.

    Args:
        content: what a container held, in any nesting; it may refer to itself.
    """
    found = _nested(list(_candidates(content)))
    found = [candidate for candidate in found if not _covered(candidate, found)]
    largest = max((candidate.size for candidate in found), default=0)
    wide = [c for c in found if len(c.leaves) >= _FEWEST_TENSORS and c.size >= largest * _SMALLEST_SHARE]
    split = [piece for candidate in (wide or found) for piece in _split(candidate)]
    largest = max((candidate.size for candidate in split), default=0)
    return sorted(split, key=lambda candidate: _rank(candidate, largest))


def words(name: str) -> list[str]:
    """`modelEMA.state_dict` -> model, ema, state, dict."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1_\2", name[:200])
    return [word for word in re.split(r"[^a-zA-Z]+", spaced.lower()) if word]


def is_training_state(key: str, value: object) -> bool:
    """Whether it is an optimiser, a schedule or the like, told by name or by what it holds."""
    if _TRAINING & set(words(key)):
        return True
    return isinstance(value, Mapping) and "param_groups" in value


def _candidates(content: object) -> Iterator[Candidate]:
    """Every mapping with at least one tensor that may be a weight, outside of the training's own state."""
    waiting: list[tuple[Keys, object]] = [((), content)]
    seen: set[int] = set()
    while waiting:
        keys, value = waiting.pop(0)
        if id(value) in seen or len(keys) > _DEEPEST or len(seen) > _MOST:
            continue
        seen.add(id(value))
        entries = _entries(value)
        leaves = {key: leaf for key, leaf in entries.items() if isinstance(key, str) and is_leaf(leaf)}
        if any(is_floating(leaf) for leaf in leaves.values()) and isinstance(value, Mapping):
            left_out = tuple(key for key in entries if key not in leaves)
            yield Candidate(keys, leaves, left_out, _modules(value))
        waiting += [
            ((*keys, key), inner)
            for key, inner in entries.items()
            if isinstance(key, str) and isinstance(inner, Mapping | list | tuple) and not is_training_state(key, inner)
        ]


def _entries(value: object) -> Mapping[object, object]:
    if isinstance(value, Mapping):
        return {} if "param_groups" in value else value
    if isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value[:_DEEPEST]):
        return {str(place): inner for place, inner in enumerate(value[:_DEEPEST])}
    return {}


def _modules(value: object) -> tuple[str, ...]:
    metadata = getattr(value, "_metadata", None)
    return tuple(key for key in metadata if isinstance(key, str) and key) if isinstance(metadata, Mapping) else ()


def _nested(found: list[Candidate]) -> list[Candidate]:
    """Join what is one state dict with a dict for each layer: `{"conv1": {"weight": ...}, "bn1": {...}}`."""
    layers = [
        candidate
        for candidate in found
        if candidate.keys and set(candidate.leaves) <= _LAYER and candidate.keys[-1].lower() not in _KNOWN
        and not _AVERAGES & set(words(candidate.keys[-1]))
    ]  # fmt: skip
    if len(layers) < _FEWEST_TENSORS or 2 * len(layers) < len(found):
        return found
    start = _common([candidate.keys for candidate in layers])
    inside = [candidate for candidate in found if candidate.keys[: len(start)] == start]
    leaves = {
        ".".join((*candidate.keys[len(start) :], name)): leaf
        for candidate in inside
        for name, leaf in candidate.leaves.items()
    }
    joined = Candidate(start, leaves)
    return [joined, *(candidate for candidate in found if candidate not in inside)]


def _common(paths: list[Keys]) -> Keys:
    """The keys that lead to all of them."""
    first, last = min(paths)[:-1], max(paths)[:-1]
    return first[: _same(first, last)]


def _same(first: Sequence[str], last: Sequence[str]) -> int:
    """How many items agree from the start on: of the first and last in order, and so of all between."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


def _covered(candidate: Candidate, found: list[Candidate]) -> bool:
    """Of two mappings, one within the other, only the larger one is a state dict."""
    for other in found:
        shorter, longer = sorted((candidate.keys, other.keys), key=len)
        if other is candidate or longer[: len(shorter)] != shorter:
            continue
        if other.size > candidate.size or (other.size == candidate.size and len(other.keys) < len(candidate.keys)):
            return True
    return False


def _split(candidate: Candidate) -> list[Candidate]:
    """Two networks in one flat state dict, of which one follows the other: `student.` and `teacher.`."""
    groups: dict[str, list[str]] = {}
    start = _shared_start(list(candidate.leaves))
    for name in candidate.leaves:
        groups.setdefault(name[len(start) :].partition(".")[0], []).append(name)
    for follower, names in groups.items():
        leader = next((word for word in _leaders(follower) if word in groups), None)
        if leader and _alike(groups[leader], names, start + leader, start + follower):
            rest = tuple(name for name in candidate.leaves if name not in {*groups[leader], *names})
            pieces = [_piece(candidate, groups[word], start + word, rest) for word in (follower, leader)]
            # Contrastive methods are used by their trained encoder, not by the one that follows it.
            return pieces[::-1] if "teacher" not in follower and "ema" not in words(follower) else pieces
    return [candidate]


def _leaders(follower: str) -> list[str]:
    """Words for the trained network, given the word for the one that follows it."""
    swaps = [("teacher", "student"), ("target", "online"), ("encoder_k", "encoder_q"), ("momentum", "base")]
    found = [follower.replace(old, new) for old, new in swaps if old in follower]
    found += [plain for mark in ("_ema", "ema_", "momentum_", "_momentum") if (plain := follower.replace(mark, ""))]
    found += ["model", "module", "net", "network"] if {"ema", "momentum"} & set(words(follower)) else []
    return [word for word in found if word != follower]


def _alike(leader: list[str], follower: list[str], first: str, second: str) -> bool:
    ours = {name[len(first) :] for name in leader}
    theirs = {name[len(second) :] for name in follower}
    return len(ours) >= _FEWEST_TENSORS and len(ours & theirs) >= _ALIKE * len(theirs)


def _piece(candidate: Candidate, names: list[str], start: str, rest: tuple[str, ...]) -> Candidate:
    modules = tuple(name for name in candidate.modules if name == start or name.startswith(start + "."))
    keys = (*candidate.keys, *start.split("."))
    return Candidate(keys, {name: candidate.leaves[name] for name in names}, rest, modules)


def _shared_start(names: list[str]) -> str:
    """The prefix, up to its last dot, that all names share."""
    first, last = min(names), max(names)
    shared = first[: _same(first, last)]
    return shared[: shared.rfind(".") + 1]


def _rank(candidate: Candidate, largest: int) -> tuple[bool, int, int]:
    last = [key.lower() for key in candidate.keys]
    average = bool(_AVERAGES & set(words(candidate.name))) and candidate.size >= _EMA_SHARE * largest
    known = min((_KNOWN.index(key) for key in last if key in _KNOWN), default=len(_KNOWN))
    return not average, known, -candidate.size
