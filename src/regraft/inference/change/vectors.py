"""Changed areas as polygons, with what is known of each: GeoPackage or GeoJSON (RFC 7946).

One polygon is one area of one class whose pixels touch along their sides (4-connected), with its holes; so polygons are
valid, and their pixels are those of the mask. Areas that touch only at corners are several polygons. The whole mask
and the numbers of its areas are held: some 7 bytes a pixel, 450 MB for 8192 x 8192.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import atomic_file, write_text
from regraft.errors import CannotWrite, MissingExtra, OptionError
from regraft.inference.change.rasters import quiet_gdal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_ENDINGS = (".gpkg", ".geojson")
_ROWS = 512  # read at once
_DIGITS = 8  # of a degree: a millimetre
# WGS 84: semi-major axis in metres, and eccentricity.
_AXIS = 6378137.0
_ECCENTRICITY = 0.0818191908426215


@dataclass(frozen=True)
class Areas:
    """Connected areas of changed pixels.

    Attributes:
        labels: (H, W) int32, 0 for none, else the number of an area.
        number: (N,) of each area that is kept.
        kind: (N,) its class.
        pixels: (N,) its pixels.
        area: (N,) square metres; square units where there is no CRS.
        probability: (N,) mean of its pixels' probability of change.
    """

    labels: NDArray[np.int32]
    number: NDArray[np.int64]
    kind: NDArray[np.int64]
    pixels: NDArray[np.int64]
    area: NDArray[np.float64]
    probability: NDArray[np.float64]


def check(target: Path, *, min_area: float, simplify: float) -> None:
    """Refuse what cannot be written, before anything is computed.

    Raises:
        OptionError: an ending, area or tolerance that is not taken.
        MissingExtra: a package of the extra `geo` is not installed.
    """
    ending = target.suffix.lower()
    if ending not in _ENDINGS:
        raise OptionError(f"{target} ends in {ending or 'nothing'}: polygons are written as {' or '.join(_ENDINGS)}.")
    for name, value in (("min-area", min_area), ("simplify", simplify)):
        if not 0 <= value < np.inf:
            raise OptionError(f"{name} is {value}: expected a number, 0 or more.")
    try:
        import rasterio  # noqa: F401
        import shapely  # noqa: F401

        if ending == ".gpkg":
            import pyogrio  # noqa: F401
    except ImportError as error:
        raise MissingExtra(error.name or "rasterio", "geo", "writing polygons") from error


def polygons(
    mask: Path,
    probability: Path,
    target: Path,
    *,
    classes: Sequence[str] = ("unchanged", "changed"),
    min_area: float = 0.0,
    simplify: float = 0.0,
    layer: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Write the polygons of a mask.

    Each has `id`, `class` (name), `area`, `pixels` and `probability` (mean over its pixels). The area is that of the
    pixels, before simplification: square metres where there is a CRS (by the CRS's own plane if it is projected, on
    the WGS 84 ellipsoid if it is geographic), else square units of the transform, else pixels. Without any area a
    valid, empty layer is written.

    Args:
        mask: GeoTIFF of classes, 255 for no data.
        probability: GeoTIFF of the same grid.
        target: .gpkg in the mask's CRS, or .geojson in longitude and latitude (RFC 7946).
        classes: names by number.
        min_area: smaller areas are left out; in the units of `area`.
        simplify: how far an outline may move, in pixels; 1 takes the stairs off. Each polygon stays valid, but
            neighbours of different classes may come to overlap a little.
        layer: name of the GeoPackage's layer; the file's name by default.
        say: told how many there are.

    Returns:
        Notices.

    Raises:
        OptionError, MissingExtra: as of `check`.
        CannotWrite: the disk is full, say.
    """
    import rasterio

    check(target, min_area=min_area, simplify=simplify)
    notices = []
    with quiet_gdal(), rasterio.open(mask) as file, rasterio.open(probability) as values:
        crs, transform = file.crs, file.transform
        if crs is None or not (crs.is_geographic or crs.is_projected):
            crs = None  # a plane of its own, which is nowhere on the earth
            notices.append(f"the polygons have no CRS: coordinates and areas are in {_units(transform)}")
        areas = _areas(file, values, pixel_areas(transform, crs, file.height, file.width), min_area)
        shapes = _shapes(areas, simplify, transform)
        fields = _fields(areas, classes)
        if target.suffix.lower() == ".gpkg":
            _write_geopackage(target, shapes, fields, crs, layer or target.stem)
        else:
            _write_geojson(target, shapes, fields, crs)
    count = len(areas.number)
    say(f"{count} changed area{'' if count == 1 else 's'} as polygons")
    return notices


def _units(transform: Any) -> str:
    return "pixels" if transform.is_identity else "units of the image's transform"


def pixel_areas(transform: Any, crs: Any, height: int, width: int) -> NDArray[np.float64]:
    """Area of a pixel of each row (height,): square metres with a CRS, else square units of the transform.

    On a geographic grid the area between two latitudes is taken on the WGS 84 ellipsoid, in closed form (Snyder, Map
    Projections: A Working Manual, 1987, equation 3-12). On a rotated one it is that at the row's middle.
    """
    plane = abs(transform.a * transform.e - transform.b * transform.d)
    if crs is None or not crs.is_geographic:
        unit = 1.0 if crs is None else crs.linear_units_factor[1]
        return np.full(height, plane * unit**2)
    across, down = np.hypot(transform.a, transform.d), plane / np.hypot(transform.a, transform.d)
    middles = transform.f + transform.d * width / 2 + transform.e * (np.arange(height) + 0.5)
    edges = np.radians(np.clip([middles - down / 2, middles + down / 2], -90, 90))
    zones = np.abs(np.diff(_authalic(np.sin(edges)), axis=0)[0])
    found: NDArray[np.float64] = _AXIS**2 / 2 * zones * np.radians(across)
    return found


