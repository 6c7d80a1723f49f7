"""Meta lists: one text file a split with lines `id|path`, and cls_mapper.json that says what the ids mean.

The form is that of the tutorials on the Stanford-40 actions: `meta_train.txt`, `meta_dev.txt` and
`meta_test.txt` beside `{"id2cls": {"0": "applauding"}, "cls2id": {"applauding": 0}}`.
"""

# os.path answers no where a name is too long or a folder is closed; Path raises.
# ruff: noqa: PTH112, PTH113

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.atomic import atomic_folder, write_text
from regraft.data.cells import read_text
from regraft.data.manifest import SPLITS, Item, Manifest, Skipped
from regraft.data.names import natural_key, split_of
from regraft.data.rows import Row, absolute, items_of, locate, written_path
from regraft.data.targets import check_folder_target
from regraft.errors import DataError, SplitError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAPPER = "cls_mapper.json"
_LIST = re.compile(r"meta_(.+)\.txt", re.IGNORECASE)
_WRITTEN = {"train": "meta_train.txt", "val": "meta_dev.txt", "test": "meta_test.txt"}


def is_meta_list(name: str) -> bool:
    """Whether a file of this name is a meta list."""
    return _LIST.fullmatch(name) is not None


def has_meta_lists(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder holds a meta list of a split directly."""
    try:
        return any(_split_of_list(path.name) for path in Path(folder).iterdir())
    except OSError:
        return False


def read_meta_lists(
    path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None, source: str | None = None
) -> Manifest:
    """Read the meta lists of a folder, or one list, with the cls_mapper.json beside them.

    Args:
        path: the folder, or one `meta_*.txt`.
        root: where relative paths start; the folder of the lists by default.
        source: what the user named, for the manifest; `path` by default.

    Returns:
        Items in the order train, val, test and of the lines; classes in the order of their ids, also those
        without images; no keys. Files that are missing are items as long as one is there. A single list whose
        name says no split gives items without split.

    Raises:
        DataError: a file is missing, a line is malformed (named with file and line), an id is unknown, the
            mapper contradicts itself, or not one image is there.
    """
    location = Path(absolute(path))
    skipped: list[Skipped] = []
    folder, names = location.parent, [location.name]
    if os.path.isdir(location):
        folder = location
        names = sorted((file.name for file in folder.iterdir() if is_meta_list(file.name)), key=natural_key)
        skipped = [Skipped(str(folder / n), "its name says no split") for n in names if not _split_of_list(n)]
        names = sorted(filter(_split_of_list, names), key=lambda name: SPLITS.index(_split_of_list(name) or ""))
    if not names:
        raise DataError(f"{location} holds no meta list. Expected meta_train.txt, meta_dev.txt or meta_test.txt.")
    classes = _read_mapper(folder / MAPPER)
    base = absolute(folder if root is None else root)
    rows = (row for name in names for row in _read_list(folder / name, classes, base))
    items, lost = items_of(
        rows,
        source=str(path),
        remedy="Relative paths start from the folder of the lists; say with --root where the images are.",
    )
    if not items:
        raise DataError(f"{location} lists no images. Expected lines such as 0|images/first.jpg.")
    ordered = tuple(classes[number] for number in sorted(classes))
    return Manifest(tuple(items), ordered, str(path) if source is None else source, (*skipped, *lost))


def write_meta_lists(manifest: Manifest, folder: Path, *, overwrite: bool = False) -> None:
    """Write meta lists and cls_mapper.json into a new folder, which is complete or absent.

    Ids are the positions in `manifest.classes`; paths are absolute. The val split becomes `meta_dev.txt`.

    Raises:
        RunExists: the folder exists (and, with `overwrite`, holds more than meta lists).
        SplitError: an image has no split.
        DataError: an image has no label, or a path cannot stand on one line.
    """
    ids = {name: number for number, name in enumerate(manifest.classes)}
    lines: dict[str, list[str]] = {split: [] for split in manifest.split_sizes()}
    for item in manifest.items:
        if item.split is None:
            raise SplitError(f"{item.path} has no split, and a meta list is of one split. Make splits first.")
        if item.label is None:
            raise DataError(f"{item.path} has no label, and every line of a meta list names a class.")
        if "\n" in item.path or "\r" in item.path:
            raise DataError(f"The path {item.path!r} holds a line break, which a meta list cannot hold. Use a table.")
        lines[item.split].append(f"{ids[item.label]}|{written_path(item.path, os.fspath(folder))}")
    check_folder_target(folder, overwrite=overwrite, ours=_is_ours)
    mapper = {"id2cls": {str(number): name for name, number in ids.items()}, "cls2id": ids}
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        for split, texts in lines.items():
            write_text(temporary / _WRITTEN[split], "".join(f"{text}\n" for text in texts))
        write_text(temporary / MAPPER, json.dumps(mapper, indent=2) + "\n")


def _is_ours(path: Path) -> bool:
    return not path.is_symlink() and (path.name == MAPPER or path.name in _WRITTEN.values())


def _split_of_list(name: str) -> str | None:
    match = _LIST.fullmatch(name)
    return split_of(match[1]) if match else None


def _read_list(path: Path, classes: dict[int, str], base: str) -> Iterator[Row]:
    split = _split_of_list(path.name)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        text = line.removesuffix("\r")
        if not text.strip():
            continue
        where = f"{path.name}, line {number}"
        identifier, bar, file = text.partition("|")
        if not bar or not file.strip() or not re.fullmatch(r"\s*[0-9]{1,18}\s*", identifier):
            raise DataError(f"{path}, line {number}: expected id|path, such as 0|images/first.jpg, got {text!r}.")
        label = classes.get(int(identifier))
        if label is None:
            raise DataError(
                f"{path}, line {number}: the class id {int(identifier)} is not in {MAPPER}, which has"
                f" {len(classes)} classes. Correct the line or add the class."
            )
        located, found = locate(base, file)
        yield Row(Item(located, label, split), where, found)


def _read_mapper(path: Path) -> dict[int, str]:
    """Class names by id, after checking that the two directions of the mapper agree."""
    if not os.path.isfile(path):
        raise DataError(f"{path} is missing. Meta lists need it to say which class each id is.")
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error
    names = content.get("id2cls") if isinstance(content, dict) else None
    numbers = content.get("cls2id") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not isinstance(numbers, dict):
        raise DataError(f'{path}: expected {{"id2cls": {{"0": "name"}}, "cls2id": {{"name": 0}}}}.')
    classes = {_class_id(path, text): _class_name(path, name) for text, name in names.items()}
    for number, name in classes.items():
        if numbers.get(name) != number:
            raise DataError(f"{path}: id2cls says that {number} is {name!r}, but cls2id says {numbers.get(name)!r}.")
    for name, number in numbers.items():
        if not isinstance(number, int) or classes.get(number) != name:
            raise DataError(f"{path}: cls2id gives {name!r} the id {number!r}, which id2cls does not.")
    return classes


def _class_id(path: Path, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise DataError(f"{path}: the class id {text!r} in id2cls is not a whole number.")
    return int(text)


def _class_name(path: Path, name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise DataError(f"{path}: the class name {name!r} in id2cls is not a text.")
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise DataError(f"{path}: the class name {name!r} in id2cls is not valid Unicode.") from None
    return name
