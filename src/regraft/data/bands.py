"""Images of any number of bands and of more than 8 bits, as arrays; and the scale on which a network sees them."""

from __future__ import annotations

import importlib.util
import io
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from regraft.data.containers import check_length, check_size, format_of, read_png
from regraft.data.decode import MAX_PIXELS, decode
from regraft.errors import ImageRejected, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

DTYPES = ("uint8", "uint16", "int16", "float32")

_RGB = 3
_SAMPLE = 20_000  # pixels of one array that count for its scale
_LOW, _HIGH = 2, 98  # percentiles; clouds and sensor faults lie beyond


@dataclass(frozen=True, slots=True)
class Bands:
    """One image.

    Attributes:
        values: (H, W, C) of one of `DTYPES`; 0 in all bands where a pixel is not valid, and never NaN or infinite.
        valid: (H, W) bool, False where a pixel is the file's nodata, transparent (alpha 0), NaN or infinite; None
            where all are valid. Such pixels of either date are not learnt from.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None = None


def read_bands(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """The values of `load_bands`: (H, W, C) uint8, uint16, int16 or float32."""
    return load_bands(path, max_pixels=max_pixels).values


def load_bands(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Bands:
    """Read a whole image with all its bands.

    JPEG, BMP, WebP and 8-bit PNG become upright RGB by the decoder of `regraft.data.decode`. TIFF and 16-bit PNG are
    read by rasterio with their own bands and type (float64 as float32), alpha apart; orientation tags are not
    looked at there, as georeferenced images have none. Without rasterio, TIFF of 8-bit RGB goes through the decoder.

    Raises:
        ImageRejected: it cannot be read whole, or has values of another type.
        MissingExtra: a file that needs rasterio, which is not installed.
    """
    name = os.fspath(path)
    try:
        data = Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise ImageRejected(name, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    kind = format_of(data)
    if kind == "TIFF":
        if has_rasterio():
            return _by_rasterio(name, "GTiff", max_pixels)
        _refuse_other_than_rgb(data, name)
    if kind == "PNG" and read_png(data, name)[0].sixteen_bit:
        if not has_rasterio():
            raise MissingExtra("rasterio", "geo", f"reading PNG of 16 bits ({name})")
        return _by_rasterio(name, "PNG", max_pixels)
    decoded = decode(data, path=name, max_pixels=max_pixels)
    shown = _shown(data, name) if kind in {"PNG", "WebP"} else None
    values = np.asarray(decoded.image)
    return Bands(values) if shown is None else Bands(values * shown[..., None], shown)


def has_rasterio() -> bool:
    """Whether the package that reads rasters is installed."""
    return importlib.util.find_spec("rasterio") is not None


def hush_rasterio() -> None:
    """Let rasterio not warn of images without coordinates, in the whole process.

    `warnings.catch_warnings` would be tidier, but it is not safe in threads.
    """
    from rasterio.errors import NotGeoreferencedWarning

    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


def _refuse_other_than_rgb(data: bytes, name: str) -> None:
    """Raise `MissingExtra` for a TIFF that the 8-bit RGB decoder would change."""
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            plain = image.mode == "RGB"
    except Exception:  # noqa: BLE001 - Pillow raises many kinds; what is broken and what is not known look alike
        check_length(data, "TIFF", name)
        plain = False
    if not plain:
        raise MissingExtra("rasterio", "geo", f"reading TIFF with other than 8-bit RGB bands ({name})")


def _shown(data: bytes, name: str) -> NDArray[np.bool_] | None:
    """Where an image is not wholly transparent, upright; None where that is everywhere."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "WEBP"]) as image:
            if not image.has_transparency_data:
                return None
            shown = np.asarray(ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")) > 0
    except Exception as error:
        raise ImageRejected(name, f"its transparency cannot be read ({error})") from error
    return None if shown.all() else shown


def _by_rasterio(name: str, driver: str, max_pixels: int) -> Bands:
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.errors import RasterioError

    hush_rasterio()
    try:
        with rasterio.open(name, driver=driver) as raster:
            check_size((raster.width, raster.height), name, max_pixels)
            if ColorInterp.palette in raster.colorinterp:
                raise ImageRejected(name, "an image with a palette: save it as RGB")
            bands = [b for b, use in zip(raster.indexes, raster.colorinterp, strict=True) if use != ColorInterp.alpha]
            values = raster.read(bands)
            valid = raster.dataset_mask() > 0
    except (RasterioError, ValueError) as error:
        raise ImageRejected(name, f"broken or not whole ({str(error).partition(chr(10))[0][:160]})") from error
    values = np.ascontiguousarray(values.transpose(1, 2, 0))
    if values.dtype == np.float64:
        with np.errstate(over="ignore"):  # too large a number becomes infinite, and so not valid
            values = values.astype(np.float32)
    if values.dtype.name not in DTYPES:
        raise ImageRejected(name, f"values of type {values.dtype.name}; save them as one of {', '.join(DTYPES)}")
    if values.dtype == np.float32:
        valid &= np.isfinite(values).all(-1)
    if valid.all():
        return Bands(values)
    values[~valid] = 0
    return Bands(values, valid)


@dataclass(frozen=True)
class BandScale:
    """How values become what the network is given: (value - offset) * scale, band by band.

    Attributes:
        offset: (C,) in the unit of the values.
        scale: (C,) per that unit; 0 for a band that is the same everywhere, of which nothing can be learnt.
    """

    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """(..., C) values as float32 (..., C); NaN becomes 0."""
        given = (values - np.array(self.offset, np.float32)) * np.array(self.scale, np.float32)
        return np.nan_to_num(given.astype(np.float32, copy=False), copy=False, nan=0.0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BandScale:
        """From what `to_dict` gave."""
        return cls(*(tuple(float(value) for value in values[name]) for name in ("offset", "scale")))


def scale_for(
    mean: ArrayLike, std: ArrayLike, dtype: str | np.dtype[Any], bands: int, sample: Iterable[NDArray[Any]]
) -> BandScale:
    """The scale for images of a type and number of bands.

    8-bit RGB is divided by 255 and normalised as the weights expect it. Three bands of another type are stretched
    first, the 2nd percentile of each to 0 and the 98th to 1. Other numbers of bands are standardised by their own mean
    and standard deviation.

    Args:
        mean: (3,) of the backbone's preprocessing, on the scale 0..1.
        std: (3,) likewise.
        dtype: of the values.
        bands: C.
        sample: arrays (..., C) of training pixels, not looked at for 8-bit RGB; NaN and infinite values do not count,
            and of large arrays evenly spread pixels do. `sample_pixels` gives them.
    """
    means, stds = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    if np.dtype(dtype) == np.uint8 and bands == _RGB:
        return _scale(255 * means, 255 * stds)
    pixels = np.concatenate([np.empty((0, bands)), *(_thinned(values) for values in sample)])
    pixels[~np.isfinite(pixels)] = np.nan
    if not len(pixels):
        return BandScale((0.0,) * bands, (1.0,) * bands)
    pixels[:, np.isnan(pixels).all(0)] = 0  # a band without any value counts as constant
    if bands == _RGB:
        low, high = np.nanpercentile(pixels, (_LOW, _HIGH), axis=0)
        return _scale(low + means * (high - low), stds * (high - low))
    return _scale(np.nanmean(pixels, 0), np.nanstd(pixels, 0))


def _thinned(values: NDArray[Any]) -> NDArray[np.float64]:
    flat = values.reshape(-1, values.shape[-1])
    return flat[:: max(1, len(flat) // _SAMPLE)].astype(np.float64)


def _scale(offset: NDArray[np.float64], spread: NDArray[np.float64]) -> BandScale:
    tiny = np.finfo(np.float32).eps * np.maximum(1e-6, np.abs(offset))  # what rounding alone makes of a constant band
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > tiny)
    return BandScale(tuple(offset.tolist()), tuple(scale.tolist()))


def sample_pixels(paths: Sequence[str], *, most: int = 64) -> Iterator[NDArray[Any]]:
    """Valid pixels (N, C) of at most `most` evenly chosen images, for `scale_for`; broken ones are left out."""
    for path in paths[:: -(-len(paths) // most) or 1]:
        try:
            bands = load_bands(path)
        except ImageRejected:
            continue
        flat = bands.values.reshape(-1, bands.values.shape[-1])
        yield flat if bands.valid is None else flat[bands.valid.ravel()]
