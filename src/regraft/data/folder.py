"""Folders of images: one folder a class, with or without split folders above, or no classes at all."""

# Paths are plain texts here: they come by the hundred thousand, and links stay unresolved.
# ruff: noqa: PTH116, PTH118

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from regraft.data.folder_hints import beside_hints, empty_hints, nesting_hints, table_hints
from regraft.data.manifest import SPLITS, Item, Manifest, Skipped
from regraft.data.names import housekeeping, natural_key, natural_sort, split_of
from regraft.data.rows import absolute
from regraft.data.signatures import why_no_image
from regraft.errors import DataError

LINK_TO_NOTHING = "a link to nothing"
_TABLE_ENDINGS = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class _Level:
    """What lies directly in one folder, in natural order: names of images, of folders and of tables."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Tree:
    """The class folders of one folder, and the images that lie beside them, all as paths; names without images."""

    classes: dict[str, list[str]]
    loose: list[str]
    empty: list[str]


@dataclass(slots=True)
class _Walk:
    """One reading of a tree; collects what is no data on the way."""

    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, path: str, reason: str) -> None:
        self.skipped.append(Skipped(path, reason))

    def level(self, folder: str) -> _Level:
        """List one folder; unreadable ones, hidden entries and non-images are skipped."""
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: natural_key(entry.name))
        except OSError as error:
            self.skip(folder, f"folder cannot be read ({error.strerror or error})")
            return _Level()
        level = _Level()
        for entry in found:
            self._sort_entry(entry, level)
        return level

    def _sort_entry(self, entry: os.DirEntry[str], level: _Level) -> None:
        try:
            if reason := housekeeping(entry.name):
                self.skip(entry.path, reason)
            elif entry.is_dir():
                level.folders.append(entry.name)
            elif not entry.is_file():
                self.skip(entry.path, LINK_TO_NOTHING if entry.is_symlink() else "not a regular file")
            elif reason := why_no_image(entry.path):
                if entry.name.lower().endswith(_TABLE_ENDINGS):
                    level.tables.append(entry.name)
                    reason = f"{reason}; to use this table, name it as the data"
                self.skip(entry.path, reason)
            else:
                level.images.append(entry.name)
        except OSError as error:
            self.skip(entry.path, f"cannot be read ({error.strerror or error})")

    def images(self, folder: str, above: list[str]) -> list[str]:
        """Every image under `folder`, however deep; links to folders in `above` or read already end there."""
        seen = {mark for mark in map(_identity, above) if mark}
        found: list[str] = []
        stack = [folder]
        while stack:
            here = stack.pop()
            mark = _identity(here)
            if mark in seen:
                self.skip(here, "a link to a folder that is read already")
                continue
            if mark:
                seen.add(mark)
            level = self.level(here)
            found.extend(os.path.join(here, name) for name in level.images)
            stack.extend(os.path.join(here, name) for name in reversed(level.folders))
        return found

    def classes(self, folder: str, above: list[str]) -> _Tree:
        """The class folders of `folder`: every folder in it that holds an image, at any depth."""
        level = self.level(folder)
        classes: dict[str, list[str]] = {}
        empty: list[str] = []
        for name in level.folders:
            path = os.path.join(folder, name)
            images = self.images(path, [*above, folder])
            if images:
                classes[name] = images
            else:
                self.skip(path, "no images")
                empty.append(name)
        return _Tree(classes, [os.path.join(folder, name) for name in level.images], empty)


def _identity(folder: str) -> tuple[int, int] | None:
    """Device and file number, the same for all names of one folder; None where it cannot be asked."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read_folder(folder: str | os.PathLike[str], *, source: str | None = None) -> Manifest:
    """Read a folder of images.

    The layouts, first match wins:

    - split folders (train; val, valid, validation, dev; test; any case) that hold class folders. Whatever
      lies beside them is skipped;
    - class folders: each folder directly in `folder` that holds an image at any depth is a class. Images
      beside them are skipped, as nobody has said what they show;
    - class folders that are all named like splits: the images have a split and no label;
    - images directly in the folder: they have neither.

    Hidden entries, non-images, folders without images, unreadable folders and links that lead back
    are listed as skipped with the reason. A file with an image ending stays an item whatever it
    holds: the decoder rejects it with the reason. Links to files and folders are followed.

    Args:
        folder: where to read.
        source: what the user named, for the manifest; the folder itself by default.

    Returns:
        Items with absolute paths in natural order of split, class and name; no keys. Hints when folders
        may mean something else: class folders that hold folders of images or nothing, folders beside the
        split folders, a table beside the only class folder.

    Raises:
        DataError: `folder` is no folder or cannot be listed.
    """
    root = absolute(folder)
    named = os.fspath(folder)
    _check_listable(root)
    source = str(folder) if source is None else source
    walk = _Walk()
    # Housekeeping of the folder itself is collected once here; trees below are read into their own walks.
    top = walk.level(root)
    splits = _split_trees(root, top.folders)
    if any(tree.classes for tree, _ in splits.values()):
        found = _with_splits(root, source, walk, top, splits)
        return replace(found, hints=_split_hints(root, named, top, splits, found.classes))
    walk = _Walk()
    tree = walk.classes(root, [])
    if not tree.classes:
        items = [Item(path) for path in tree.loose]
        return Manifest(tuple(items), (), source, tuple(walk.skipped))
    for path in tree.loose:
        walk.skip(path, "lies beside the class folders, so its class is not known")
    if all(split_of(name) for name in tree.classes):
        items = [Item(path, split=split_of(name)) for name, paths in tree.classes.items() for path in paths]
        items.sort(key=lambda item: SPLITS.index(item.split or ""))
        return Manifest(tuple(items), (), source, tuple(walk.skipped))
    items = [Item(path, label=name) for name, paths in tree.classes.items() for path in paths]
    hints = [*nesting_hints(named, tree.classes, root), *empty_hints(tree.empty)]
    if len(tree.classes) == 1:
        hints += table_hints(named, top.tables)
    classes = natural_sort(set(tree.classes))
    return Manifest(tuple(items), classes, source, tuple(walk.skipped), hints=tuple(hints))


