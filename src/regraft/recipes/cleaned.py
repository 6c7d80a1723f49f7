"""The cleaned manifest: what a check would leave out, and why; no file of the user's is touched."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.atomic import check_writable, write_text
from regraft.data.lookalikes import clusters
from regraft.data.manifest import SPLITS
from regraft.data.rows import absolute, written_path
from regraft.data.targets import check_file_target
from regraft.data.write import write_manifest
from regraft.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regraft.data.manifest import Item, Manifest, Skipped
    from regraft.data.table import Further

_ENDINGS = {".csv", ".tsv", ".parquet"}


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be said of one image of the data.

    Attributes:
        path: where it is.
        label: its class, or None.
        what: "left out" or "label suspect".
        why: in a sentence.
    """

    path: str
    label: str | None
    what: str
    why: str


def check_clean_target(target: Path, data: Path, *, overwrite: bool) -> None:
    """Refuse what could not be written, and what would replace the data themselves, before any work is done.

    Raises:
        OptionError: no table, or the very table that is checked.
        RunExists: a file stands there.
        CannotWrite: the place cannot be written to.
    """
    if target.suffix.lower() not in _ENDINGS:
        raise OptionError(f"--clean {target}: expected a table that ends in {', '.join(sorted(_ENDINGS))}")
    for path in (target, remarks_path(target)):
        if path.exists() and data.exists() and path.samefile(data):
            raise OptionError(f"--clean {target} would replace the data themselves ({data}); name another file")
        check_file_target(path, overwrite=overwrite)
        check_writable(path)


def remarks_path(target: Path) -> Path:
    """The file beside the cleaned manifest that says what was left out: clean.csv -> clean.remarks.csv."""
    return target.with_name(f"{target.stem}.remarks.csv")


def cleaned(
    manifest: Manifest, pairs: Iterable[tuple[int, int]], rejected: Iterable[Skipped]
) -> tuple[Manifest, list[Remark]]:
    """The manifest less what makes numbers wrong, and what was left out.

    Left out are: files that cannot be read; of identical files all but one, and all of them where their labels differ;
    of near-duplicates in several splits those outside the last of these splits (test, else val), so that what is
    measured on stays as it is. Near-duplicates within one split stay; where there are no splits yet they get a group in
    common (unless one of them has a group), so that no split divides them. Labels are never changed.

    Args:
        manifest: with keys.
        pairs: positions of near-duplicates.
        rejected: files that cannot be read, which are not in the manifest any more.
    """
    remarks = [Remark(s.path, None, "left out", s.reason) for s in rejected]
    items = manifest.items
    first: dict[str, int] = {}
    joined = list(pairs) + [(first.setdefault(str(item.key), row), row) for row, item in enumerate(items)]
    members: dict[int, list[int]] = {}
    for row, cluster in enumerate(clusters(len(items), joined).tolist()):
        members.setdefault(cluster, []).append(row)
    kept: list[Item | None] = list(items)
    for cluster, rows in members.items():
        if len(rows) == 1:
            continue
        for row, why in _left_out(items, rows).items():
            kept[row] = None
            remarks.append(Remark(items[row].path, items[row].label, "left out", why))
        left = [row for row in rows if kept[row] is not None]
        if len(left) > 1 and all(items[row].split is None and items[row].group is None for row in left):
            for row in left:
                kept[row] = replace(items[row], group=f"near-duplicates-{cluster}")
    return replace(manifest, items=tuple(item for item in kept if item is not None)), remarks


def _left_out(items: tuple[Item, ...], rows: list[int]) -> dict[int, str]:
    """Of images that show the same picture, which go, and why."""
    gone: dict[int, str] = {}
    rank = {split: n for n, split in enumerate(SPLITS)}
    last = max((rank.get(items[row].split or "", -1) for row in rows), default=-1)
    keeper = next(row for row in rows if rank.get(items[row].split or "", -1) == last)
    by_key: dict[str | None, list[int]] = {}
    for row in rows:
        by_key.setdefault(items[row].key, []).append(row)
    for same in by_key.values():
        labels = {label for row in same if (label := items[row].label) is not None}
        if len(labels) > 1:
            gone.update(dict.fromkeys(same, f"identical files have the labels {' and '.join(sorted(labels))}"))
            continue
        best = max(same, key=lambda row: (rank.get(items[row].split or "", -1), items[row].label is not None, -row))
        for row in same:
            if row != best:
                gone[row] = f"identical to {items[best].path}"
            elif rank.get(items[row].split or "", -1) < last:
                gone[row] = f"a near-duplicate of {items[keeper].path}, which is in {items[keeper].split}"
    return gone


def write_cleaned(
    manifest: Manifest, remarks: Iterable[Remark], target: Path, *, overwrite: bool, further: Further | None = None
) -> None:
    """Write the manifest as a table, with the further columns of the data's own, and the remarks as CSV beside it.

    Raises:
        RunExists: a file stands there.
        CannotWrite: the place cannot be written to.
    """
    write_manifest(manifest, target, overwrite=overwrite, further=further)
    beside = remarks_path(target)
    check_file_target(beside, overwrite=overwrite)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("path", "label", "what", "why"))
    folder = str(Path(absolute(beside)).parent)
    writer.writerows((written_path(r.path, folder), r.label or "", r.what, r.why) for r in remarks)
    write_text(beside, buffer.getvalue())
