"""Columns and cells of CSV, TSV and Parquet files, as text, with the place of each row for messages."""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class Cells:
    """Some cells of one row.

    Attributes:
        where: file and line or row number.
        values: the cells that were asked for, in that order; empty text where there is nothing.
        problem: why the row cannot be used, or empty. `values` is empty then.
    """

    where: str
    values: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """An opened table.

    Attributes:
        name: the file's name without folder, for messages.
        columns: the header.
        rows: given positions in `columns`, yields the cells there, row by row.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[int]], Iterator[Cells]]


def open_table(path: str) -> Table:
    """Open a table by its ending: .parquet; .tsv and .txt with tabs; .csv with commas, semicolons or tabs.

    Raises:
        DataError: the file cannot be read or is no table.
        MissingExtra: a Parquet file, and pyarrow is not installed.
    """
    ending = Path(path).suffix.lower()
    if ending == ".parquet":
        return _open_parquet(path)
    return _open_text(path, delimiters=(",", ";", "\t") if ending == ".csv" else ("\t",))


def read_text(path: str | Path) -> str:
    """The file as text: UTF-8, or UTF-16 with its mark. Bytes that are neither survive as surrogates.

    Raises:
        DataError: the file cannot be read or is not text.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:4096]:
        raise DataError(f"{path} is not a text file. Save it as CSV, TSV or Parquet.")
    return data.decode("utf-8-sig", "surrogateescape")


def _open_text(path: str, delimiters: tuple[str, ...]) -> Table:
    name = Path(path).name
    text = read_text(path)
    # The delimiter that finds the most columns in the header; the first of equals.
    headers = [(_header(text, delimiter), delimiter) for delimiter in delimiters]
    header, delimiter = max(headers, key=lambda pair: len(pair[0]))
    if not header:
        raise DataError(f"{path} has no header. Expected a first line with the names of the columns.")

    def rows(positions: Sequence[int]) -> Iterator[Cells]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return _text_rows(reader, name, positions)

    return Table(name, tuple(header), rows)


def _header(text: str, delimiter: str) -> list[str]:
    """The first line's cells; none when it cannot be read with this delimiter."""
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _text_rows(reader: Any, name: str, positions: Sequence[int]) -> Iterator[Cells]:
    """Cells of a CSV file. A row with too few or too many cells is not guessed at."""
    width = len(next(reader))
    while True:
        first_line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # An unclosed quote has swallowed every row after it, which must not pass as one bad row.
            if "unexpected end" in str(error):
                raise DataError(
                    f"{name}, line {first_line}: a cell begins with a quote that is never closed. Close it,"
                    f" or double each quote that belongs to the text."
                ) from error
            yield Cells(f"{name}, line {first_line}", problem=f"malformed row ({error})")
            continue
        if not row:
            continue
        where = f"{name}, line {first_line}"
        if len(row) > width and not any(row[width:]):
            row = row[:width]
        if len(row) != width:
            advice = "; a cell that holds the delimiter needs quotes" if len(row) > width else ""
            yield Cells(where, problem=f"{len(row)} cells where the header has {width}{advice}")
        else:
            yield Cells(where, tuple(row[position] for position in positions))


def need_pyarrow(purpose: str) -> None:
    """Raise `MissingExtra` where pyarrow, which every use of Parquet needs, is not installed."""
    try:
        import pyarrow as pa  # noqa: F401 - whoever calls imports what it uses
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", purpose) from None


def _open_parquet(path: str) -> Table:
    need_pyarrow("reading Parquet tables")
    from pyarrow import ArrowException, parquet, types

    name = Path(path).name
    try:
        schema = parquet.read_schema(path)
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a Parquet file ({_first_line(error)}).") from error

    def rows(positions: Sequence[int]) -> Iterator[Cells]:
        names = [schema.names[position] for position in positions]
        for position, column in zip(positions, names, strict=True):
            kind = schema.field(position).type
            if types.is_nested(kind):
                raise DataError(f"{name}: column {column!r} holds {kind}, not text. Name a column of plain values.")
        try:
            yield from _parquet_rows(parquet.ParquetFile(path), name, names)
        except (ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as a Parquet file ({_first_line(error)}).") from error

    return Table(name, tuple(schema.names), rows)


def _parquet_rows(file: Any, name: str, columns: list[str]) -> Iterator[Cells]:
    number = 0
    with file:
        for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
            for values in zip(*(batch.column(column).to_pylist() for column in columns), strict=True):
                number += 1
                yield Cells(f"{name}, row {number}", tuple(_as_text(value) for value in values))


def _as_text(value: Any) -> str:
    """A Parquet value as a CSV would hold it; null and not-a-number are empty."""
    if value is None or value != value:  # noqa: PLR0124 - only not-a-number differs from itself
        return ""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
