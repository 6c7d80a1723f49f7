"""A checkpoint in several files: `*.index.json`, whose `weight_map` says which tensor stands in which file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from regraft.checkpoints.containers.values import Content, tensor
from regraft.checkpoints.leaves import is_leaf
from regraft.checkpoints.shown import shown, some
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

_LARGEST = 64_000_000
_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz", ".pkl", ".pickle", ".tar", ".th"}


def in_folder(folder: Path) -> Path:
    """The one index or weights file in a folder.

    Raises:
        CheckpointError: there is none, or several.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    indices = [path for path in files if path.name.endswith(".index.json")]
    found = indices or [path for path in files if path.suffix.lower() in _SUFFIXES]
    if len(found) == 1:
        return found[0]
    there = some([path.name for path in found]) if found else "none"
    raise CheckpointError(
        f"{folder} is a folder and cannot be read as a checkpoint: expected exactly one weights file in it, found"
        f" {there}. Name the file itself."
    )


def read(path: Path, read_one: Callable[[Path], Content]) -> Content:
    """Read all files that an index names.

    Args:
        path: the index.
        read_one: reads one weights file that is no index.

    Raises:
        CheckpointError: it is no index, names files outside of its folder, or tensors that are not there.
    """
    places = _places(path)
    files = {name: _inside(path, name) for name in sorted(set(places.values()))}
    contents = {name: read_one(file) for name, file in files.items()}
    merged: dict[str, Tensor] = {}
    for name, file in places.items():
        value = contents[file].value
        leaf = value.get(name) if isinstance(value, dict) else None
        if not is_leaf(leaf):
            raise CheckpointError(
                f"{path}: {shown(name)} should be in {shown(file)}, but is not. Fetch all of it again."
            )
        merged[name] = tensor(leaf)
    kind = next(iter(contents.values())).container
    return Content(f"{kind} in {len(files)} file{'s' * (len(files) > 1)}", merged)


def files(path: Path) -> list[Path]:
    """An index and all files that it names: what must be the same for its tensors to be the same.

    Raises:
        CheckpointError: as `read`.
    """
    return [path, *(_inside(path, name) for name in sorted(set(_places(path).values())))]


def _places(path: Path) -> dict[str, str]:
    """Name of tensor -> name of file, from the index."""
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{path} is too large for an index of weights files.")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a weights file: it starts like JSON but is none.") from error
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointError(
            f"{path} is not a weights file: it is JSON, but no index with a `weight_map` of names to files."
        )
    return places


def _inside(path: Path, name: str) -> Path:
    """A file of the index's folder.

    In the download cache of the Hugging Face hub, index and files are links into one other folder: files that
    stand beside the index itself are inside, too.
    """
    folder = path.parent.resolve()
    plain = bool(name) and name.isprintable() and not any(sign in name for sign in "/\\:") and name not in {".", ".."}
    file = (path.parent / name).resolve() if plain else None
    if file is None or not (file.is_relative_to(folder) or file.parent == path.resolve().parent):
        raise CheckpointError(f"{path} points outside of its folder, to {shown(name)}. Such an index is not read.")
    if not file.is_file():
        raise CheckpointError(f"{path} names {shown(name)}, which is not beside it. Fetch all files of the checkpoint.")
    return path.parent / name
