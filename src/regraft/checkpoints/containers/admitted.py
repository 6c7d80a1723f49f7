"""The names that a weights file may use, and what each becomes here.

None of these is the class or function that the file means: each is a function of this file that takes the
arguments and gives a plain value. They are harmless one by one:

- torch's rebuild functions become `LazyTensor`s: five numbers that are checked before anything is read.
- numpy arrays and scalars: bytes seen as numbers or text of fixed size; arrays of objects are refused, since their
  elements would be pickles again.
- `collections`: plain dicts and lists. A defaultdict's factory is dropped, so that it is never called.
- `argparse.Namespace`, `types.SimpleNamespace`: a `Record`, attribute -> value.
- `pathlib`: the path as text, which loads on every system and touches no file.
- `torch.Size`, `torch.device`, dtypes, sets, bytes, complex numbers: values without behaviour.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from regraft.checkpoints.containers.values import Array, LazyTensor, Name, Record, Stored

if TYPE_CHECKING:
    import numpy as np
    import torch

    from regraft.checkpoints.containers.inert import Maker

_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32",
    "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4",
}  # fmt: skip
_DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
    "uint64", "bool", "complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "qint8", "quint8", "qint32", "quint4x2", "quint2x4",
)  # fmt: skip
_SCHEMES = ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
            "per_channel_affine_float_qparams")  # fmt: skip
_FACTORIES = ("list", "dict", "int", "float", "str", "bool", "tuple")
_PLAIN_DTYPE = re.compile(r"[?biufc]\d{0,2}|[SU]\d{1,6}")
_OTHER_TENSORS = {
    "_rebuild_qtensor": "quantized",
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_meta_tensor_no_storage": "meta",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_wrapper_subclass": "wrapped",
}


@lru_cache
def dtypes() -> dict[str, torch.dtype]:
    """Full names of torch's dtypes and storage classes -> dtype."""
    import torch

    found = {f"torch.{name}": getattr(torch, name) for name in _DTYPES if hasattr(torch, name)}
    for name, dtype in _STORAGES.items():
        for module in ("torch", "torch.cuda"):
            found[f"{module}.{name}Storage"] = getattr(torch, dtype)
    return found | {"torch.storage.UntypedStorage": torch.uint8}


@lru_cache
def makers() -> dict[str, Maker]:
    """Every admitted name -> the function for it; None for what may be named but not called."""
    table: dict[str, Maker] = dict.fromkeys(dtypes())
    table |= {f"torch.{name}": None for name in _SCHEMES}
    table |= {f"builtins.{name}": None for name in _FACTORIES}
    table |= {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor_v2,
        "torch._utils._rebuild_tensor_v3": _tensor_v3,
        "torch._utils._rebuild_parameter": _first,
        "torch._utils._rebuild_parameter_with_state": _first,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
        "torch._utils._rebuild_device_tensor_from_numpy": _first,
        "torch._tensor._rebuild_from_type_v2": _of_type,
        "torch.nn.parameter.Parameter": _first,
        "torch.Tensor": None,
        "torch.Size": tuple,
        "torch.device": _device,
        "torch.serialization._get_layout": _first,
        "collections.OrderedDict": _ordered,
        "collections.defaultdict": _default,
        "collections.Counter": _ordered,
        "collections.deque": _deque,
        "argparse.Namespace": lambda: Record("argparse.Namespace", {}),
        "types.SimpleNamespace": lambda: Record("types.SimpleNamespace", {}),
        "_codecs.encode": _encoded,
        "builtins.set": _set,
        "builtins.frozenset": _set,
        "builtins.bytearray": _bytes,
        "builtins.bytes": _bytes,
        "builtins.complex": _complex,
        "numpy.dtype": Dtype,
        "numpy.ndarray": None,
    }
    for name, kind in _OTHER_TENSORS.items():
        table[f"torch._utils.{name}"] = _other(kind)
    for module in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
        table[f"{module}.multiarray.scalar"] = _scalar
        table[f"{module}.multiarray._reconstruct"] = _reconstructed
        table[f"{module}.numeric._frombuffer"] = _from_buffer
    for module in ("pathlib", "pathlib._local"):  # the second since Python 3.13
        for name in ("Path", "PurePath", "PosixPath", "PurePosixPath"):
            table[f"{module}.{name}"] = _posix
        for name in ("WindowsPath", "PureWindowsPath"):
            table[f"{module}.{name}"] = _windows
    return table


def _tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> LazyTensor:
    if not isinstance(storage, Stored):
        raise ValueError(f"a tensor whose numbers are a {type(storage).__name__}")  # noqa: TRY004 (the file's fault)
    start, *_rest = _integers((offset,))
    return LazyTensor(storage, storage.dtype, start, _integers(shape), _integers(stride))


def _tensor_v2(
    storage: object, offset: object, shape: object, stride: object, _grad: object, _hooks: object, bits: object = None
) -> LazyTensor:
    if bits:
        return LazyTensor(None, kind="conjugated or negated")
    return _tensor(storage, offset, shape, stride)


