"""Weights files to state dicts, safely: nothing that a file holds is ever run.

The format is told by content, never by the file's name:

    safetensors, its index of several files      containers/safetensors_file.py, index.py
    torch's zip and TorchScript                  containers/torch_zip.py
    torch's older form, plain pickles            containers/torch_legacy.py
    numpy's archives                             containers/npz.py

What all pickles go through is `containers/inert.py`: stricter than `torch.load(weights_only=True)`, since it calls
nothing at all. There is no fall-back: a file that asks for more gives an error that lists what it asks for, and
only `trust` unpickles it in full (`containers/trusted.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.checkpoints.checkpoint import Checkpoint, Part
from regraft.checkpoints.containers import archive, index, npz, safetensors_file, torch_legacy, torch_zip, trusted
from regraft.checkpoints.containers.mapped import mapped
from regraft.checkpoints.containers.values import Content, NeedsTrust, tensor
from regraft.checkpoints.guards import check_names, check_sizes, non_finite
from regraft.checkpoints.hints import extras, hints
from regraft.checkpoints.leaves import is_leaf
from regraft.checkpoints.parts import Candidate, find
from regraft.checkpoints.shown import shown, some
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_ZIP = b"PK"
_PICKLE = b"\x80"
_POINTER = b"version https://git-lfs"
_START = 512


def read_checkpoint(path: str | os.PathLike[str], *, part: str | None = None, trust: bool = False) -> Checkpoint:
    """Read a weights file of any common form, without running anything that it holds.

    Tensors come as they were saved (bfloat16 stays bfloat16), detached, on the CPU. Those of safetensors and of
    torch's zipped files are mapped from the disk, not copied, so the file must stay as it is while they are in use.

    Args:
        path: the file; an index of several (`*.index.json`); or a folder with exactly one of either.
        part: which of several state dicts in the file; by default one averaged over training, if there is one.
        trust: unpickle a file that asks for foreign classes, which runs the code that it chooses.

    Raises:
        CheckpointError: the file is missing, empty, truncated, of another kind, or asks for foreign classes
            without `trust`; or it has no such part.
    """
    file = Path(path)
    try:
        content = _content(weights_file(file), trust=trust)
        return _checkpoint(file, content, part)
    except CheckpointError:
        raise
    except Exception as error:  # a broken or hostile file can make the reader raise anything
        lines = str(error).strip().splitlines()
        reason = shown(lines[0]) if lines else type(error).__name__
        raise CheckpointError(
            f"{file} cannot be read as weights only: {reason}. It may be truncated or broken; fetch or export it again."
        ) from error


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a weights file, by name; `read_checkpoint` says more.

    Raises:
        CheckpointError: as in `read_checkpoint`.
    """
    return read_checkpoint(path).state_dict


def weights_file(path: Path) -> Path:
    """The file itself, where a folder with exactly one weights file or index was named.

    Raises:
        CheckpointError: it cannot be read, or the folder has none or several.
    """
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise CheckpointError(f"{path} is not a regular file and cannot be read as a weights file. Copy it to one.")
        return index.in_folder(path) if path.is_dir() else path
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = getattr(error, "strerror", None) or error
    return CheckpointError(f"{path} cannot be read as a weights file: {reason}. Expected a file that is there.")


def _content(path: Path, *, trust: bool, inside: bool = False) -> Content:
    """Tell the container and read it; `inside` an index there is no other one."""
    try:
        with path.open("rb") as handle:
            start, size = handle.read(_START), os.fstat(handle.fileno()).st_size
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not start:
        raise CheckpointError(f"{path} is empty. Expected a weights file; fetch or export it again.")
    if safetensors_file.looks_like_it(start, size):
        return safetensors_file.read(path)
    if start.lstrip()[:1] == b"{" and not inside:
        return index.read(path, lambda file: _content(file, trust=trust, inside=True))
    if torch_legacy.is_tar(start):
        raise CheckpointError(
            f"{path} is a tar file, as torch 0.1 wrote them, or an archive of files. Unpack it, or load it with an old"
            " torch and save its state dict again."
        )
    torch_form = start.startswith(_ZIP) or torch_legacy.is_torch(start)
    try:
        if start.startswith(_ZIP):
            return _zipped(path)
        if start.startswith(_PICKLE):
            return torch_legacy.read(mapped(path))
    except NeedsTrust:
        if trust:
            return trusted.read(path, torch_form=torch_form)
        raise
    raise CheckpointError(f"{path} is not a weights file: {_guess(start)}.")


