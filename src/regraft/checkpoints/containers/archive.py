"""A zip archive as torch and numpy write it: its entries checked against the file before one is read."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regraft.checkpoints.containers.mapped import Mapped, mapped, of_bytes, piece
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_INFLATION = 50  # trained weights shrink by a tenth, pruned ones tenfold
_SMALL = 16_000_000
_MOST_ENTRIES = 200_000


@dataclass(frozen=True)
class Entry:
    """One file of an archive: where its bytes start, how many there are, and how many once inflated."""

    name: str
    start: int
    stored: int
    size: int
    deflated: bool


@dataclass(frozen=True, eq=False)
class Archive:
    """A zip archive, checked: entries lie within the file, do not overlap, and do not inflate beyond reason."""

    source: Mapped
    entries: dict[str, Entry]

    def bytes(self, name: str) -> bytes:
        """Bytes of an entry.

        Raises:
            ValueError: the entry is missing or broken.
        """
        entry = self._entry(name)
        raw = self.source.view[entry.start : entry.start + entry.stored]
        return _inflated(entry, raw) if entry.deflated else bytes(raw)

    def storage(self, name: str) -> torch.UntypedStorage:
        """Bytes of an entry for tensors; mapped, not copied, unless they are deflated."""
        entry = self._entry(name)
        if entry.deflated:
            return of_bytes(self.source.path, self.bytes(name)).storage
        return piece(self.source, entry.start, entry.size)

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise ValueError(f"no entry {name!r} in the archive")
        return self.entries[name]


def opened(path: Path) -> Archive:
    """List and check an archive.

    Raises:
        CheckpointError: its entries would inflate, overlap, repeat, or are encrypted or packed in another way.
        zipfile.BadZipFile: it is not a zip archive, or cut short. Broken ones raise other errors, too.
    """
    with path.open("rb") as handle, zipfile.ZipFile(handle) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    names = {info.filename for info in infos}
    if len(names) != len(infos) or len(infos) > _MOST_ENTRIES:
        raise CheckpointError(f"{path} is a zip archive with repeated or far too many entries. Export it again.")
    source = mapped(path)
    size = sum(info.file_size for info in infos)
    if size > _SMALL + _INFLATION * len(source) or sum(info.compress_size for info in infos) > len(source):
        raise CheckpointError(
            f"{path} is a zip archive of {len(source)} bytes that would inflate to {size}. Such a file is broken or"
            " meant to fill memory; it is not read. Export it again without compression."
        )
    return Archive(source, {info.filename: _entry(path, source, info) for info in infos})


def _entry(path: Path, source: Mapped, info: zipfile.ZipInfo) -> Entry:
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    encrypted = bool(info.flag_bits & 1)
    if encrypted or (not deflated and info.compress_type != zipfile.ZIP_STORED):
        raise CheckpointError(f"{path} is a zip archive that is encrypted or packed in a way that torch never uses.")
    header = source.view[info.header_offset : info.header_offset + _LOCAL_HEADER.size]
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if signature != b"PK\x03\x04" or start + info.compress_size > len(source):
        raise ValueError(f"the entry {info.filename!r} does not lie within the file")
    if not deflated and info.file_size != info.compress_size:
        raise ValueError(f"the entry {info.filename!r} has two different sizes")
    return Entry(info.filename, start, info.compress_size, info.file_size, deflated)


def _inflated(entry: Entry, raw: memoryview) -> bytes:
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, entry.size + 1)
    if len(data) != entry.size:
        raise ValueError(f"the entry {entry.name!r} does not inflate to its {entry.size} bytes")
    return data
