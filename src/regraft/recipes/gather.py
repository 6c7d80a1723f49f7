"""From what the user named to features: read, hash, extract, quarantine. Shared by all verbs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.data.cells import open_table
from regraft.data.checks import drop_unlabelled, duplicate_conflicts, group_conflicts
from regraft.data.manifest import Manifest, Skipped, check_not_empty, hash_items
from regraft.data.names import so_many
from regraft.data.read import is_table, read_data
from regraft.data.rows import absolute
from regraft.data.table import Further, further_columns
from regraft.data.tasks import label_words, means_tasks, parse_tasks
from regraft.errors import DataError, OptionError, TooManyRejected
from regraft.features.external import read_features
from regraft.features.frozen import features_of
from regraft.features.runtime import cores
from regraft.features.table import FeatureTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regraft.features.extract import Extraction
    from regraft.features.frozen import Frozen
    from regraft.recipes.listen import Clock, Listener

_SHOWN, _REASONS = 3, 5


def check_numbers(*, seed: object = 0, max_rejected: object = 0.0, max_pixels: object = 1) -> None:
    """Refuse numbers that would fail or mislead later on.

    Raises:
        OptionError: naming the value and what was expected.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise OptionError(f"seed is {seed!r}; expected a whole number from 0 to {2**32 - 1}")
    if isinstance(max_rejected, bool) or not isinstance(max_rejected, int | float) or not 0 <= max_rejected <= 1:
        raise OptionError(f"max-rejected is {max_rejected!r}; expected a share from 0 to 1, such as 0.05")
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise OptionError(f"max-pixels is {max_pixels!r}; expected a whole number above 0, such as 200000000")


