"""Do the two dates lie on one grid? If not, the second is read on the grid of the first, where that is asked for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from regraft.data.decode import MAX_PIXELS
from regraft.errors import DataError
from regraft.inference.change.rasters import Raster, from_dataset, open_raster, same_bands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOLERANCE = 0.01
"""Grids whose corners differ by less than this share of a pixel are one grid: coordinates are rounded when written."""


@contextlib.contextmanager
def open_pair(
    before: str | Path, after: str | Path, *, align: bool = False, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[Raster, Raster, tuple[str, ...]]]:
    """Open both dates of a scene, on one grid.

    Args:
        before: the first date, whose grid it is.
        after: the second.
        align: read the second on the grid of the first (bilinear, no data outside of it) if it has another.
        max_pixels: as of `open_raster`.

    Returns:
        The first, the second, and notices.

    Raises:
        DataError: they differ in grid, extent, CRS, bands or kind of values; or one of them cannot be opened.
    """
    with open_raster(before, max_pixels=max_pixels) as first, open_raster(after, max_pixels=max_pixels) as second:
        difference = differs(first, second)
        if not difference:
            same_bands(first, second)
            yield first, second, _without_grid(first)
            return
        if first.transform is None or second.transform is None:
            yield first, second, (_without_coordinates(first, second, difference, align=align),)
            return
        if not align:
            raise DataError(
                f"the two dates do not lie on one grid: {difference}. Give --align to read {second.path} on the grid "
                f"of {first.path}."
            )
        with _warped(first, second) as warped:
            same_bands(first, warped)
            yield first, warped, (f"{second.path} is read on the grid of {first.path} (bilinear): {difference}",)


def differs(first: Raster, second: Raster) -> str:
    """What the grids differ in, with both values; empty where they are one grid."""
    if first.transform is None and second.transform is None:
        return _sizes(first, second)
    if first.transform is None or second.transform is None:
        return "; ".join(part for part in (_sizes(first, second), _placed(first, second)) if part)
    if first.crs != second.crs:
        return f"{first.path} has {_grid(first)}, {second.path} has {_grid(second)}"
    if first.size == second.size and _corners_apart(first, second) < TOLERANCE:
        return ""
    return f"{first.path} has {_grid(first)}, {second.path} has {_grid(second)}"


def _sizes(first: Raster, second: Raster) -> str:
    if first.size == second.size:
        return ""
    (height, width), (other_height, other_width) = first.size, second.size
    return f"{first.path} has {width} x {height} pixels, {second.path} has {other_width} x {other_height}"


def _placed(first: Raster, second: Raster) -> str:
    with_it, without = (first, second) if second.transform is None else (second, first)
    return f"{with_it.path} has coordinates ({_grid(with_it)}), {without.path} has none"


def _without_coordinates(first: Raster, second: Raster, difference: str, *, align: bool) -> str:
    """The notice under which a pair goes on of which not both have coordinates, or an error."""
    if first.size != second.size:
        raise DataError(
            f"the two dates have unequal sizes: {difference}. Without coordinates in both they cannot be aligned: cut "
            "both to the same area first."
        )
    if not align:
        raise DataError(
            f"the two dates do not agree: {difference}. If they lie pixel on pixel nevertheless, give --align."
        )
    same_bands(first, second)
    return f"taken to lie pixel on pixel: {difference}"


def _without_grid(raster: Raster) -> tuple[str, ...]:
    """A notice where a file knows its place only by control points, which maps do not keep."""
    if raster.transform is not None or raster.dataset is None or not raster.dataset.gcps[0]:
        return ()
    return (f"{raster.path} has control points but no grid, so the map has no coordinates: gdalwarp both dates first",)


def _grid(raster: Raster) -> str:
    """CRS, size, resolution and bounds in words."""
    across, down = _resolution(raster.transform)
    left, bottom, right, top = bounds(raster)
    return (
        f"{_crs_name(raster.crs)}, {raster.size[1]} x {raster.size[0]} pixels of {across:.9g} x {down:.9g}, "
        f"bounds {left:.10g} {bottom:.10g} {right:.10g} {top:.10g}"
    )


def _crs_name(crs: Any) -> str:
    if crs is None:
        return "no CRS"
    code = crs.to_epsg()
    return f"EPSG:{code}" if code is not None else f"the CRS {crs.to_wkt()[:60]}..."


def _resolution(transform: Any) -> tuple[float, float]:
    """Length of a pixel's sides, also on a rotated grid."""
    return (transform.a**2 + transform.d**2) ** 0.5, (transform.b**2 + transform.e**2) ** 0.5


def _corners(raster: Raster) -> list[tuple[float, float]]:
    height, width = raster.size
    return [placed(raster.transform, *corner) for corner in ((0, 0), (width, 0), (width, height), (0, height))]


def placed(transform: Any, across: float, down: float) -> tuple[float, float]:
    """An affine transform of a point; written out, as its operator is another in affine 2 and 3."""
    return (
        float(transform.a * across + transform.b * down + transform.c),
        float(transform.d * across + transform.e * down + transform.f),
    )


def bounds(raster: Raster) -> tuple[float, float, float, float]:
    """Left, bottom, right and top in coordinates, of a raster that has them; of a rotated one, what holds it."""
    across, down = zip(*_corners(raster), strict=True)
    return min(across), min(down), max(across), max(down)


def _corners_apart(first: Raster, second: Raster) -> float:
    """The largest distance of like corners, in pixels of the first."""
    back = ~first.transform
    pairs = zip(_corners(first), _corners(second), strict=True)
    inside = [(placed(back, *one), placed(back, *other)) for one, other in pairs]
    return max(max(abs(a - c), abs(b - d)) for (a, b), (c, d) in inside)


@contextlib.contextmanager
def _warped(first: Raster, second: Raster) -> Iterator[Raster]:
    """The second raster on the grid of the first."""
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.vrt import WarpedVRT

    for raster in (first, second):
        if raster.crs is None:
            raise DataError(f"{raster.path} has no CRS, so the dates cannot be aligned: set one (gdal_edit -a_srs).")
    _check_overlap(first, second)
    alpha = ColorInterp.alpha in second.dataset.colorinterp
    with WarpedVRT(
        second.dataset,
        crs=first.crs,
        transform=first.transform,
        height=first.size[0],
        width=first.size[1],
        resampling=Resampling.bilinear,
        # What lies outside of the second must not look like black ground.
        add_alpha=second.nodata is None and not alpha,
    ) as dataset:
        yield from_dataset(dataset, second.path)


def _check_overlap(first: Raster, second: Raster) -> None:
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    own = bounds(first)
    try:
        other = transform_bounds(second.crs, first.crs, *bounds(second))
    except RasterioError as error:
        raise DataError(
            f"{second.path} ({_crs_name(second.crs)}) cannot be brought to {_crs_name(first.crs)}: {error}"
        ) from error
    if own[0] >= other[2] or other[0] >= own[2] or own[1] >= other[3] or other[1] >= own[3]:
        raise DataError(
            f"the two dates do not overlap: {first.path} has {_grid(first)}, {second.path} has {_grid(second)}."
        )
