"""Maps as files, written a block of rows at a time: GeoTIFF through rasterio, 8-bit grey PNG by hand.

Pillow writes a PNG only from a whole picture, which would make the memory grow with the scene.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import atomic_file
from regraft.errors import CannotWrite, OptionError
from regraft.inference.change.rasters import quiet_gdal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK = 256
NO_DATA_CLASS = 255
NO_DATA_PROBABILITY = -1.0
_TIFF = {".tif", ".tiff"}


def is_tiff(path: Path) -> bool:
    """Whether the map is to be a GeoTIFF, or else a PNG.

    Raises:
        OptionError: another ending.
    """
    ending = path.suffix.lower()
    if ending not in {*_TIFF, ".png"}:
        raise OptionError(f"{path} ends in {ending or 'nothing'}: a map is written as .tif or .png.")
    return ending in _TIFF


def probability_name(output: Path) -> Path:
    """The map of probabilities beside a mask: `change.tif` -> `change-probability.tif`."""
    return output.with_name(f"{output.stem}-probability{output.suffix}")


def write_mask(
    target: Path, parts: Iterable[NDArray[np.uint8]], size: tuple[int, int], place: Any, classes: Sequence[str]
) -> None:
    """Classes as a GeoTIFF of uint8; 255 is no data.

    Args:
        target: the file.
        parts: rows (n, width), from the top on.
        size: height and width.
        place: CRS and transform, each or None.
        classes: names, by number.
    """
    names = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
    told = f"class: {names}; {NO_DATA_CLASS} no data"
    _write_tiff(target, parts, size, place, told, {"dtype": "uint8", "nodata": NO_DATA_CLASS})


def write_probability(
    target: Path, parts: Iterable[NDArray[np.float32]], size: tuple[int, int], place: Any, classes: Sequence[str]
) -> None:
    """The probability of any change as a GeoTIFF of float32; -1 is no data. Arguments as of `write_mask`."""
    told = f"probability of change, 1 - P({classes[0]}); {NO_DATA_PROBABILITY:g} no data"
    kind = {"dtype": "float32", "nodata": NO_DATA_PROBABILITY, "predictor": 3}
    _write_tiff(target, parts, size, place, told, kind)


def _write_tiff(
    target: Path, parts: Iterable[NDArray[Any]], size: tuple[int, int], place: Any, told: str, kind: dict[str, Any]
) -> None:
    """A tiled, compressed GeoTIFF of one band; every block is written once and whole."""
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    height, width = size
    crs, transform = place
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "crs": crs,
        "transform": transform,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "bigtiff": "if_safer",
        **kind,
    }
    with quiet_gdal(), atomic_file(target) as temporary:
        try:
            with rasterio.open(temporary, "w", **{k: v for k, v in profile.items() if v is not None}) as file:
                file.set_band_description(1, told)
                top, written = 0, 0
                for rows in blocks(parts):
                    file.write(rows, 1, window=Window(0, top, width, rows.shape[0]))
                    top, written = top + rows.shape[0], zlib.crc32(rows.tobytes(), written)
            # GDAL writes its last blocks on closing, and tells nobody where the disk was too full for them.
            if _checksum(temporary) != written:
                raise CannotWrite(f"{target} cannot be written: is the disk full? Nothing was left there.")
        except RasterioError as error:
            reason = str(error.__cause__ or error).strip().rstrip(".")
            raise CannotWrite(f"{target} cannot be written: {reason}. Nothing was left there.") from error


def _checksum(path: Path) -> int:
    """CRC-32 of the values of a map as they are read, row by row."""
    import rasterio
    from rasterio.windows import Window

    found = 0
    with rasterio.open(path) as file:
        for top in range(0, file.height, BLOCK):
            rows = file.read(1, window=Window(0, top, file.width, min(BLOCK, file.height - top)))
            found = zlib.crc32(rows, found)
    return found


def blocks(parts: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The same rows in pieces of `BLOCK` rows, the last one of what is left."""
    held: list[NDArray[Any]] = []
    for part in parts:
        held.append(part)
        while sum(len(rows) for rows in held) >= BLOCK:
            together = np.concatenate(held)
            yield together[:BLOCK]
            held = [together[BLOCK:]]
    rest = np.concatenate(held) if held else np.empty((0, 0))
    if len(rest):
        yield rest


def write_png(target: Path, parts: Iterable[NDArray[np.uint8]], size: tuple[int, int]) -> None:
    """An 8-bit grey PNG of rows (n, width), from the top on."""
    height, width = size
    with atomic_file(target) as temporary, temporary.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)))
        press = zlib.compressobj()
        for rows in parts:
            lines = np.zeros((len(rows), width + 1), np.uint8)  # each line begins with its filter: none
            lines[:, 1:] = rows
            file.write(_chunk(b"IDAT", press.compress(lines.tobytes())))
        file.write(_chunk(b"IDAT", press.flush()))
        file.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def mask_shown(mask: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """A mask as grey values: of two classes 0 and 255, no data being 0; of more, class numbers, no data being 255."""
    return np.where(mask == 1, np.uint8(255), np.uint8(0)) if classes == 2 else mask  # noqa: PLR2004


def probability_shown(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities 0..1 as 0..255; no data is 0."""
    return np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
