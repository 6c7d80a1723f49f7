"""safetensors: a header of names, types and places, then the numbers. Nothing in it can be code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.checkpoints.containers.mapped import mappable
from regraft.checkpoints.containers.values import Content
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

_LENGTH = 8
_LONGEST_HEADER = 100_000_000  # the format's own limit


def looks_like_it(start: bytes, size: int) -> bool:
    """Eight bytes of header length, then a JSON object; a truncated file still looks like one."""
    length = int.from_bytes(start[:_LENGTH], "little")
    return start[_LENGTH : _LENGTH + 1] == b"{" and 2 <= length < max(size, _LONGEST_HEADER)  # noqa: PLR2004 ("{}")


def read(path: Path) -> Content:
    """Read it, its tensors mapped from the disk.

    Raises:
        CheckpointError: the header does not agree with the file.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load, load_file

    try:
        if not mappable(path):
            return Content("safetensors", load(path.read_bytes()))
        with safe_open(path, "pt") as handle:
            metadata = handle.metadata() or {}
        return Content("safetensors", load_file(path), metadata=dict(metadata))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} looks like safetensors but cannot be read: {str(error)[:200]!r}. It may be truncated; fetch it"
            " again."
        ) from error
