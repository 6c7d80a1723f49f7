"""`regraft manifest`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from regraft.cli import terminal
from regraft.data.manifest import check_not_empty, hash_items
from regraft.data.pair_splits import split_pairs
from regraft.data.read import read_data
from regraft.data.splits import make_splits
from regraft.data.write import write_manifest
from regraft.errors import OptionError, RunExists
from regraft.recipes.change_data import names_pairs, read_named

_SHOWN = 10


def manifest(
    data: str,
    /,
    *,
    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
    form: Literal["csv", "tsv", "parquet", "meta", "folders"] | None = None,
    copy: Annotated[bool, Parameter(negative="")] = False,
    split: Annotated[bool, Parameter(negative="")] = False,
    resplit: Annotated[bool, Parameter(negative="")] = False,
    seed: int = 0,
    take: str | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    root: str | None = None,
    label: str | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> int:
    """Turn one description of labelled images, or of pairs of two dates, into another; no image is moved or changed.

    Args:
        data: A folder (of class folders, of Stanford-40 layout, of meta lists), a table, a list, or sample:textile.
        output: A table (.csv, .tsv, .parquet) or, with --form meta or folders, a new folder.
        form: What to write; by default what the ending of the output says.
        copy: With --form folders, copy the images instead of linking to them.
        split: Make splits where there are none.
        resplit: Make new splits although there are some.
        seed: Another seed gives other splits.
        take: Numbers of images a class for train, dev and test, in the order of file names, as in 5,5,5.
        overwrite: Replace the output if it exists.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels.
        path_column: The table's column with the paths.
        split_column: The table's column with train, val, test.
        group_column: The table's column with groups.
    """
    if output is None:
        raise OptionError("where to? Name a table with -o manifest.csv, or a folder with -o FOLDER --form meta|folders")
    if names_pairs(data, "auto"):
        given = {"--take": take, "--root": root, "--label": label, "--path-column": path_column}
        given |= {"--split-column": split_column, "--group-column": group_column}
        if flags := [flag for flag, value in given.items() if value is not None]:
            raise OptionError(f"{', '.join(flags)}: no effect with pairs of two dates; leave it out")
        if form not in {None, "csv"} or copy or Path(output).suffix.lower() != ".csv":
            raise OptionError(f"{output}: a table of pairs is written as .csv; choose this ending, and no other --form")
        return _pairs(data, Path(output), split=split, resplit=resplit, seed=seed, overwrite=overwrite)
    found = check_not_empty(
        read_data(
            data,
            root=None if root is None else Path(root),
            label_column=label,
            path_column=path_column,
            split_column=split_column,
            group_column=group_column,
            take=None if take is None else _numbers(take),
        )
    )
    for hint in found.hints:
        terminal.line(f"warning: {hint}", error=True)
    items, lost = hash_items(found.items)
    found = replace(found, items=tuple(items), skipped=(*found.skipped, *lost))
    if split or resplit:
        found = make_splits(found, seed=seed, resplit=resplit)
    write_manifest(found, Path(output), form=form, copy=copy, overwrite=overwrite)
    sizes = ", ".join(f"{name} {size}" for name, size in found.split_sizes().items()) or "no splits"
    terminal.line(f"wrote {output}: {len(found)} images, {len(found.classes)} classes, {sizes}")
    for skipped in found.skipped[:_SHOWN]:
        terminal.line(f"skipped {skipped.path}: {skipped.reason}", error=True)
    if len(found.skipped) > _SHOWN:
        terminal.line(f"skipped {len(found.skipped) - _SHOWN} more", error=True)
    return 0


def _pairs(data: str, target: Path, *, split: bool, resplit: bool, seed: int, overwrite: bool) -> int:
    """A table of change pairs, a row each."""
    if target.exists() and not overwrite:
        raise RunExists(f"{target} exists already. Choose another name, or replace it with --overwrite.")
    found = read_named(data, labelled=False)
    if split or resplit:
        found = split_pairs(found, seed=seed, resplit=resplit)
    found.write(target)
    sizes = ", ".join(f"{name} {size}" for name, size in found.split_sizes().items()) or "no splits"
    terminal.line(f"wrote {target}: {len(found)} pairs, {sizes}")
    return 0


def _numbers(take: str) -> tuple[int, int, int]:
    parts = take.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):  # noqa: PLR2004
        raise OptionError(f"--take {take!r}: expected three numbers for train, dev and test, as in 5,5,5")
    train, dev, test = (int(part) for part in parts)
    return train, dev, test
