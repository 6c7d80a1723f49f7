"""Weights files to state dicts, safely: nothing that a file holds is ever run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_WRAPPERS = ("state_dict", "model")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file: safetensors, or torch's zipped or older format, told by content.

    A dict with one of the keys `state_dict` and `model` is unwrapped. Tensors of safetensors and zipped
    files are mapped from the disk, not copied, so the file must stay as it is while they are in use.

    Raises:
        CheckpointError: the file is missing, empty, truncated, of another kind, or needs code to be run.
    """
    start, size = _start(path)
    if size == 0:
        raise CheckpointError(f"{path} is empty. Expected a weights file; fetch or export it again.")
    if _looks_like_safetensors(start, size):
        return _tensors(path, _read_safetensors(path))
    if start.startswith((_ZIP, _PICKLE)):
        return _tensors(path, _unwrap(_read_torch(path, mapped=start.startswith(_ZIP))))
    raise CheckpointError(
        f"{path} is not a weights file: it starts with {start[:8]!r}. Expected safetensors or a file that"
        " torch.save wrote."
    )


def _start(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as handle:
            return handle.read(16), path.stat().st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read as a weights file: {reason}.") from error


def _looks_like_safetensors(start: bytes, size: int) -> bool:
    """Eight bytes of header length, then a JSON object; a truncated file still looks like one."""
    length = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and 2 <= length < max(size, 100_000_000)  # noqa: PLR2004 ("{}"; the format's own limit)


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        return load_file(path) if _mappable(path) else load(path.read_bytes())
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} looks like safetensors but cannot be read: {error}. It may be truncated; fetch it again."
        ) from error


def _read_torch(path: Path, *, mapped: bool) -> object:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own deprecations, not of the file
            if mapped and _mappable(path):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as handle:
                return torch.load(handle, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken or hostile file can make the reader raise anything
        lines = str(error).strip().splitlines()
        reason = lines[0][:200] if lines else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as weights only: {reason}. It may be truncated, a TorchScript archive, or"
            " hold more than tensors; Regraft never runs what is in a file. Save its state dict as safetensors"
            " on a machine where you trust it."
        ) from error


def _mappable(path: Path) -> bool:
    """Both libraries map a file by its name as UTF-8, which a name on Linux need not be."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unwrap(content: object) -> object:
    if not isinstance(content, Mapping):
        return content
    inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
    return inner[0] if len(inner) == 1 else content


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    import torch

    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not named tensors (a state dict).")
    if not content:
        raise CheckpointError(f"{path} holds no tensors.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path} is not a plain state dict: {name!r} is a {type(value).__name__}, expected a tensor."
                f" Its keys start with {', '.join(repr(key) for key in list(content)[:5])}."
            )
        if value.layout != torch.strided or value.device.type != "cpu":
            raise CheckpointError(f"{path}: {name} is a {value.layout} tensor on {value.device}, expected a dense one.")
    return dict(content)
