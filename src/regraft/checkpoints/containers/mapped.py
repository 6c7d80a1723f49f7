"""A file's bytes, mapped from the disk where that is possible, so that only what is used gets read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import torch


_ALIGNED = 8


@dataclass(frozen=True, eq=False)
class Mapped:
    """The bytes of a whole file; changes to them never reach the disk.

    Attributes:
        path: the file.
        storage: the bytes, for tensors.
        view: the same bytes, for parsing.
    """

    path: Path
    storage: torch.UntypedStorage
    view: memoryview

    def __len__(self) -> int:
        return len(self.view)


def mapped(path: Path) -> Mapped:
    """Map a file that is not empty; a file whose name is not UTF-8 is read, since torch cannot map it."""
    import torch

    if mappable(path):
        storage = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=path.stat().st_size)
    else:
        return of_bytes(path, path.read_bytes())
    return _of_storage(path, storage)  # type: ignore[arg-type]


def of_bytes(path: Path, data: bytes) -> Mapped:
    """Bytes that stood inside a file, as if they were one."""
    import torch

    return _of_storage(path, torch.frombuffer(bytearray(data), dtype=torch.uint8).untyped_storage())


def _of_storage(path: Path, storage: torch.UntypedStorage) -> Mapped:
    """Wrap bytes that are there."""
    import torch

    whole = torch.empty(0, dtype=torch.uint8).set_(storage)
    return Mapped(path, storage, whole.numpy().data)


def mappable(path: Path) -> bool:
    """Torch and safetensors map a file by its name as UTF-8, which a name on Linux need not be."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def piece(source: Mapped, start: int, size: int) -> torch.UntypedStorage:
    """A part of the file: without a copy where numbers of any type are aligned.

    Raises:
        ValueError: it does not lie within the file.
    """
    if start < 0 or size < 0 or start + size > len(source):
        raise ValueError(f"bytes {start} to {start + size} of a file of {len(source)}")
    part = source.storage[start : start + size]
    if start % _ALIGNED:
        return part.clone()  # type: ignore[no-any-return]
    return part  # type: ignore[no-any-return]
