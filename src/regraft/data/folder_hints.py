"""What a folder of images may mean other than how it was read: sentences for the user."""

# Paths are plain texts here: they come by the hundred thousand, and links stay unresolved.
# ruff: noqa: PTH118

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from regraft.data.names import shown
from regraft.data.signatures import has_image_ending

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ENTRIES = 10_000  # looked at in a folder that is not used: enough for a hint, and soon done


def nesting_hints(
    named: str, classes: Mapping[str, Sequence[str]], folder: str, *, split: str | None = None
) -> list[str]:
    """Say so when class folders hold two or more folders of images, which may be the classes.

    Args:
        named: the folder that holds the class folders, as the user calls it.
        classes: the paths of the images in each class folder, at least one each.
        folder: the folder that holds the class folders, absolute.
        split: the name of `folder` when it is a split folder.
    """
    nested = []
    for name, paths in classes.items():
        below, inner = _folders_in(os.path.join(folder, name), paths)
        if len(inner) > 1:
            nested.append((name, below, inner))
    if not nested:
        return []
    name, below, inner = nested[0]
    instead = os.path.join(named, name, below) if below else os.path.join(named, name)
    held = f"{len(inner)} folders of images ({_first(inner)})"
    if len(classes) == 1 and split is None:
        return [f"the only class folder, {name!r}, holds {held}: did you mean {instead}?"]
    remedy = f"name {instead} instead" if split is None else f"put them directly into {split}"
    where = "" if split is None else f" in {split}"
    others = [repr(other) for other, _, _ in nested[1:]]
    also = f" (likewise {shown(others)})" if others else ""
    count = f"which count as one class{also}"
    return [f"class folder {name!r}{where} holds {held}, {count}; if they are the classes, {remedy}"]


def empty_hints(names: Sequence[str]) -> list[str]:
    """Name the class folders that hold no image."""
    if not names:
        return []
    many = len(names) > 1
    return [f"class folder{'s' * many} {shown([repr(name) for name in names])} {'have' if many else 'has'} no images"]


def beside_hints(root: str, folders: Sequence[str]) -> list[str]:
    """Name the folders with images that lie beside split folders and so are not used."""
    counted = {name: count for name in folders if (count := _count_images(os.path.join(root, name)))}
    if not counted:
        return []
    texts = [f"{name!r} ({count} image{'' if count == '1' else 's'})" for name, count in counted.items()]
    many = len(texts) > 1
    are = "are" if many else "is"
    return [
        f"folder{'s' * many} {shown(texts)} beside the split folders {are} not used; only train, val and test count"
    ]


def table_hints(named: str, tables: Sequence[str]) -> list[str]:
    """Point at a table that lies beside the only class folder: it may hold the labels."""
    if not tables:
        return []
    first = os.path.join(named, tables[0])
    return [f"there is a table {tables[0]}; did you mean regraft train {first}?"]


def _first(names: Sequence[str], most: int = 3) -> str:
    """The first names, and dots for the rest."""
    texts = [name if name.isprintable() else repr(name) for name in names[:most]]
    return ", ".join([*texts, "..."] if len(names) > most else texts)


def _folders_in(folder: str, paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folders directly in `folder` that the images lie in; while there is only one, those in that one.

    Returns:
        Where they are, below `folder` (empty text for `folder` itself), and their names.
    """
    start = len(folder) + 1
    while True:
        inner: dict[str, None] = {}
        loose = False
        for path in paths:
            end = path.find(os.sep, start)
            if end < 0:
                loose = True
            else:
                inner[path[start:end]] = None
        if len(inner) != 1 or loose:
            return paths[0][len(folder) + 1 : start - 1], list(inner)
        start += len(next(iter(inner))) + 1


def _count_images(folder: str) -> str:
    """How many files below have an image ending, for a message; empty text for none that was seen."""
    images = seen = 0
    for _, _, files in os.walk(folder):
        images += sum(has_image_ending(name) for name in files)
        seen += 1 + len(files)
        if seen > _ENTRIES:
            return f"{images:,} or more" if images else ""
    return f"{images:,}" if images else ""
