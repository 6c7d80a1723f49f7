"""Feature files: ours written for others, others' read for our heads (the pipeline way of mixing frameworks).

An `.npz` holds the arrays `keys` (or `paths`) and `features` (N, D), and where known `labels`, `splits` and
`groups`, all without pickle. A `.parquet` holds the same as columns, features as one list column.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import atomic_file, check_writable
from regraft.data.cells import need_pyarrow
from regraft.data.manifest import SPLITS, Item, Manifest
from regraft.data.names import natural_sort, split_of, split_words
from regraft.errors import DataError, OptionError, RunExists, SplitError
from regraft.features.table import FeatureTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENDINGS = (".npz", ".parquet")


@dataclass(frozen=True)
class FeatureFile:
    """Features computed elsewhere.

    Attributes:
        manifest: one item a row; paths and keys as far as the file has them.
        table: the features; row i belongs to `manifest.items[i]`.
        about: what the writer said of them: for our own files backbone, views, precision, runtime.
    """

    manifest: Manifest
    table: FeatureTable
    about: dict[str, Any]


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a file name that `write_features` could not write, before the work is done.

    Raises:
        OptionError: an ending other than .npz or .parquet.
        RunExists: the file exists and `overwrite` is false.
        MissingExtra: Parquet without pyarrow.
    """
    if target.suffix.lower() not in _ENDINGS:
        raise OptionError(f"{target}: features are written as .npz or .parquet; choose one of these endings")
    if target.exists() and not overwrite:
        raise RunExists(f"{target} exists already. Choose another name, or replace it with --overwrite.")
    check_writable(target)
    if target.suffix.lower() == ".parquet":
        need_pyarrow("writing Parquet")


def write_features(
    items: tuple[Item, ...],
    table: FeatureTable,
    target: Path,
    about: dict[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write features with their keys, paths, labels, splits and groups, atomically.

    Args:
        items: row i of the table belongs to item i.
        table: the features.
        target: a new .npz or .parquet file.
        about: JSON values that say what the features are; kept inside as `about`.
        overwrite: replace an existing file.
    """
    check_target(target, overwrite=overwrite)
    columns = {
        "keys": list(table.keys),
        "paths": [i.path for i in items],
        "labels": [i.label or "" for i in items],
        "splits": [i.split or "" for i in items],
        "groups": [i.group or "" for i in items],
    }
    with atomic_file(target) as temporary:
        if target.suffix.lower() == ".npz":
            arrays: dict[str, NDArray[Any]] = {name: np.array(values, np.str_) for name, values in columns.items()}
            with temporary.open("wb") as handle:
                np.savez(
                    handle,
                    allow_pickle=False,
                    features=table.features,
                    about=np.array(json.dumps(about)),
                    **arrays,
                )
            return
        _write_parquet(columns, table.features, about, temporary)


def _write_parquet(
    columns: dict[str, list[str]], features: NDArray[np.float32], about: dict[str, Any], path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Parquet strings are UTF-8: bytes of a file name that are not are written as \xNN.
    texts = {name: [v.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for v in values]
             for name, values in columns.items()}  # fmt: skip
    flat = pa.array(np.ascontiguousarray(features).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
    table = pa.table({**texts, "features": lists})
    pq.write_table(table.replace_schema_metadata({"about": json.dumps(about)}), path)


def read_features(path: Path) -> FeatureFile:
    """Read a feature file that Regraft or any other program wrote.

    Raises:
        DataError: not such a file, columns missing or of unequal length, or features that are not finite.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected a feature file (.npz or .parquet)"
        )
    if path.suffix.lower() not in _ENDINGS:
        raise DataError(f"{path}: expected a feature file ending in .npz or .parquet")
    try:
        columns = _read_npz(path) if path.suffix.lower() == ".npz" else _read_parquet(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as a feature file ({str(error).splitlines()[0]})") from error
    return _assemble(path, columns)


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("a single array; save it with np.savez(FILE, features=..., labels=...)")  # noqa: TRY004
    with archive:
        return {name: archive[name] for name in archive.files}


def _read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    need_pyarrow("reading Parquet")
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    columns = {name: np.array(table.column(name).to_pylist()) for name in table.column_names if name != "features"}
    if "features" in table.column_names:
        columns["features"] = np.array(table.column("features").to_pylist(), np.float32)
    if b"about" in (table.schema.metadata or {}):
        columns["about"] = np.array(table.schema.metadata[b"about"].decode())
    return columns


def _assemble(path: Path, columns: dict[str, NDArray[Any]]) -> FeatureFile:
    features = columns.get("features")
    if features is None or features.ndim != 2 or not len(features):  # noqa: PLR2004
        shape = "none" if features is None else str(features.shape)
        raise DataError(
            f"{path}: expected an array `features` of shape (N, D), found {shape}; it has {sorted(columns)}"
        )
    if not np.issubdtype(features.dtype, np.number):
        raise DataError(f"{path}: `features` must be numbers, found {features.dtype}")
    n = len(features)
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(features, np.float32)
    broken = int((~np.isfinite(rows)).any(axis=1).sum())
    if broken:
        raise DataError(f"{path}: {broken} of {n} rows of `features` hold NaN, infinite or too large values; mend them")
    names = _texts(path, columns, ("paths", "keys"), n) or [f"row {i}" for i in range(n)]
    keys = _texts(path, columns, ("keys",), n)
    labels = _texts(path, columns, ("labels", "label", "y"), n)
    splits = _texts(path, columns, ("splits", "split"), n)
    groups = _texts(path, columns, ("groups", "group"), n)
    items = tuple(
        Item(
            names[i],
            (labels[i] or None) if labels else None,
            _split(path, splits[i]) if splits else None,
            (groups[i] or None) if groups else None,
            keys[i] if keys else hashlib.sha256(rows[i].tobytes()).hexdigest(),
        )
        for i in range(n)
    )
    _check_splits(path, items)
    classes = natural_sort({item.label for item in items if item.label is not None})
    fingerprint = hashlib.sha256(rows.tobytes()).hexdigest()[:32]
    return FeatureFile(
        Manifest(items, classes, str(path)),
        FeatureTable(tuple(str(i.key) for i in items), rows, (f"file:{fingerprint}",)),
        _about(columns),
    )


def _about(columns: dict[str, NDArray[Any]]) -> dict[str, Any]:
    try:
        about = json.loads(str(columns["about"]))
    except (KeyError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _texts(path: Path, columns: dict[str, NDArray[Any]], names: tuple[str, ...], n: int) -> list[str] | None:
    for name in names:
        if name in columns:
            values = columns[name]
            if values.shape != (n,):
                raise DataError(f"{path}: `{name}` has shape {values.shape}, but there are {n} rows of features")
            # NaN is how a column of numbers says that one is missing.
            return ["" if value is None or value != value else str(value) for value in values.tolist()]  # noqa: PLR0124
    return None


def _split(path: Path, word: str) -> str | None:
    if not word:
        return None
    split = split_of(word)
    if split is None:
        raise SplitError(f"{path}: unknown split {word!r}; expected {split_words()}")
    return split


def _check_splits(path: Path, items: tuple[Item, ...]) -> None:
    without = sum(item.split is None for item in items)
    if 0 < without < len(items):
        raise SplitError(
            f"{path}: {without} of {len(items)} rows have no split; give every row one of {', '.join(SPLITS)}, or none"
        )
