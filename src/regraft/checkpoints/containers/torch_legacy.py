"""torch's files before 1.6, and plain pickles of tensors or numpy arrays.

A file in the older form is five pickles one after another (a magic number, the version, the machine's sizes, the
objects, the keys of their numbers), then the numbers: for each key eight bytes of count and the elements.
A plain pickle that holds tensors has such a file inside it, as bytes, for each of them.
(Format: `_legacy_save` in torch/serialization.py.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.checkpoints.containers.admitted import dtypes, makers
from regraft.checkpoints.containers.foreign import refuse
from regraft.checkpoints.containers.inert import Machine, Reader
from regraft.checkpoints.containers.mapped import Mapped, of_bytes, piece
from regraft.checkpoints.containers.values import Content, Name, Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from regraft.checkpoints.containers.inert import Maker

_MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_PICKLED = b"\x8a\x0a" + _MAGIC.to_bytes(10, "little") + b"."
_VERSION = 1001
_COUNT = 8
_NESTED = "torch.storage._load_from_bytes"


def is_tar(start: bytes) -> bool:
    """Torch 0.1 wrote tar files; `start` is the first 512 bytes."""
    return start[257:262] == b"ustar"


def is_torch(start: bytes) -> bool:
    """Whether the first pickle is torch's magic number."""
    return _MAGIC_PICKLED in start[:32]


def read(source: Mapped) -> Content:
    """Read a file that starts with a pickle.

    Raises:
        NeedsTrust: it asks for foreign classes.
        ValueError: it is broken. Other errors come from broken ones too.
    """
    if is_torch(bytes(source.view[:32])):
        return Content("torch legacy", _objects(source))
    table = makers() | {_NESTED: lambda data: _nested(source, data)}
    return Content("pickle", _run(source, Reader(source.view), table, _unknown))


def _run(source: Mapped, reader: Reader, table: dict[str, Maker], stored: Callable[[object], object]) -> object:
    machine = Machine(table, stored)
    with refuse(source.path, machine):
        return machine.run(reader)


def _unknown(_identity: object) -> object:
    raise ValueError("numbers outside of a plain pickle")


def _nested(source: Mapped, data: object) -> object:
    """Numbers of a plain pickle: a file of the older form that holds one storage."""
    if not isinstance(data, bytes | bytearray):
        raise ValueError("nested numbers that are no bytes")  # noqa: TRY004 (the file's fault, not a caller's)
    return _objects(of_bytes(source.path, bytes(data)))


def _objects(source: Mapped) -> object:
    reader = Reader(source.view)
    places: dict[str, tuple[int, int]] = {}
    sizes: dict[str, tuple[int, int]] = {}

    def stored(identity: object) -> object:
        if isinstance(identity, tuple) and len(identity) > 1 and identity[0] == "module":
            return identity[1]  # a class beside its source text, in whole pickled networks
        kind, key, size, view = _identity(identity)
        start, length = view or (0, size)
        if sizes.setdefault(key, (size, kind.itemsize)) != (size, kind.itemsize) or start + length > size:
            raise ValueError(f"the numbers {key[:40]!r} have two sizes")
        return Stored(kind, start, length, lambda: piece(source, *places[key]).clone())  # type: ignore[no-untyped-call]

    magic, version, _machine = (_run(source, reader, makers(), _unknown) for _ in range(3))
    if magic != _MAGIC or version != _VERSION:
        raise ValueError(f"version {str(version)[:20]} of torch's format")
    value = _run(source, reader, makers(), stored)
    keys = _run(source, reader, makers(), _unknown)
    if not isinstance(keys, list) or set(keys) != set(sizes) or len(keys) != len(sizes):
        raise ValueError("numbers that no tensor uses, or tensors without numbers")
    for key in keys:
        places[key] = _place(reader, *sizes[key])
    return value


def _place(reader: Reader, size: int, itemsize: int) -> tuple[int, int]:
    """Where the numbers start and how many bytes they take; the reader goes behind them."""
    count = int.from_bytes(reader.read(_COUNT), "little")
    start = reader.position
    if count != size or start + size * itemsize > len(reader.view):
        raise ValueError("the file ends before its numbers do")
    reader.position = start + size * itemsize
    return start, size * itemsize


def _identity(identity: object) -> tuple[torch.dtype, str, int, tuple[int, int] | None]:
    """dtype, key, elements, and (first, elements) where only a part of the numbers is meant."""
    if not isinstance(identity, tuple) or len(identity) != 6 or identity[0] != "storage":  # noqa: PLR2004 (torch's format)
        raise ValueError("numbers that are named in an unknown way")
    _, kind, key, _device, size, view = identity
    dtype = dtypes().get(kind.full) if isinstance(kind, Name) else None
    if dtype is None or not isinstance(key, str) or type(size) is not int or size < 0:
        raise ValueError("numbers of an unknown type or size")
    if view is None:
        return dtype, key, size, None
    _key, start, length = view
    if type(start) is not int or type(length) is not int or min(start, length) < 0:
        raise ValueError("a part of numbers that is none")
    return dtype, key, size, (start, length)
