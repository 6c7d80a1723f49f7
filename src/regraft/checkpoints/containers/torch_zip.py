"""torch's zipped files: what `torch.save` writes since torch 1.6, and TorchScript.

Both are archives with one folder: `data.pkl` describes the objects and names the numbers, which stand in one
entry of `data/` per storage. A TorchScript archive has `constants.pkl` and `code/` beside them; the code is never
read, the modules are taken as what they are in `data.pkl`, attributes with tensors.
(Format: torch/serialization.py and caffe2/serialize in the PyTorch sources.)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regraft.checkpoints.containers.admitted import dtypes, makers
from regraft.checkpoints.containers.foreign import refuse
from regraft.checkpoints.containers.inert import Machine, Reader
from regraft.checkpoints.containers.values import Content, LazyTensor, Name, Record, Stored
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from regraft.checkpoints.containers.archive import Archive
    from regraft.checkpoints.containers.inert import Maker

_DESCRIPTION = "data.pkl"
_CLASSES = "__torch__."
_MANGLED = re.compile(r"___torch_mangle_\d+\.")
_MOST_NAMES = 100_000
_DEEPEST = 60


def root(archive: Archive) -> str | None:
    """The archive's folder with its final slash; None if torch did not write it."""
    found = [name for name in archive.entries if name.count("/") == 1 and name.endswith("/" + _DESCRIPTION)]
    return found[0].removesuffix(_DESCRIPTION) if len(found) == 1 else None


def read(archive: Archive, folder: str) -> Content:
    """Read an archive that torch wrote.

    Raises:
        NeedsTrust: it asks for foreign classes.
        CheckpointError: it is TorchScript without names, or of a big-endian machine.
        ValueError: it is broken. Other errors come from broken ones too.
    """
    path = archive.source.path
    order = f"{folder}byteorder"
    if order in archive.entries and archive.bytes(order) != b"little":
        raise CheckpointError(f"{path} was written on a big-endian machine. Save it again on another one.")
    if f"{folder}constants.pkl" in archive.entries:
        return _script(archive, folder)
    return Content("torch zip", _value(archive, folder, _DESCRIPTION, "data", makers(), ""))


def _value(archive: Archive, folder: str, name: str, numbers: str, table: dict[str, Maker], inert: str) -> object:
    storages: dict[str, torch.UntypedStorage] = {}

    def reader(key: str) -> Callable[[], torch.UntypedStorage]:
        def read_it() -> torch.UntypedStorage:
            if key not in storages:
                storages[key] = archive.storage(f"{folder}{numbers}/{key}")
            return storages[key]

        return read_it

    def stored(identity: object) -> Stored:
        dtype, key, size = _identity(identity)
        entry = archive.entries.get(f"{folder}{numbers}/{key}")
        if entry is None or size * dtype.itemsize > entry.size:
            raise ValueError(f"the numbers {key[:40]!r} are missing or cut short")
        return Stored(dtype, 0, size, reader(key))

    machine = Machine(table, stored, inert)
    data = archive.bytes(folder + name)
    with refuse(archive.source.path, machine):
        return machine.run(Reader(memoryview(data)))


def _identity(identity: object) -> tuple[torch.dtype, str, int]:
    """dtype, key and number of elements of `("storage", class, key, device, elements)`."""
    if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":  # noqa: PLR2004 (torch's format)
        raise ValueError("numbers that are named in an unknown way")
    _, kind, key, _device, size = identity
    dtype = dtypes().get(kind.full) if isinstance(kind, Name) else None
    if dtype is None or not isinstance(key, str) or type(size) is not int or size < 0:
        raise ValueError("numbers of an unknown type or size")
    return dtype, key, size


def _script(archive: Archive, folder: str) -> Content:
    table = makers() | dict.fromkeys(
        (f"torch.jit._pickle.{name}" for name in ("build_intlist", "build_doublelist", "build_boollist",
                                                  "build_tensorlist", "restore_type_tag")),
        lambda value, *_: value,
    )  # fmt: skip
    # The constants are read only to see what they ask for: their tensors have no names.
    _value(archive, folder, "constants.pkl", "constants", table, _CLASSES)
    value = _value(archive, folder, _DESCRIPTION, "data", table, _CLASSES)
    tensors: dict[str, object] = {}
    modules: list[str] = []
    _collect(value, "", tensors, modules, 0)
    if not tensors:
        raise CheckpointError(
            f"{archive.source.path} is TorchScript without named tensors (frozen: its weights have become constants"
            " of its code). Export the network's state dict before freezing."
        )
    hint = _MANGLED.sub("", value.kind.removeprefix(_CLASSES)) if isinstance(value, Record) else ""
    return Content("TorchScript", tensors, hints=(hint,) if hint else (), modules=tuple(modules))


def _collect(value: object, prefix: str, tensors: dict[str, object], modules: list[str], depth: int) -> None:
    """Tensors of a scripted module by the path of attributes that leads to them, as in its state dict."""
    if depth > _DEEPEST or len(modules) > _MOST_NAMES or len(tensors) > _MOST_NAMES:
        raise ValueError("modules in modules without an end")
    attributes = value.state if isinstance(value, Record) and isinstance(value.state, dict) else {}
    for key, inner in attributes.items():
        if isinstance(inner, LazyTensor):
            tensors[f"{prefix}{key}"] = inner
    for key, inner in attributes.items():
        if isinstance(inner, Record):
            modules.append(f"{prefix}{key}")
            _collect(inner, f"{prefix}{key}.", tensors, modules, depth + 1)