def _tensor_v3(
    storage: object, offset: object, shape: object, stride: object, _grad: object, _hooks: object, dtype: object,
    bits: object = None,
) -> LazyTensor:  # fmt: skip
    plain = _tensor_v2(storage, offset, shape, stride, None, None, bits)
    if not isinstance(dtype, Name) or dtype.full not in dtypes():
        raise ValueError(f"a tensor of type {dtype}")
    return LazyTensor(plain.storage, dtypes()[dtype.full], plain.offset, plain.shape, plain.stride, plain.kind)


def _integers(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not all(type(value) is int for value in values):
        raise ValueError("a tensor whose sizes are no whole numbers")
    return tuple(values)


def _of_type(rebuild: object, _kind: object, arguments: object, _state: object = None) -> object:
    """A tensor subclass: read as the plain tensor that it extends."""
    maker = makers().get(rebuild.full) if isinstance(rebuild, Name) else None
    if maker is None or not isinstance(arguments, tuple) or not str(rebuild.full).startswith("torch._utils."):  # type: ignore[attr-defined]
        raise ValueError("a tensor subclass of an unknown kind")
    return maker(*arguments)


def _other(kind: str) -> Maker:
    return lambda *_: LazyTensor(None, kind=kind)


def _first(value: object, *_: object) -> object:
    return value


def _device(*arguments: object) -> str:
    return ":".join(str(argument)[:20] for argument in arguments)


def _ordered(pairs: object = ()) -> OrderedDict[object, object]:
    made: OrderedDict[object, object] = OrderedDict()
    if isinstance(pairs, dict):
        made.update(pairs)
    elif isinstance(pairs, list | tuple):
        for pair in pairs:
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str | int):  # noqa: PLR2004
                raise ValueError("a dict of what is no pair")
            made[pair[0]] = pair[1]
    return made


def _default(_factory: object = None, pairs: object = ()) -> dict[object, object]:
    return dict(_ordered(pairs))


def _deque(items: object = (), _longest: object = None) -> list[object]:
    return list(items) if isinstance(items, list | tuple) else []


def _set(items: object = ()) -> frozenset[object] | set[object]:
    """Only plain elements; see `inert._keys`."""
    if not isinstance(items, list | tuple) or not all(isinstance(item, str | int | float) for item in items):
        raise ValueError("a set of what is not plain")
    return set(items)


def _encoded(text: object, encoding: object = "utf-8") -> bytes:
    if not isinstance(text, str) or encoding not in {"latin1", "latin-1", "utf-8", "ascii"}:
        raise ValueError("bytes in an unknown encoding")
    return text.encode(str(encoding))


def _bytes(value: object = b"", encoding: object = "latin1") -> bytes:
    """Never of a number, which would ask for so many bytes."""
    return value if isinstance(value, bytes) else _encoded(value, encoding)


def _complex(real: object = 0, imaginary: object = 0) -> complex:
    if not isinstance(real, int | float) or not isinstance(imaginary, int | float):
        raise ValueError("a complex number of what is no number")  # noqa: TRY004
    return complex(real, imaginary)


def _posix(*parts: object) -> str:
    return str(PurePosixPath(*_texts(parts)))


def _windows(*parts: object) -> str:
    return str(PureWindowsPath(*_texts(parts)))


def _texts(parts: tuple[object, ...]) -> list[str]:
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a path of what is no text")
    return [str(part) for part in parts]


class Dtype:
    """A numpy dtype: only of numbers, truth values and text of fixed length."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise ValueError(f"numpy values of type {str(code)[:20]!r}; only numbers and text are read")
        self.code = code
        self.order = "="

    def fill(self, state: object) -> None:
        """Take over the byte order, the second entry of numpy's state."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in {"<", ">", "|", "="}:
            self.order = str(state[1])

    def numpy(self) -> np.dtype:
        """The real dtype, made from the checked code."""
        import numpy as np

        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<" if self.order == "<" else "=")


class _Reconstructed(Array):
    """`numpy._reconstruct` gives an empty array; its shape, type and bytes come as its state."""

    def fill(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:  # noqa: PLR2004 (numpy's format)
            raise ValueError("a numpy array in an unknown form")
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _reconstructed(*_: object) -> Array:
    return _Reconstructed()


def _from_buffer(data: object, dtype: object, shape: object, order: object = "C") -> Array:
    return Array(_array(data, dtype, shape, "F" if order == "F" else "C"))


def _scalar(dtype: object, data: object) -> object:
    return _array(data, dtype, (), "C").item()


def _array(data: object, dtype: object, shape: object, order: str) -> np.ndarray:
    import numpy as np

    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, Dtype):
        raise ValueError("a numpy array of objects; only numbers and text are read")  # noqa: TRY004
    real, sizes = dtype.numpy(), _integers(shape)
    if min((0, *sizes)) < 0 or math.prod(sizes) * real.itemsize != len(raw):
        raise ValueError(f"a numpy array of shape {sizes} with {len(raw)} bytes")
    values = np.frombuffer(bytearray(raw), real)
    native = values.astype(real.newbyteorder("=")) if not real.isnative else values
    return native.reshape(sizes, order="F" if order == "F" else "C")
