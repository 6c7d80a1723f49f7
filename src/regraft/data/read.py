"""The one place that knows which reader a source of images needs."""

# os.path answers no where a name is too long or a folder is closed; Path raises.
# ruff: noqa: PTH110, PTH112, PTH113

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.data.cells import TABLE_ENDINGS, read_text
from regraft.data.folder import read_folder
from regraft.data.manifest import Item, Manifest
from regraft.data.metalist import has_meta_lists, is_meta_list, read_meta_lists
from regraft.data.rows import absolute
from regraft.data.signatures import why_no_image
from regraft.data.stanford import is_stanford, read_stanford
from regraft.data.table import read_table
from regraft.data.take import take_by_number
from regraft.errors import DataError, MissingExtra, OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLES = ("textile",)
_SAMPLE_PREFIX = "sample:"
_FLAGS = {
    "root": "--root",
    "label_column": "--label",
    "path_column": "--path-column",
    "split_column": "--split-column",
    "group_column": "--group-column",
}
_EXPECTED = (
    "Expected a folder with one folder of images a class (also within train, val and test), a folder with"
    " ImageSplits/actions.txt or meta lists, a table (.csv, .tsv, .parquet), or sample:textile."
)


def read_data(
    source: str | Path,
    *,
    root: Path | None = None,
    label_column: str | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    take: tuple[int, int, int] | None = None,
) -> Manifest:
    """Read images and what is known of them from whatever the user names.

    Args:
        source: `sample:NAME`; a folder with class folders, with split folders above them, of Stanford-40
            layout, with meta lists, or of plain images; a table (.csv, .tsv, .parquet, or .txt with tabs); a
            meta list; or one image.
        root: where the relative paths of a table or meta list start; its own folder by default.
        label_column: the table's column of labels, when its name is not a usual one; "" for none.
        path_column: the table's column of paths, or of ids that lack only a file ending.
        split_column: the table's column of splits; "" for none.
        group_column: the table's column of groups; "" for none.
        take: numbers of images a class for train, val and test, in the order of file names; see
            `take_by_number`.

    Returns:
        Items with absolute paths (links are not resolved) and no keys, in an order that depends on names only
        or, for tables and lists, on their rows.

    Raises:
        DataError: there is nothing of this name, or it cannot be read as data.
        SplitError: splits that contradict each other, or a class too small for `take`.
        OptionError: an option that this kind of source has no use for.
        MissingExtra: a sample or Parquet table whose package is not installed.
    """
    columns = {
        "label_column": label_column,
        "path_column": path_column,
        "split_column": split_column,
        "group_column": group_column,
    }
    name = os.fspath(source)
    if not name:
        raise DataError(f"No data is named. {_EXPECTED}")
    kind = _kind(name)
    if kind != "table":
        _refuse(name, columns if kind == "meta" else {"root": root, **columns})
    if kind == "table":
        manifest = read_table(name, root=root, **columns)
    elif kind == "meta":
        manifest = read_meta_lists(name, root=root)
    elif kind == "stanford":
        manifest = read_stanford(name, by_number=take is not None)
    elif kind == "sample":
        manifest = read_folder(_sample_folder(name), source=name)
    elif kind == "image":
        manifest = Manifest((Item(absolute(name)),), (), name)
    else:
        manifest = read_folder(name)
    if take is not None:
        return take_by_number(manifest, *take)
    return manifest if manifest.split_sizes() else replace(manifest, split_note="none given")


def is_table(name: str) -> bool:
    """Whether what the user named is read as a table.

    Raises:
        DataError: there is nothing of this name.
    """
    return _kind(name) == "table"


def _refuse(name: str, options: Mapping[str, object]) -> None:
    """Refuse options that only tables, or tables and lists, have a use for."""
    given = [_FLAGS[option] for option, value in options.items() if value is not None]
    if given:
        them = "them" if len(given) > 1 else "it"
        raise OptionError(f"{name} is not a table, so it has no use for {' and '.join(given)}. Leave {them} out.")


def _kind(name: str) -> str:
    """Which reader the source needs."""
    if name.startswith(_SAMPLE_PREFIX):
        return "sample"
    path = Path(name)
    if os.path.isdir(path):
        if is_stanford(name):
            return "stanford"
        return "meta" if has_meta_lists(name) else "folder"
    if not os.path.exists(path):
        raise DataError(_missing(name))
    ending = path.suffix.lower()
    if is_meta_list(path.name):
        return "meta"
    if ending in TABLE_ENDINGS or (ending == ".txt" and "\t" in read_text(name).split("\n", 1)[0]):
        return "table"
    if os.path.isfile(path) and why_no_image(name) is None:
        return "image"
    raise DataError(f"{name} is a file of no form that can be read as data. {_EXPECTED}")


def _missing(name: str) -> str:
    """What to say of a path that is not there: how far it is right, and what has a similar name."""
    path = Path(absolute(name))
    while not os.path.isdir(path.parent) and path != path.parent:
        path = path.parent
    try:
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=3)
    except OSError:
        near = []
    hint = f" {path.parent} has {', '.join(repr(text) for text in near)}." if near else ""
    return f"{name} does not exist: there is no {path.name!r} in {path.parent}.{hint} {_EXPECTED}"


def _sample_folder(name: str) -> str:
    sample = name.removeprefix(_SAMPLE_PREFIX)
    if sample not in SAMPLES:
        there = ", ".join(_SAMPLE_PREFIX + known for known in SAMPLES)
        raise DataError(f"There is no sample {sample!r}. The samples there are: {there}.")
    try:
        from conformal_clip_data import textile_simulated_root
    except ImportError:
        raise MissingExtra("conformal-clip-data", "samples", f"the sample {name}") from None
    return str(textile_simulated_root())
