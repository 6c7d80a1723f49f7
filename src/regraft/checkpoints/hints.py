"""What a file says about itself beside its tensors: names of architectures, and a few words on the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from regraft.checkpoints.containers.values import LazyTensor, Name, Record
from regraft.checkpoints.leaves import is_leaf, shape
from regraft.checkpoints.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = {
    "arch", "architecture", "arch_name", "model", "model_name", "model_type", "model_arch", "backbone", "backbone_name",
    "encoder", "encoder_name", "net", "network", "timm_model", "name", "arch_type", "base_model",
}  # fmt: skip
_SETTINGS = {
    "args", "hparams", "hyper_parameters", "hyperparameters", "config", "cfg", "conf", "opt", "options", "params",
    "model_args", "model_config", "model_kwargs", "model", "backbone", "encoder", "network", "net", "meta", "settings",
}  # fmt: skip
_LOOKS_LIKE_A_NAME = re.compile(r"[A-Za-z][\w.\-/:@+ ]{1,99}")
_DEEPEST = 4
_MOST = 50
_LONGEST_NUMBER = 10**18


def hints(content: object) -> tuple[str, ...]:
    """Texts that stand where files name their architecture (`arch`, `args.model`), without repeats.

    Args:
        content: what a container held; it may refer to itself.
    """
    return tuple(dict.fromkeys(_named(content, 0, set())))


def _named(value: object, depth: int, seen: set[int]) -> Iterator[str]:
    entries = _attributes(value)
    if id(value) in seen or depth > _DEEPEST or (depth and len(entries) > 10 * _MOST):
        return
    seen.add(id(value))
    for key, inner in entries.items():
        if not isinstance(key, str):
            continue
        word = key.lower()
        # "name" says what only inside of something else ("model": {"name": "resnet50"}).
        if word in _NAMES and isinstance(inner, str) and (depth or word != "name"):
            if _LOOKS_LIKE_A_NAME.fullmatch(inner):
                yield inner
        elif word in _SETTINGS:
            yield from _named(inner, depth + 1, seen)


def _attributes(value: object) -> Mapping[object, object]:
    """Entries of a mapping, attributes of an object that is a bag of settings."""
    if isinstance(value, Record):
        value = value.state
    elif type(value).__name__ in {"Namespace", "SimpleNamespace"}:
        value = vars(value)
    return value if isinstance(value, Mapping) else {}


def extras(content: object, taken: set[str]) -> dict[str, str]:
    """Key -> a few words, for everything on the file's first level that no part holds.

    Args:
        content: what a container held.
        taken: first-level keys that lead to a part or are one of its tensors.
    """
    if not isinstance(content, Mapping):
        return {}
    rest = [(key, value) for key, value in content.items() if key not in taken]
    return {shown(key): described(value) for key, value in rest[:_MOST]}


def described(value: object) -> str:
    """A few words on one value."""
    if is_leaf(value):
        kind = value.kind if isinstance(value, LazyTensor) and value.kind != "dense" else ""
        return f"{kind} tensor".strip() if kind else f"tensor of shape {shape(value)}"
    if value is None or isinstance(value, bool | int | float | str | Name):
        return _plain(value)
    if isinstance(value, Mapping):
        return f"dict with {_count(len(value))}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"{type(value).__name__} with {_count(len(value))}"
    attributes = _attributes(value)
    kind = value.kind if isinstance(value, Record) else type(value).__name__
    return f"{shown(kind)} with {_count(len(attributes))}" if attributes else shown(kind)


def _plain(value: object) -> str:
    if isinstance(value, int) and abs(value) > _LONGEST_NUMBER:
        return "a long number"
    return shown(value.full if isinstance(value, Name) else str(value))


def _count(number: int) -> str:
    return f"{number} entr{'y' if number == 1 else 'ies'}"
