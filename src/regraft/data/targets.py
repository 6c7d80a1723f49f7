"""What may be written where: nothing is replaced unasked, and never an image of the user's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from regraft.errors import RunExists

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def check_file_target(target: Path, *, overwrite: bool) -> None:
    """Refuse to write a file over a folder, or over a file unless asked to.

    Raises:
        RunExists: what stands there stays.
    """
    if target.is_dir():
        raise RunExists(f"{target} is a folder. Name a file to write.")
    if os.path.lexists(target) and not overwrite:
        raise RunExists(f"{target} exists already. Choose another name, or replace it with --overwrite.")


def check_folder_target(target: Path, *, overwrite: bool, ours: Callable[[Path], bool]) -> None:
    """Refuse to replace a folder unless asked to, and even then when it holds more than we write.

    Args:
        target: the folder to be made.
        overwrite: whether the user allows replacing it.
        ours: says of a file or link (not of folders) whether this kind of folder is made of such.

    Raises:
        RunExists: what stands there stays.
    """
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise RunExists(f"{target} exists already. Choose another folder, or replace it with --overwrite.")
    if target.is_symlink() or not target.is_dir():
        raise RunExists(f"{target} is not a folder, and --overwrite replaces only folders. Choose another name.")
    for path in target.rglob("*"):
        if (path.is_symlink() or not path.is_dir()) and not ours(path):
            raise RunExists(
                f"{target} holds {path}, which may be the only copy you have, so it is not replaced."
                f" Choose another folder, or remove this one yourself."
            )
