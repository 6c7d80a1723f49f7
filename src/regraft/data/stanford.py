"""Folders laid out like the Stanford 40 Actions data: JPEGImages/ and ImageSplits/.

Layout (http://vision.stanford.edu/Datasets/40actions.html): `ImageSplits/actions.txt` names the actions
with their number of images, `ImageSplits/<action>_train.txt` and so on list file names, one a line.
"""

# os.path answers no where a name is too long or a folder is closed; Path raises.
# ruff: noqa: PTH113

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.data.cells import read_text
from regraft.data.manifest import SPLITS, Item, Manifest, Skipped
from regraft.data.names import housekeeping, natural_key, shown
from regraft.data.rows import Row, absolute, items_of, locate
from regraft.data.signatures import why_no_image
from regraft.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTS, _IMAGES, _ACTIONS = "ImageSplits", "JPEGImages", "actions.txt"
_LIST_WORDS = {"train": ("train",), "val": ("dev", "val"), "test": ("test",)}
_ACTION_LINE = re.compile(r"(?P<name>.*?\S)\s+(?P<count>[0-9]+)\s*")
_NUMBERED = re.compile(r"(?P<name>.+)_[0-9]+\.[^.]+")


def is_stanford(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder is laid out like Stanford 40."""
    return os.path.isfile(Path(folder) / _LISTS / _ACTIONS)


def read_stanford(folder: str | os.PathLike[str], *, by_number: bool = False, source: str | None = None) -> Manifest:
    """Read a folder laid out like Stanford 40.

    Args:
        folder: the folder that holds ImageSplits and JPEGImages.
        by_number: do not read the list files; every image named `<action>_<number>.<ending>` belongs to its
            action and has no split (see `take_by_number`).
        source: what the user named, for the manifest; the folder itself by default.

    Returns:
        Items with absolute paths, in the order of split, action and list; classes in the order of
        actions.txt; no keys. Images that are listed and missing are items; images that are there and not
        listed are skipped.

    Raises:
        DataError: a malformed line of actions.txt, no JPEGImages, or actions without list files.
        SplitError: an image that is listed in two splits.
    """
    root = Path(absolute(folder))
    actions = _read_actions(root / _LISTS / _ACTIONS)
    images = _listing(root / _IMAGES)
    skipped: list[Skipped] = []
    rows = list(_numbered(root, actions, images) if by_number else _listed(root, actions))
    items, lost = items_of(rows, source=_LISTS, remedy=f"Expected the images in {root / _IMAGES}.")
    named = {row.item.path for row in rows}
    reason = f"belongs to no action of {_ACTIONS}" if by_number else f"in no list of {_LISTS}"
    for name in images:
        path = str(root / _IMAGES / name)
        if path not in named:
            skipped.append(Skipped(path, housekeeping(name) or why_no_image(path) or reason))
    have = {item.label for item in items}
    skipped += [Skipped(action, "action without images") for action in actions if action not in have]
    classes = tuple(action for action in actions if action in have)
    return Manifest(tuple(items), classes, str(folder) if source is None else source, (*lost, *skipped))


def _read_actions(path: Path) -> list[str]:
    """Names of the actions, parted from their counts by blanks. A first line without count is a header."""
    actions: list[str] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        text = line.strip()
        if not text:
            continue
        match = _ACTION_LINE.fullmatch(text)
        if match is None:
            if number == 1:
                continue
            raise DataError(f"{path}, line {number}: expected a name, a tab and a number of images, got {text!r}.")
        name = match["name"]
        if name in actions:
            raise DataError(f"{path}, line {number}: the action {name!r} is there twice.")
        actions.append(name)
    if not actions:
        raise DataError(f"{path} names no action. Expected lines with a name, a tab and a number of images.")
    return actions


def _listing(folder: Path) -> list[str]:
    try:
        return sorted((path.name for path in folder.iterdir()), key=natural_key)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror or error}). Expected the images there.") from error


def _listed(root: Path, actions: list[str]) -> Iterator[Row]:
    """What the list files say."""
    lists = {
        (action, split): [
            path for word in _LIST_WORDS[split] if os.path.isfile(path := root / _LISTS / f"{action}_{word}.txt")
        ]
        for action in actions
        for split in SPLITS
    }
    without = [action for action in actions if not any(lists[action, split] for split in SPLITS)]
    if without:
        raise DataError(
            f"{len(without)} actions of {_ACTIONS} have no list file in {root / _LISTS}:"
            f" {shown(without)}. Expected {without[0]}_train.txt and so on; or take images by number with"
            f" --take TRAIN,DEV,TEST."
        )
    for split in SPLITS:
        for action in actions:
            for path in lists[action, split]:
                for number, line in enumerate(read_text(path).split("\n"), start=1):
                    if name := line.strip():
                        located, found = locate(str(root / _IMAGES), name)
                        yield Row(Item(located, action, split), f"{path.name}, line {number}", found)


def _numbered(root: Path, actions: list[str], images: list[str]) -> Iterator[Row]:
    """Every image whose name is an action and a number, action by action."""
    by_action: dict[str, list[Path]] = {action: [] for action in actions}
    for name in images:
        match = _NUMBERED.fullmatch(name)
        if match and match["name"] in by_action:
            by_action[match["name"]].append(root / _IMAGES / name)
    for action, paths in by_action.items():
        for path in paths:
            yield Row(Item(str(path), action), path.name, os.path.isfile(path))