def _authalic(sine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Snyder's q of the sine of latitudes; a^2 q / 2 is the area from the equator, per radian of longitude."""
    e = _ECCENTRICITY
    return (1 - e**2) * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)


def _areas(mask: Any, probability: Any, pixel: NDArray[np.float64], min_area: float) -> Areas:
    """Number the areas of a mask, and measure them, reading the probabilities by rows."""
    labels, kinds = _labelled(mask.read(1), no_data=mask.nodata)
    count = len(kinds)
    pixels, area, sums = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)
    for top, values in _rows_of(probability):
        part = labels[top : top + len(values)]
        flat = part.ravel()
        each = np.repeat(pixel[top : top + len(values)], part.shape[1])
        pixels += np.bincount(flat, minlength=count)
        area += np.bincount(flat, each, minlength=count)
        sums += np.bincount(flat, values.ravel(), minlength=count)
    kept = (area >= min_area) & (kinds > 0)
    if not kept[1:].all():
        np.multiply(labels, kept[labels], out=labels)
    number = np.flatnonzero(kept)
    return Areas(labels, number, kinds[number], pixels[number], area[number], sums[number] / pixels[number])


def _labelled(mask: NDArray[np.uint8], no_data: float | None) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number of the 4-connected area of each pixel (H, W), 0 for none; class of each number, 0 for 0."""
    from scipy import ndimage

    labels = np.zeros(mask.shape, np.int32)
    kinds = [np.zeros(1, np.int64)]
    total = 0
    for kind in range(1, int(mask[mask != no_data].max(initial=0)) + 1):
        inside = mask == kind
        if not inside.any():
            continue
        if total == 0:
            count = ndimage.label(inside, output=labels)
        else:
            own, count = ndimage.label(inside)
            labels[inside] = own[inside] + total
        kinds.append(np.full(count, kind, np.int64))
        total += count
    return labels, np.concatenate(kinds)


def _rows_of(file: Any) -> Iterator[tuple[int, NDArray[np.float32]]]:
    from rasterio.windows import Window

    for top in range(0, file.height, _ROWS):
        yield top, file.read(1, window=Window(0, top, file.width, min(_ROWS, file.height - top)))


def _shapes(areas: Areas, simplify: float, transform: Any) -> NDArray[Any]:
    """One shapely polygon an area (N,), in the order of the areas, in coordinates."""
    import shapely
    from rasterio import features

    found: dict[int, Any] = {}
    # Outlines are traced and simplified in pixels, and then placed: so the tolerance means the same in every CRS.
    for outline, number in features.shapes(areas.labels, mask=areas.labels > 0, connectivity=4):
        rings = outline["coordinates"]
        found[int(number)] = shapely.Polygon(rings[0], rings[1:])
    shapes = np.array([found[int(number)] for number in areas.number], dtype=object)
    if simplify:
        shapes = shapely.simplify(shapes, simplify, preserve_topology=True)
    matrix = np.array([[transform.a, transform.d], [transform.b, transform.e]])
    placed: NDArray[Any] = shapely.transform(shapes, lambda at: at @ matrix + [transform.c, transform.f])
    return placed


def _fields(areas: Areas, classes: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The attributes, by name, (N,) each."""
    named = np.array([*classes, *(f"class {number}" for number in range(len(classes), 256))], dtype=object)
    return {
        "id": np.arange(1, len(areas.number) + 1, dtype=np.int64),
        "class": named[areas.kind],
        "area": areas.area,
        "pixels": areas.pixels,
        "probability": areas.probability,
    }


def _write_geopackage(
    target: Path, shapes: NDArray[Any], fields: dict[str, NDArray[Any]], crs: Any, layer: str
) -> None:
    import shapely
    from pyogrio import errors, raw, read_info

    with atomic_file(target) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # said in a notice
        try:
            raw.write(
                str(temporary),
                shapely.to_wkb(shapes),
                list(fields.values()),
                list(fields),
                layer=layer,
                driver="GPKG",
                geometry_type="Polygon",
                crs=None if crs is None else crs.to_wkt(),
            )
            whole = read_info(str(temporary))["features"] == len(shapes)
        except (errors.DataSourceError, errors.DataLayerError, errors.FeatureError) as error:
            raise CannotWrite(f"{target} cannot be written: {error}. Nothing was left there.") from error
        if not whole:
            raise CannotWrite(f"{target} cannot be written: is the disk full? Nothing was left there.")


def _write_geojson(target: Path, shapes: NDArray[Any], fields: dict[str, NDArray[Any]], crs: Any) -> None:
    """RFC 7946: longitude and latitude in WGS 84, outer rings anticlockwise."""
    import shapely
    from rasterio.warp import transform_geom

    outlines = [json.loads(text) for text in shapely.to_geojson(shapes)]
    if crs is not None and outlines:
        outlines = transform_geom(crs, "OGC:CRS84", outlines)
    columns = [column.tolist() for column in fields.values()]
    lines = []
    for outline, *values in zip(outlines, *columns, strict=True):
        shape = shapely.orient_polygons(shapely.Polygon(outline["coordinates"][0], outline["coordinates"][1:]))
        rings = [
            np.round(shapely.get_coordinates(ring), _DIGITS).tolist() for ring in (shape.exterior, *shape.interiors)
        ]
        own = {
            "type": "Feature",
            "properties": dict(zip(fields, values, strict=True)),
            "geometry": {"type": "Polygon", "coordinates": rings},
        }
        lines.append(json.dumps(own, ensure_ascii=False))
    write_text(target, '{"type": "FeatureCollection", "features": [\n' + ",\n".join(lines) + "\n]}\n")
