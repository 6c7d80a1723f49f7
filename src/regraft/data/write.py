"""Write a manifest in any of the forms that can be read: a table, meta lists, or folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.atomic import atomic_file, atomic_folder, write_text
from regraft.data.cells import need_pyarrow
from regraft.data.manifest import COLUMNS, Manifest, csv_text
from regraft.data.metalist import write_meta_lists
from regraft.data.names import housekeeping
from regraft.data.rows import absolute, written_path
from regraft.data.targets import check_file_target, check_folder_target
from regraft.errors import CannotWrite, DataError, OptionError, SplitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regraft.data.table import Further

FORMS = ("csv", "tsv", "parquet", "meta", "folders")
_MAX_NAME = 255  # bytes in a file name, on every common file system


def write_manifest(
    manifest: Manifest,
    target: Path,
    *,
    form: str | None = None,
    copy: bool = False,
    overwrite: bool = False,
    further: Further | None = None,
) -> None:
    """Write the manifest as a table, as meta lists or as folders; complete or not at all.

    No file of the user's is moved or changed. Whatever is written is read back by `read_data` as the same
    images with the same labels and splits; groups survive in tables only.

    Args:
        manifest: what to write.
        target: a file for the table forms, a new folder for "meta" and "folders".
        form: "csv", "tsv", "parquet" (by default what the ending of `target` says), "meta" (see
            `regraft.data.metalist`), or "folders": class folders, within split folders when there are
            splits, of links to the images.
        copy: for "folders", copies in place of links.
        overwrite: replace a file, or a folder that holds nothing but such links or meta lists.
        further: for the table forms, more columns to write.

    Raises:
        RunExists: the target exists.
        OptionError: no such form, or an ending that says none.
        SplitError: only some images have a split, or, for meta lists, not all have.
        DataError: what this form cannot hold: a class that is no folder name, an image without
            label.
        CannotWrite: the target cannot be written.
        MissingExtra: Parquet without pyarrow.
    """
    target = Path(target)
    form = _form(target, form)
    if copy and form != "folders":
        raise OptionError(f"Copies are made in folders only, and {target} is to be {form}. Leave --copy out.")
    try:
        if form == "meta":
            write_meta_lists(manifest, target, overwrite=overwrite)
        elif form == "folders":
            _write_folders(manifest, target, copy=copy, overwrite=overwrite)
        else:
            _write_table(manifest, target, form, further, overwrite=overwrite)
    except OSError as error:
        raise CannotWrite(f"{target} cannot be written ({error.strerror or error}).") from error


def _write_table(manifest: Manifest, target: Path, form: str, further: Further | None, *, overwrite: bool) -> None:
    check_file_target(target, overwrite=overwrite)
    folder = str(Path(absolute(target)).parent)
    header = COLUMNS if further is None else (*COLUMNS, *further.columns)
    rows = [
        (written_path(i.path, folder), i.label, i.split, i.group, i.key, *(further.cells[i.path] if further else ()))
        for i in manifest.items
    ]
    if form == "parquet":
        _write_parquet(header, rows, target)
    else:
        texts = [[cell or "" for cell in row] for row in rows]
        write_text(target, csv_text(header, texts, delimiter="\t" if form == "tsv" else ","))


def _form(target: Path, form: str | None) -> str:
    """The form asked for, or the one that the ending says."""
    ending = target.suffix.lower().removeprefix(".")
    chosen = ending if form is None else form
    if chosen in FORMS and (form is not None or chosen in FORMS[:3]):
        return chosen
    if form is not None:
        raise OptionError(f"There is no form {form!r}. Expected one of {', '.join(FORMS)}.")
    raise OptionError(
        f"The name {target.name!r} does not say what to write. Expected the ending .csv, .tsv or .parquet, or"
        f" a folder with the form meta or folders."
    )


def _write_parquet(header: Sequence[str], rows: Sequence[Sequence[str | None]], target: Path) -> None:
    need_pyarrow("writing Parquet tables")
    import pyarrow as pa
    from pyarrow import parquet

    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    try:
        arrays = [pa.array(column, pa.string()) for column in columns]
    except UnicodeEncodeError as error:
        raise DataError(f"{error.object!r} is not valid Unicode, and Parquet holds nothing else. Write CSV.") from error
    with atomic_file(target) as temporary:
        parquet.write_table(pa.Table.from_arrays(arrays, names=list(header)), temporary)


def _write_folders(manifest: Manifest, target: Path, *, copy: bool, overwrite: bool) -> None:
    """Class folders, within split folders when there are splits, of links or copies."""
    places = _places(manifest)
    # A copy cannot be told from a file of the user's, so a folder of copies is never replaced.
    check_folder_target(target, overwrite=overwrite, ours=Path.is_symlink)
    with atomic_folder(target, overwrite=overwrite) as temporary:
        for parts in dict.fromkeys(whole[:depth] for whole, _ in places for depth in (1, 2)):
            _make_folder(temporary, parts)
        for item, (parts, name) in zip(manifest.items, places, strict=True):
            _place(item.path, temporary.joinpath(*parts, name), copy=copy)


def _make_folder(parent: Path, parts: tuple[str, ...]) -> None:
    try:
        parent.joinpath(*parts).mkdir()
    except OSError as error:
        raise DataError(
            f"Cannot make the folder {'/'.join(parts)} ({error.strerror}). If this file system does not tell"
            f" upper from lower case, write a table in place of folders."
        ) from error


def _place(path: str, place: Path, *, copy: bool) -> None:
    try:
        if copy:
            shutil.copyfile(path, place)
        else:
            place.symlink_to(path)
    except OSError as error:
        advice = "" if copy else " Try copies (--copy) if links are not allowed here."
        reason = error.strerror or error
        raise DataError(f"{path} cannot be placed at {place.name} ({reason}).{advice}") from error


def _places(manifest: Manifest) -> list[tuple[tuple[str, ...], str]]:
    """For each item the folders below the target, and its name there."""
    with_split = sum(item.split is not None for item in manifest.items)
    if 0 < with_split < len(manifest):
        raise SplitError(
            f"{len(manifest) - with_split} of {len(manifest)} images have no split. Give all one, or none."
        )
    for label in manifest.classes:
        _check_folder_name(label)
    used: dict[tuple[str, ...], set[str]] = {}
    places: list[tuple[tuple[str, ...], str]] = []
    for item in manifest.items:
        if item.label is None:
            raise DataError(f"{item.path} has no label, so it belongs into no class folder. Write a table.")
        parts = (item.label,) if item.split is None else (item.split, item.label)
        places.append((parts, _free_name(Path(item.path).name, used.setdefault(parts, set()))))
    return places


def _check_folder_name(label: str) -> None:
    """Refuse class names that are no folder names, or that would be skipped when read again."""
    separators = [mark for mark in ("/", os.sep, os.altsep, "\0") if mark and mark in label]
    if separators or not label or housekeeping(label) or len(os.fsencode(label)) > _MAX_NAME:
        raise DataError(f"The class {label!r} cannot be the name of a folder. Rename it, or write a table.")


def _free_name(name: str, used: set[str]) -> str:
    """`name`, or the first of name-2, name-3, ... that is free, whatever the case; never hidden."""
    visible = name if housekeeping(name) is None else f"image_{name}"
    stem, ending = Path(visible).stem, Path(visible).suffix
    free, number = visible, 1
    while free.casefold() in used:
        number += 1
        free = f"{stem}-{number}{ending}"
    used.add(free.casefold())
    return free