def _guess(start: bytes) -> str:
    if start.startswith(_POINTER):
        return "it is a pointer that git-lfs left; fetch the file itself with `git lfs pull`"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, most likely of a download that needs a login; fetch the file itself"
    return f"it starts with {start[:8]!r}; expected safetensors, an index of it, .npz or a file that torch.save wrote"


def _zipped(path: Path) -> Content:
    entries = archive.opened(path)
    folder = torch_zip.root(entries)
    if folder is not None:
        return torch_zip.read(entries, folder)
    if npz.is_npz(entries):
        return npz.read(entries)
    raise CheckpointError(
        f"{path} is a zip archive that neither torch nor numpy wrote: it holds {some(list(entries.entries), 3)}. If a"
        " weights file is inside, unpack it and name that."
    )


def _checkpoint(path: Path, content: Content, wanted: str | None) -> Checkpoint:
    found = find(content.value)
    if not found:
        raise _no_tensors(path, content.value)
    names = [shown(candidate.name) for candidate in found]
    parts = tuple(_part(path, name, candidate, content) for name, candidate in zip(names, found, strict=True))
    chosen = _chosen(path, parts, wanted)
    taken = {candidate.keys[0] for candidate in found if candidate.keys} | {
        word for candidate in found for name in candidate.leaves for word in (name, name.partition(".")[0])
    }
    said = content.hints + hints(content.value) + hints(content.metadata)
    return Checkpoint(
        path=path,
        container=content.container,
        parts=parts,
        part=chosen,
        extras=extras(content.value, taken),
        hints=tuple(dict.fromkeys(hint for hint in said if hint.isprintable())),
        notes=_notes(parts, chosen, found[parts.index(chosen)]),
        metadata=content.metadata,
    )


def _no_tensors(path: Path, value: object) -> CheckpointError:
    if isinstance(value, Mapping):
        keys = f" Its keys start with {some([shown(key) for key in value])}." if value else ""
        return CheckpointError(f"{path} holds no tensors that could be weights, under any key.{keys}")
    kind = "single tensor" if is_leaf(value) else type(value).__name__
    return CheckpointError(f"{path} holds a {kind}, not named tensors (a state dict).")


def _part(path: Path, name: str, candidate: Candidate, content: Content) -> Part:
    check_names(path, list(candidate.leaves))
    state: dict[str, Tensor] = {}
    key = ""
    try:
        for key, leaf in candidate.leaves.items():
            state[key] = tensor(leaf)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        reason = shown(str(error).partition("\n")[0])
        raise CheckpointError(f"{path}: {shown(key)} cannot be read: {reason}. Export it again.") from error
    check_sizes(path, state)
    return Part(name, state, candidate.modules or content.modules)


def _chosen(path: Path, parts: tuple[Part, ...], wanted: str | None) -> Part:
    if wanted is None:
        return parts[0]
    for part in parts:
        if part.name == wanted:
            return part
    there = ", ".join(part.name or '""' for part in parts)
    raise CheckpointError(f"{path} has no part {shown(wanted)}. Expected one of: {there}.")


def _notes(parts: tuple[Part, ...], chosen: Part, candidate: Candidate) -> tuple[str, ...]:
    notes = []
    if len(parts) > 1:
        names = ", ".join(part.name or '""' for part in parts)
        notes.append(f"{len(parts)} sets of weights are inside: {names}. Used: {chosen.name}; choose with --part NAME.")
    if candidate.keys and candidate.left_out:
        notes.append(f"Left out of {chosen.name}: {some([shown(key) for key in candidate.left_out])}.")
    if broken := non_finite(chosen.state_dict):
        notes.append(f"Not all numbers are finite (NaN or infinity) in {len(broken)} tensors: {some(broken)}.")
    return tuple(notes)
