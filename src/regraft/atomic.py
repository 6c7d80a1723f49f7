"""Files and folders that are complete or absent: write beside, sync, rename.

A reader never sees half a file, and a killed writer leaves at most a hidden temporary that the next
writer in the same folder removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import uuid
from typing import TYPE_CHECKING

from regraft.errors import CannotWrite, RunExists

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PREFIX = ".regraft-tmp"
_WRITE_ERRORS = {
    errno.ENOSPC,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EFBIG,
    *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else []),
}


def _temporary(target: Path) -> Path:
    """A hidden sibling of `target` whose name says which process on which machine owns it."""
    host = socket.gethostname().replace("~", "_")
    return target.parent / f"{_PREFIX}~{host}~{os.getpid()}~{uuid.uuid4().hex[:8]}~{target.name}"


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; file systems that cannot sync a folder are left to themselves."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporaries that processes of this machine left in `folder` when they were killed.

    Those of running processes and of other machines (a shared disk) stay. Returns what was removed.
    """
    removed = []
    for path in folder.glob(f"{_PREFIX}~*"):
        parts = path.name.split("~")
        ours = len(parts) >= 5 and parts[1] == socket.gethostname().replace("~", "_") and parts[2].isdigit()  # noqa: PLR2004
        if not ours or _running(int(parts[2])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        removed.append(path)
    return removed


def check_writable(target: Path) -> None:
    """Raise `CannotWrite` where `target` could not be written, before the work is done; nothing is left there.

    A full disk shows only when it is written to.
    """
    place = target.absolute().parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise CannotWrite(f"{target} cannot be written: {place} is not a folder. Choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise CannotWrite(f"{target} cannot be written: no permission to write in {place}. Choose another place.")
    probe = _temporary(place / "x")
    try:  # some places say yes and take nothing, such as /proc
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise CannotWrite(f"{target} cannot be written: {place} takes no files ({reason}). Choose another.") from error


@contextlib.contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Turn what the system says about a temporary into a sentence about the file that was wanted."""
    try:
        yield
    except Exception as error:
        # safetensors raises its own class for everything, a full disk too.
        # Whatever happens to the temporary itself is about the place, not about what is written.
        own = isinstance(error, OSError) and _PREFIX in str(error.filename)
        failed = isinstance(error, OSError) and (own or error.errno in _WRITE_ERRORS)
        if failed or type(error).__name__ == "SafetensorError":
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CannotWrite(f"{target} cannot be written: {reason}. Nothing was left there.") from error
        raise


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it is synced and takes the name `target`, else it vanishes.

    The file keeps the ending of `target`, so writers that choose a format by ending work on it.
    """
    temporary = _temporary(target)
    with _naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            temporary.unlink()
            yield temporary
            temporary.chmod(mode)  # some writers, safetensors among them, let nobody else read
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8; file names that are not UTF-8 survive a round trip."""
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


@contextlib.contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder; on success it is synced and takes the name `target`.

    Raises:
        RunExists: `target` exists and `overwrite` is false. What stands there is not touched. With
            `overwrite`, the old folder is moved aside first and removed last; whether it may be removed is the
            caller's to know.
        CannotWrite: the disk is full or read-only, or permission is missing.
    """
    temporary = _temporary(target)
    with _naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        if target.exists() and not overwrite:
            raise _exists(target)
        temporary.mkdir()
        try:
            yield temporary
            _sync_tree(temporary)
            _put_in_place(temporary, target, overwrite=overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite and target.exists():
        aside = _temporary(target)
        target.rename(aside)
        temporary.rename(target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        try:
            temporary.rename(target)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise _exists(target) from error
            raise
    _sync_folder(target.parent)


def _exists(target: Path) -> RunExists:
    return RunExists(f"{target} exists already. Choose another folder, or replace it with --overwrite.")


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():  # what a link leads to is not ours to sync
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
