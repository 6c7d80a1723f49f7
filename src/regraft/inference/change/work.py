"""The folder of a scene that is not finished: `NAME.regraft-part`, beside the map that it becomes.

    work.json          what the rows are of: files, model, tile, overlap, ...
    stripe-00012.npz   what is decided of the rows of pixels that the 13th row of tiles finished
    carry-00012.npz    what it said of the rows that the next one finishes with it
    out-*              maps and polygons, complete, on their way to their places
    finished.json      written when all of these are there: from then on they are only moved

Each file is complete or absent. A carry is written before its stripe and goes after the next one, so whenever the
process is killed the last stripe has its carry, and going on gives the same numbers as never having stopped.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import atomic_file, remove_leftovers, write_text
from regraft.errors import DataError, OptionError, RunExists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX = ".regraft-part"
OUT = "out-"
_FACTS = "work.json"
_FINISHED = "finished.json"
_OURS = (_FACTS, _FINISHED, "stripe-*.npz", "carry-*.npz", f"{OUT}*", ".lock", ".regraft-tmp~*")


def work_folder(output: Path) -> Path:
    """Where the work on a map is kept until it is done."""
    return output.with_name(output.name + SUFFIX)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes out of the folder; one in which no row is finished goes in the end.

    Raises:
        RunExists: another process works there.
        OptionError: there are files in it that Regraft did not write.
    """
    import filelock

    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is where unfinished work is kept, but is a file: move it away first.")
    folder.mkdir(parents=True, exist_ok=True)
    foreign = sorted(p.name for p in folder.iterdir() if not any(p.match(pattern) for pattern in _OURS))
    if foreign:
        raise OptionError(f"{folder} is where unfinished work is kept, but holds {foreign[0]}: move that away first.")
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            remove_leftovers(folder)
            try:
                yield
            finally:
                if not _stripe(folder, 0).exists() and not (folder / _FINISHED).exists():
                    remove(folder)
    except filelock.Timeout as error:
        raise RunExists(
            f"{folder} is in use: another process is predicting this scene. Wait for it, or choose another output."
        ) from error


def begin(folder: Path, facts: dict[str, Any], say: Callable[[str], None]) -> int:
    """How many rows of tiles are done already; work on anything else than `facts` is removed, with a sentence."""
    facts = json.loads(json.dumps(facts))
    found = _read(folder / _FACTS)
    if found == facts:
        return _rows(folder)
    if _rows(folder):
        known = found if isinstance(found, dict) else {}
        other = ", ".join(sorted(key for key in facts if known.get(key) != facts[key]))
        say(f"the unfinished work in {folder} is of another {other}: starting anew")
    remove(folder, keep=(".lock",))
    write_text(folder / _FACTS, json.dumps(facts, indent=1))
    return 0


def save_row(
    folder: Path, row: int, mask: NDArray[np.uint8], probability: NDArray[np.float32], carried: NDArray[np.float64]
) -> None:
    """Keep what a row of tiles finished (n, width), and what it carries on (K, h, width)."""
    with atomic_file(_carry(folder, row)) as temporary:
        np.savez(temporary, carried=carried)
    with atomic_file(_stripe(folder, row)) as temporary:
        np.savez(temporary, mask=mask, probability=probability)
    if row:
        _carry(folder, row - 1).unlink(missing_ok=True)


def carried(folder: Path, row: int) -> NDArray[np.float64]:
    """What a row of tiles carried on: (K, h, width)."""
    values: NDArray[np.float64] = _loaded(_carry(folder, row), "carried")[0]
    return values


def stripes(folder: Path, rows: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Mask and probability (n, width) of each row of tiles, from the first on."""
    for row in range(rows):
        mask, probability = _loaded(_stripe(folder, row), "mask", "probability")
        yield mask, probability


def finish(folder: Path, content: dict[str, Any]) -> None:
    """Note that all products are there."""
    write_text(folder / _FINISHED, json.dumps(content, indent=1))


def finished(folder: Path) -> dict[str, Any] | None:
    """What `finish` noted, or None."""
    found = _read(folder / _FINISHED)
    return found if isinstance(found, dict) else None


def move(source: Path, target: Path) -> None:
    """Give a complete file its place, also on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_file(target) as temporary:
            shutil.copyfile(source, temporary)
        source.unlink()


def remove(folder: Path, *, keep: tuple[str, ...] = ()) -> None:
    """Remove what Regraft wrote there, and the folder if nothing else is in it.

    What says that all is done goes last: a kill in between leaves a folder that is still understood.
    """
    paths = sorted({path for pattern in _OURS for path in folder.glob(pattern)}, key=lambda p: p.name == _FINISHED)
    for path in paths:
        if path.name not in keep:
            with contextlib.suppress(OSError):  # a lock that is held cannot be removed everywhere
                path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _rows(folder: Path) -> int:
    """Rows of tiles that are done, from the first on without a gap; the last has its carry."""
    rows = 0
    while _stripe(folder, rows).exists():
        rows += 1
    return rows if rows and _carry(folder, rows - 1).exists() else 0


def _stripe(folder: Path, row: int) -> Path:
    return folder / f"stripe-{row:05d}.npz"


def _carry(folder: Path, row: int) -> Path:
    return folder / f"carry-{row:05d}.npz"


def _loaded(path: Path, *names: str) -> list[NDArray[Any]]:
    try:
        with np.load(path) as file:
            return [file[name] for name in names]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged: remove the folder {path.parent} to start anew.") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