def check_flags(**values: object) -> None:
    """Refuse what is neither true nor false: the text "no" would count as yes.

    Raises:
        OptionError: naming the value and what was expected.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise OptionError(f"{name.replace('_', '-')} is {value!r}; expected True or False")


@dataclass(frozen=True)
class Source:
    """What the user named as data with one column of classes, and how to read it. Fields are the options so called."""

    data: str | os.PathLike[str]
    root: str | os.PathLike[str] | None = None
    label: str | list[str] | None = None
    path_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None

    def read(self) -> Manifest:
        """Read it.

        Raises:
            DataError: nothing there that could be images.
            OptionError: no name of data, or `label` is not one column of classes.
        """
        return read_data(
            self._name(),
            root=None if self.root is None else Path(self.root),
            label_column=self._label(),
            path_column=self.path_column,
            split_column=self.split_column,
            group_column=self.group_column,
        )

    def further(self) -> Further | None:
        """What a table says beyond path, label, split and group; None where the data is no table.

        Raises:
            DataError, OptionError: as `read`.
        """
        if not is_table(self._name()):
            return None
        columns = {"path": self.path_column, "split": self.split_column, "group": self.group_column}
        return further_columns(self._name(), {**columns, "label": self._label()}, root=self.root)

    def _name(self) -> str:
        if not isinstance(self.data, str | os.PathLike):
            raise OptionError(f"data is {self.data!r}; expected a folder, a table or sample:textile")
        return os.fspath(self.data)

    def _label(self) -> str | None:
        """The one column of classes."""
        words = label_words(self.label)
        if len(words) > 1:
            raise OptionError(
                f"label names {len(words)} columns ({', '.join(words)}); here one column of classes is expected"
            )
        if not means_tasks(words) or not is_table(self._name()):
            return words[0] if words else None
        (task,) = parse_tasks(words, open_table(absolute(self._name())))
        if task.kind != "classes":
            raise OptionError(
                f"label {words[0]!r} asks for {task.kind}; here one column of classes is expected. Other tasks are for"
                " `regraft train`."
            )
        return task.columns[0]


@dataclass(frozen=True)
class Gathered:
    """Images with features.

    Attributes:
        manifest: only images that have features; row i of the table belongs to item i.
        table: the features.
        rejected: images that could not be decoded.
        extraction: counts, notes and times; None where features came from a file.
        about: what the writer of a feature file said of the features.
        blocks: widths of the features of several backbones that stand side by side; one or none for one.
    """

    manifest: Manifest
    table: FeatureTable
    rejected: tuple[Skipped, ...]
    extraction: Extraction | None
    about: dict[str, Any] = field(default_factory=dict)
    blocks: tuple[int, ...] = ()

    def take(self, rows: Sequence[int]) -> Gathered:
        """Some of the images, by position."""
        table = replace(
            self.table, keys=tuple(self.table.keys[n] for n in rows), features=self.table.features[list(rows)]
        )
        manifest = replace(self.manifest, items=tuple(self.manifest.items[n] for n in rows))
        return replace(self, manifest=manifest, table=table)

    def split(self, name: str) -> Gathered:
        """The images of one split."""
        return self.take([n for n, item in enumerate(self.manifest.items) if item.split == name])


def read_and_hash(
    source: Source, clock: Clock, listener: Listener, *, labelled: bool
) -> tuple[Manifest, list[Skipped]]:
    """The manifest with keys, and the files that could not be opened.

    Raises:
        DataError: no images, or, with `labelled`, no labels.
    """
    with clock.phase("read"):
        manifest = source.read()
        if labelled:
            before = manifest
            manifest = drop_unlabelled(manifest)
            if before.items and not manifest.items:
                raise DataError(
                    f"None of the {len(before)} images in {source.data} has a label. Put each class into a folder of"
                    f" its own, or name the table's column with --label."
                )
    return hashed(manifest, clock, listener)


def hashed(manifest: Manifest, clock: Clock, listener: Listener) -> tuple[Manifest, list[Skipped]]:
    """The manifest with keys, and the files that could not be opened; what was skipped is told.

    Raises:
        DataError: no images.
    """
    with clock.phase("read"):
        check_not_empty(manifest)
        items, lost = hash_items(manifest.items)
    for hint in manifest.hints:
        listener.warn(hint)
    tell_skipped(manifest.skipped, listener)
    return replace(manifest, items=tuple(items)), lost


def tell_skipped(files: Sequence[Skipped], listener: Listener) -> None:
    """Say what was found and is not part of the data, by its reasons."""
    reasons: dict[str, list[str]] = {}
    for skipped in files:
        reasons.setdefault(skipped.reason, []).append(skipped.path)
    for reason, paths in list(reasons.items())[:_REASONS]:
        listener.say(f"skipped {len(paths)}: {reason}, such as {paths[0]}")
    if len(reasons) > _REASONS:
        listener.say(f"skipped others for {len(reasons) - _REASONS} more reasons")


def gather(
    manifest: Manifest,
    lost: Sequence[Skipped],
    backbones: Sequence[Frozen],
    cache: Path,
    clock: Clock,
    listener: Listener,
    *,
    max_pixels: int,
    max_rejected: float,
) -> Gathered:
    """Features of a hashed manifest; unreadable images are quarantined.

    Raises:
        TooManyRejected: more than the share `max_rejected` of the images could not be read.
    """
    found = features_of(manifest.items, backbones, cache, max_pixels=max_pixels, on_progress=listener.progress)
    decode = found.decode_seconds / cores()  # its share of the wall time, which it divides with inference
    clock.add("decode", decode)
    clock.add("inference", max(0.0, found.seconds - decode))
    rejected = (*lost, *found.rejected)
    again = len(found.items) * len(backbones) - found.from_store - found.computed
    listener.say(
        f"features of {len(found.items)} images{f' by {len(backbones)} backbones' if len(backbones) > 1 else ''}:"
        f" {found.from_store} from the store, {found.computed} computed"
        + (f", {again} identical to another" if again > 0 else "")
    )
    check_rejected(rejected, len(manifest) + len(lost), max_rejected, listener)
    blocks = tuple(one.card.feature_dim for one in backbones)
    return Gathered(replace(manifest, items=found.items), found.table, rejected, found, blocks=blocks)


def check_rejected(rejected: Sequence[Skipped], total: int, max_rejected: float, listener: Listener) -> None:
    """Warn of images that cannot be read, or stop.

    Raises:
        TooManyRejected: they are more than the share `max_rejected` of all.
    """
    if len(rejected) > max_rejected * total:
        raise TooManyRejected(
            f"{len(rejected)} of {total} images cannot be read, more than the share {max_rejected:g} that is allowed:"
            f" {_first(rejected)}. Mend or remove them, or allow more with --max-rejected."
        )
    if rejected:
        listener.warn(f"{len(rejected)} of {total} images cannot be read and were left out: {_first(rejected)}")


def _first(rejected: Sequence[Skipped]) -> str:
    more = f" and {len(rejected) - _SHOWN} more" if len(rejected) > _SHOWN else ""
    return "; ".join(f"{s.path} ({s.reason})" for s in rejected[:_SHOWN]) + more


def gather_file(
    features: Path, source: Source | None, clock: Clock, listener: Listener, *, max_rejected: float
) -> Gathered:
    """Features from a file; labels from the file, or from the data where both are given (joined by key).

    Raises:
        DataError: the file cannot be used, has no labels, or has no row for some of the data's images.
    """
    if source is None:
        with clock.phase("read"):
            file = read_features(features)
            labelled = [n for n, item in enumerate(file.manifest.items) if item.label is not None]
            if not labelled:
                raise DataError(
                    f"{features} has no labels. Add an array `labels` (N,), or name the labelled data as well."
                )
        listener.say(f"features of {len(labelled)} images from {features}, {file.table.features.shape[1]} wide")
        return Gathered(file.manifest, file.table, (), None, file.about, _blocks(file.about)).take(labelled)
    manifest, lost = read_and_hash(source, clock, listener, labelled=True)
    return join_file(features, manifest, lost, clock, listener, max_rejected=max_rejected)


def join_file(
    features: Path,
    manifest: Manifest,
    lost: Sequence[Skipped],
    clock: Clock,
    listener: Listener,
    *,
    max_rejected: float,
) -> Gathered:
    """Features from a file for a hashed manifest, joined by key.

    Raises:
        DataError: the file cannot be used, or has no row for some of the images.
        TooManyRejected: more than the share `max_rejected` of the images could not be opened.
    """
    check_rejected(lost, len(manifest) + len(lost), max_rejected, listener)
    with clock.phase("read"):
        file = read_features(features)
        row = {key: n for n, key in enumerate(file.table.keys)}
        absent = [item for item in manifest.items if item.key not in row]
        if absent:
            raise DataError(
                f"{features} has no features for {len(absent)} of {len(manifest)} images, such as {absent[0].path}"
                f" (compared by the SHA-256 of the image file, array `keys`). Compute them again with regraft embed."
            )
        order = [row[str(item.key)] for item in manifest.items]
    table = FeatureTable(tuple(str(i.key) for i in manifest.items), file.table.features[order], file.table.fingerprints)
    listener.say(f"features of {len(manifest)} images from {features}, {file.table.features.shape[1]} wide")
    return Gathered(manifest, table, tuple(lost), None, file.about, _blocks(file.about))


def _blocks(about: dict[str, Any]) -> tuple[int, ...]:
    """Widths of several backbones' features in a file of ours."""
    return tuple(about.get("blocks") or ())


def warn_of_leaks(manifest: Manifest, listener: Listener) -> list[str]:
    """Say what makes the numbers too good: identical files or groups across splits, contradicting labels."""
    said = []
    duplicates = duplicate_conflicts(manifest)
    across = [c for c in duplicates if len(c.splits) > 1]
    contradicting = [c for c in duplicates if len(c.labels) > 1]
    groups = group_conflicts(manifest)
    if across:
        said.append(
            f"{so_many(len(across), 'image stands', 'images stand')} in more than one split as identical files (such as"
            f" {across[0].paths[0]}): the numbers are too good by {'it' if len(across) == 1 else 'them'}"
        )
    if contradicting:
        said.append(
            f"{so_many(len(contradicting), 'image stands', 'images stand')} twice with different labels (such as"
            f" {contradicting[0].paths[0]}: {' and '.join(contradicting[0].labels)})"
        )
    if groups:
        said.append(
            f"{so_many(len(groups), 'group has', 'groups have')} images in more than one split (such as"
            f" {groups[0].name})"
        )
    for sentence in said:
        listener.warn(sentence)
    return said
