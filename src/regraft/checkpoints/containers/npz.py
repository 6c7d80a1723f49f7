"""numpy's `.npz`: an archive of arrays, each with a header that says its type and shape. Never with pickles."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from regraft.checkpoints.containers.values import Content
from regraft.checkpoints.shown import shown
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from regraft.checkpoints.containers.archive import Archive

_END = ".npy"
_LONGEST_HEADER = 10_000


def is_npz(archive: Archive) -> bool:
    """Whether all entries are arrays."""
    return bool(archive.entries) and all(name.endswith(_END) for name in archive.entries)


def read(archive: Archive) -> Content:
    """Read all arrays of numbers; text is left as it is.

    Raises:
        CheckpointError: an array holds objects, which would be pickles.
        ValueError: an array is broken.
    """
    value = {name.removesuffix(_END): _array(archive, name) for name in archive.entries}
    return Content("npz", value)


def _array(archive: Archive, name: str) -> Tensor | str:
    import numpy as np
    import torch

    data = archive.bytes(name)
    start, dtype, shape, fortran = _header(data)
    if dtype.hasobject:
        raise CheckpointError(
            f"{archive.source.path}: the array {shown(name)} holds objects, which are pickles. Regraft never runs what"
            " is in a file; save it as an array of numbers."
        )
    if dtype.kind in "SU":
        return f"text of shape {shape}"
    # numpy has no bfloat16: the libraries that save it leave two bytes without a type.
    plain = np.dtype("<i2") if dtype == np.dtype("V2") else dtype
    if plain.kind not in "biufc" or math.prod(shape) * plain.itemsize != len(data) - start:
        raise ValueError(f"the array {shown(name)} of type {dtype} and shape {shape} has {len(data) - start} bytes")
    values = np.frombuffer(bytearray(data[start:]), plain).reshape(shape, order="F" if fortran else "C")
    tensor = torch.from_numpy(values.astype(plain.newbyteorder("=")) if not plain.isnative else values)
    return tensor.view(torch.bfloat16) if plain is not dtype else tensor


def _header(data: bytes) -> tuple[int, np.dtype, tuple[int, ...], bool]:
    from numpy.lib import format as npy

    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"version {version} of numpy's format")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(stream, max_header_size=_LONGEST_HEADER)
    return stream.tell(), dtype, tuple(int(size) for size in shape), bool(fortran)
