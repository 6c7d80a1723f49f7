"""What may be wrong with pairs although every file is fine, in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regraft.data.bands import has_rasterio, hush_rasterio
from regraft.data.names import so_many
from regraft.data.pair_splits import shared_scenes
from regraft.inference.change.align import differs
from regraft.inference.change.rasters import open_raster

if TYPE_CHECKING:
    from regraft.data.pair_checks import PairSurvey
    from regraft.data.pairs import Pair, Pairs

_TIFF = {".tif", ".tiff"}
_LOOKED_AT = 500


def leaks(pairs: Pairs) -> list[str]:
    """What makes the numbers too good, or the learning pointless, in sentences."""
    said: list[str] = []
    first: dict[str, Pair] = {}
    across = [
        (first[item.key], item)
        for item in pairs.items
        if item.key is not None and first.setdefault(item.key, item).split != item.split
    ]
    if across:
        one, other = across[0]
        said.append(
            f"{so_many(len(across), 'pair stands', 'pairs stand')} in more than one split as identical files (such as"
            f" {one.name} and {other.name}): the numbers are too good by {'it' if len(across) == 1 else 'them'}"
        )
    shared = shared_scenes(pairs)
    if shared:
        said.append(
            f"by their names, tiles of {so_many(shared, 'scene', 'scenes')} are in more than one split: the numbers are"
            " too good"
        )
    same = [item.name for item in pairs.items if item.before == item.after]
    if same:
        said.append(
            f"{so_many(len(same), 'pair has', 'pairs have')} the same file as both dates (such as {same[0]}): nothing"
            " can be learnt from it"
        )
    return said


def one_sided(survey: PairSurvey) -> list[str]:
    """A warning where every labelled pixel changed, in which nothing can be told apart."""
    counts = survey.class_pixels.sum(0)
    if counts[0] or not counts.sum():
        return []
    return ["every labelled pixel is changed: a model cannot learn what is not. Are the masks the right way round?"]


def alpha_bands(pairs: Pairs) -> list[str]:
    """A warning where a GeoTIFF's last band is marked as transparency, as programs do with a fourth band unasked."""
    first = pairs.items[0].before
    if Path(first).suffix.lower() not in _TIFF or not has_rasterio():
        return []
    import rasterio
    from rasterio.enums import ColorInterp

    hush_rasterio()
    with rasterio.open(first) as raster:
        if ColorInterp.alpha not in raster.colorinterp:
            return []
        number = raster.colorinterp.index(ColorInterp.alpha) + 1
    said = (
        f"band {number} of {first} is marked as transparency and is not learnt from; where it is one of the image's,"
        " such as near infrared, mark it so (in rasterio: colorinterp undefined)"
    )
    return [said]


def other_grids(pairs: Pairs) -> list[str]:
    """A warning where the two dates of a GeoTIFF pair lie on different grids; of the first pairs only."""
    if not has_rasterio():
        return []
    apart = []
    for item in pairs.items[:_LOOKED_AT]:
        if {Path(path).suffix.lower() for path in (item.before, item.after)} <= _TIFF:
            with open_raster(item.before) as first, open_raster(item.after) as second:
                if told := differs(first, second):
                    apart.append(told)
    if not apart:
        return []
    said = (
        f"{so_many(len(apart), 'pair has', 'pairs have')} dates on different grids, so their pixels may not be of one"
        f" place: {apart[0]}"
    )
    return [said]
