"""What changed in many pairs of dates, by a trained model: a folder of maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.atomic import check_writable, write_text
from regraft.data.manifest import csv_text
from regraft.errors import DataError, OptionError, RunExists
from regraft.recipes.change_data import read_named
from regraft.recipes.listen import Listener

if TYPE_CHECKING:
    import os

    from regraft.inference.change.predictor import ChangePredictor

_LISTENER = Listener()
_TIFF = {".tif", ".tiff"}
SUMMARY = "summary.csv"


def map_pairs(
    model: ChangePredictor,
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    vector: str | None = None,
    overwrite: bool = False,
    listener: Listener = _LISTENER,
    **how: Any,
) -> list[tuple[str, float | None, str]]:
    """Map what changed in every pair of a folder or table; labels are not needed.

    Each map has the name of its pair: .tif for TIFF, .png otherwise. A pair that cannot be predicted does not stop the
    others. `summary.csv` says how much of each changed.

    Args:
        model: from `regraft.load_change`.
        folder: with the folders A and B, or a table with the columns before and after.
        output: a folder for all maps.
        vector: polygons too: "gpkg" or "geojson".
        overwrite: replace maps that are there.
        listener: is told what happens.
        how: further options of `ChangePredictor.map_scene`.

    Returns:
        The name of each pair, the share of changed pixels (None where nothing is known), and what went wrong or "".

    Raises:
        RegraftError: no pairs there, or the output cannot be written.
    """
    pairs = read_named(folder, labelled=False)
    target = Path(output)
    summary = target / SUMMARY
    if target.exists() and not target.is_dir():
        raise OptionError(f"{target} is a file; with --pairs the output is a folder for all maps")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise RunExists(f"{target} is not empty. Choose another folder, or replace the maps in it with --overwrite.")
    places = _places([pair.name for pair in pairs.items], [pair.before for pair in pairs.items], target)
    check_writable(summary)
    target.mkdir(parents=True, exist_ok=True)
    found: list[tuple[str, float | None, str]] = []
    for number, (pair, place) in enumerate(zip(pairs.items, places, strict=True)):
        place.parent.mkdir(parents=True, exist_ok=True)
        shape = None if vector is None else place.with_suffix(f".{vector}")
        try:
            result = model.map_scene(pair.before, pair.after, place, vector=shape, overwrite=overwrite, **how)
            found.append((pair.name, result.changed, ""))
        except DataError as error:
            listener.warn(f"{pair.name}: {error}")
            found.append((pair.name, None, str(error)))
        listener.progress(number + 1, len(pairs))
    rows = [[name, "" if share is None else f"{share:.6f}", error] for name, share, error in found]
    write_text(summary, csv_text(("name", "changed", "error"), rows))
    return found


def _places(names: list[str], befores: list[str], target: Path) -> list[Path]:
    """Where each map goes: the pair's name with the ending of a format that keeps what it must."""
    places = []
    for name, before in zip(names, befores, strict=True):
        if not Path(name).name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"the pair {name!r} would be written outside of {target}: give it another name")
        ending = ".tif" if Path(before).suffix.lower() in _TIFF else ".png"
        places.append((target / name).with_suffix(ending))
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise DataError(f"two pairs would be written to {twice}: give them names that differ by more than their ending")
    return places
