"""One date of a scene, read by windows however large the file is.

TIFF (COG, BigTIFF), JPEG 2000 and 16-bit PNG are read through rasterio, a window at a time; the other formats have no
blocks to read alone and are decoded whole by `regraft.data.decode`, up to `max_pixels`.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.containers import format_of, not_an_image
from regraft.data.decode import MAX_PIXELS, read_image
from regraft.errors import DataError, ImageRejected, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

DTYPES = ("uint8", "uint16", "int16", "float32")
"""What values may be; float64 is read as float32."""

CACHE_MB = 128
"""GDAL's cache of blocks: two rows of tiles of two dates, 8192 pixels wide. By itself it takes 5 % of the memory."""

_WINDOWED = {"TIFF", "JPEG 2000"}
_PNG_DEPTH = 24  # the byte of a PNG that holds the bits of a sample
_SIXTEEN = 16
# Tags that Pillow would drop: scale, tie points, matrix and keys of the coordinates, GDAL's nodata.
_GEO_TAGS = {33550, 33922, 34264, 34735, 42113}

Window = tuple[int, int, int, int]
"""Top row, left column, height, width in pixels; within the raster."""


@dataclass(frozen=True)
class Raster:
    """A file of pixels, which may lie on the earth.

    Attributes:
        path: for messages.
        size: height and width in pixels.
        bands: without a band of transparency.
        dtype: one of `DTYPES`.
        nodata: the value that means "no data", or None; NaN and masks are not told here.
        crs: a rasterio CRS, or None.
        transform: (column, row) -> coordinates, an Affine; None where the file has no coordinates.
        pixels: window -> (h, w, C), as `read` gives it.
        has_data: window -> (h, w), as `valid` gives it.
        dataset: the open rasterio dataset, or None for a decoded picture.
    """

    path: str
    size: tuple[int, int]
    bands: int
    dtype: str
    nodata: float | None
    crs: Any
    transform: Any
    pixels: Callable[[Window], NDArray[Any]]
    has_data: Callable[[Window], NDArray[np.bool_]]
    dataset: Any = None

    def read(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """The values of a window (h, w, C); 0 where a band has no data.

        Raises:
            ImageRejected: the file is damaged there.
        """
        return self.pixels((top, left, height, width))

    def valid(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
        """Where there are data (h, w): some band is neither nodata nor masked, and every band is finite."""
        return self.has_data((top, left, height, width))


@contextlib.contextmanager
def open_raster(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[Raster]:
    """Open one date of a scene.

    Args:
        path: TIFF or JPEG 2000 of any size, or a picture.
        max_pixels: cap on the pixels of a picture that is decoded whole.

    Raises:
        ImageRejected: it cannot be opened, or holds values that are not read.
        MissingExtra: it needs rasterio, which is not installed.
    """
    name = os.fspath(path)
    head = _head_of(name)
    kind = format_of(head)
    if kind is None:
        raise ImageRejected(name, not_an_image(head))
    deep = kind == "PNG" and head[_PNG_DEPTH : _PNG_DEPTH + 1] == bytes([_SIXTEEN])
    if kind in _WINDOWED or deep:
        rasterio = _rasterio()
        if rasterio is not None:
            with _opened(rasterio, name) as dataset:
                yield from_dataset(dataset, name)
            return
        if deep or not _is_plain(name):
            raise MissingExtra("rasterio", "geo", f"reading {name}, a {'16-bit PNG' if deep else 'GeoTIFF'},")
    yield _decoded(name, max_pixels)


def from_dataset(dataset: Any, path: str) -> Raster:
    """An open rasterio dataset, or a `WarpedVRT` of one, as a raster.

    Raises:
        ImageRejected: its bands hold what is not read.
    """
    from rasterio.enums import ColorInterp, MaskFlags

    colours = dataset.colorinterp
    bands = [number for number, colour in enumerate(colours, 1) if colour != ColorInterp.alpha]
    dtype = _dtype_of(dataset, bands, path)
    if ColorInterp.palette in colours:
        raise ImageRejected(path, "holds numbers of a palette, not colours: expand it (gdal_translate -expand rgb)")
    # A WarpedVRT has a band of transparency, but its masks do not know of it: so that is read as it is.
    alpha = colours.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colours else None
    flags = [dataset.mask_flag_enums[band - 1] for band in bands]
    complete = alpha is None and all(flag == [MaskFlags.all_valid] for flag in flags)

    def masks(window: Window) -> NDArray[np.bool_]:
        found = _guarded(path, window, lambda at: dataset.read_masks(bands, window=at) > 0)
        return found if alpha is None else found & _guarded(path, window, lambda at: dataset.read(alpha, window=at) > 0)

    def values(window: Window) -> NDArray[Any]:
        return _guarded(path, window, lambda at: dataset.read(bands, window=at, out_dtype=dtype))

    def pixels(window: Window) -> NDArray[Any]:
        found = values(window)
        if not complete:
            found[~masks(window)] = 0
        if dtype == "float32":
            found[~np.isfinite(found)] = 0
        return np.ascontiguousarray(found.transpose(1, 2, 0))

    def has_data(window: Window) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.ones(window[2:], bool)
        if not complete:
            found &= masks(window).any(axis=0)
        if dtype == "float32":
            held = values(window)
            found &= (np.isfinite(held) | ~masks(window)).all(axis=0)  # NaN is fine where it stands for nodata
        return found

    placed = dataset.crs is not None or not dataset.transform.is_identity
    transform = dataset.transform if placed else None
    size = (dataset.height, dataset.width)
    return Raster(path, size, len(bands), dtype, dataset.nodata, dataset.crs, transform, pixels, has_data, dataset)


def _dtype_of(dataset: Any, bands: list[int], path: str) -> str:
    if not bands:
        raise ImageRejected(path, "has no band but one of transparency")
    kinds = {dataset.dtypes[band - 1] for band in bands}
    if len(kinds) == 1 and kinds <= set(DTYPES):
        return str(kinds.pop())
    if kinds <= {"float32", "float64"}:
        return "float32"
    raise ImageRejected(
        path, f"its bands are {', '.join(sorted(kinds))}; read are {', '.join(DTYPES)}, the same for all: convert it"
    )


def _guarded(path: str, window: Window, read: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """Read a window, and say where the file is damaged if it is."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as At

    top, left, height, width = window
    try:
        return read(At(left, top, width, height))
    except (RasterioError, MemoryError) as error:
        where = f"rows {top} to {top + height - 1}, columns {left} to {left + width - 1}"
        reason = str(error.__cause__ or error).strip().rstrip(".") or "too little memory"
        raise ImageRejected(
            path, f"{where} cannot be read ({reason}). The file is damaged or incomplete: copy or make it again."
        ) from error


@contextlib.contextmanager
def quiet_gdal() -> Iterator[None]:
    """GDAL with a bounded cache, and no warning about files without coordinates: those are fine here."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    # Whether the folder holds side files is asked for each by name: listing a folder of 100,000 scenes is slow.
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def _opened(rasterio: Any, name: str) -> Iterator[Any]:
    with quiet_gdal():
        try:
            dataset = rasterio.open(name)
        except rasterio.errors.RasterioError as error:
            reason = str(error.__cause__ or error).strip().rstrip(".").replace(f"{name}: ", "")
            raise ImageRejected(
                name, f"cannot be opened ({reason}). The file is damaged or incomplete: copy or make it again."
            ) from error
        with dataset:
            yield dataset


def _rasterio() -> Any:
    try:
        import rasterio
    except ImportError:
        return None
    return rasterio


def _head_of(name: str) -> bytes:
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - a path with undecodable bytes stays a str
            return file.read(64)
    except (OSError, ValueError) as error:
        raise ImageRejected(name, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _is_plain(name: str) -> bool:
    """Whether a TIFF is 8-bit RGB without coordinates and nodata, of which Pillow loses nothing."""
    from PIL import Image

    try:
        with Image.open(name) as image:
            tags = set(getattr(image, "tag_v2", ()))
            return image.format == "TIFF" and image.mode == "RGB" and not tags & _GEO_TAGS
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _decoded(name: str, max_pixels: int) -> Raster:
    values = np.asarray(read_image(name, max_pixels=max_pixels).image)
    size = (values.shape[0], values.shape[1])

    def pixels(window: Window) -> NDArray[Any]:
        top, left, height, width = window
        return values[top : top + height, left : left + width].copy()

    def has_data(window: Window) -> NDArray[np.bool_]:
        return np.ones(window[2:], bool)

    return Raster(name, size, values.shape[2], "uint8", None, None, None, pixels, has_data)


def described(raster: Raster) -> str:
    """Size, bands and kind of values, in words."""
    height, width = raster.size
    bands = f"{raster.bands} band{'' if raster.bands == 1 else 's'}"
    return f"{width} x {height} pixels, {bands} of {raster.dtype}"


def same_bands(before: Raster, after: Raster) -> None:
    """Raise `DataError` unless both dates hold the same number of bands of the same kind of values."""
    if (before.bands, before.dtype) != (after.bands, after.dtype):
        raise DataError(
            f"the two dates differ: {before.path} has {before.bands} bands of {before.dtype}, {after.path} has "
            f"{after.bands} of {after.dtype}. Both must have those that the model was trained on."
        )
