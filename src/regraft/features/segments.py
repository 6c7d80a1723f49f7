"""Segments: the files that the stores of features and of pixels consist of, read without trust in their being whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

KEY_BYTES = 32


@dataclass(frozen=True)
class Segment:
    """One file of rows, mapped and not read.

    Attributes:
        path: the file.
        keys: (n, 32) uint8, binary SHA-256.
        features: (n, D) float32, mapped from disk.
        notes: what the decoder said of an image, by hex key.
    """

    path: Path
    keys: NDArray[np.uint8]
    features: NDArray[np.float32]
    notes: dict[str, list[str]]


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and the position where its data begin.

    Raises:
        ValueError: it is no such file, or not a whole one.
        KeyError, TypeError: its header is not what such files have.
        OSError: it cannot be read.
    """
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(min(length, path.stat().st_size)))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    if path.stat().st_size != 8 + length + end:
        raise ValueError(f"{path} is not whole")
    return header, 8 + length


def open_segment(path: Path) -> Segment | None:
    """Map a segment, or None where the file is damaged or was removed meanwhile by `compact`."""
    try:
        header, start = read_header(path)
        (k0, _), (f0, f1) = header["keys"]["data_offsets"], header["features"]["data_offsets"]
        n, d = header["features"]["shape"]
        keys = np.fromfile(path, np.uint8, n * KEY_BYTES, offset=start + k0).reshape(n, KEY_BYTES)
        features = np.memmap(path, np.float32, "r", start + f0, (n, d))
        if f1 - f0 != n * d * 4:
            return None
        return Segment(path, keys, features, json.loads(header["__metadata__"]["notes"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError):
        return None