def _check_listable(root: str) -> None:
    try:
        with os.scandir(root):
            pass
    except NotADirectoryError:
        raise DataError(f"{root} is not a folder.") from None
    except OSError as error:
        raise DataError(f"The folder {root} cannot be read ({error.strerror or error}).") from error


def _split_trees(root: str, folders: list[str]) -> dict[str, tuple[_Tree, _Walk]]:
    """The folders of `root` that are named like splits, each with its class folders and what was skipped."""
    trees = {}
    for name in folders:
        if split_of(name):
            walk = _Walk()
            trees[name] = (walk.classes(os.path.join(root, name), [root]), walk)
    return trees


def _with_splits(root: str, source: str, walk: _Walk, top: _Level, splits: dict[str, tuple[_Tree, _Walk]]) -> Manifest:
    """The manifest of split folders, in the order train, val, test."""
    for name in top.images:
        walk.skip(os.path.join(root, name), "lies beside the split folders")
    for name in top.folders:
        if name not in splits:
            walk.skip(os.path.join(root, name), "folder beside the split folders")
    items = []
    used: dict[str, list[str]] = {}
    for name, (tree, below) in sorted(splits.items(), key=lambda pair: SPLITS.index(split_of(pair[0]) or "")):
        walk.skipped.extend(below.skipped)
        split = split_of(name)
        for path in tree.loose:
            walk.skip(path, "lies directly in a split folder, so its class is not known")
        if not tree.classes and not tree.loose:
            walk.skip(os.path.join(root, name), "no images")
        if tree.classes and split:
            used.setdefault(split, []).append(name)
        items += [Item(path, label, split) for label, paths in tree.classes.items() for path in paths]
    merged = "; ".join(f"{split} is {' and '.join(names)}" for split, names in used.items() if len(names) > 1)
    classes = natural_sort({item.label for item in items if item.label is not None})
    note = f"as given ({merged})" if merged else "as given"
    return Manifest(tuple(items), classes, source, tuple(walk.skipped), note)


def _split_hints(
    root: str, named: str, top: _Level, splits: dict[str, tuple[_Tree, _Walk]], classes: tuple[str, ...]
) -> tuple[str, ...]:
    """What split folders and their neighbours may mean otherwise."""
    hints: list[str] = []
    for name, (tree, _) in splits.items():
        below = os.path.join(root, name)
        found = nesting_hints(named, tree.classes, below, split=name)
        # What is so in train is so in the other splits, and said once.
        hints = hints or found
    hints += empty_hints(
        [f"{name}/{label}" for name, (tree, _) in splits.items() if tree.classes for label in tree.empty]
    )
    hints += [
        f"the split folder {name!r} has no images" for name, (t, _) in splits.items() if not t.classes and not t.loose
    ]
    hints += beside_hints(root, [name for name in top.folders if name not in splits])
    if len(classes) == 1:
        hints += table_hints(named, top.tables)
    return tuple(hints)
