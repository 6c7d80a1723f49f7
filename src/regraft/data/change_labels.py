"""Change masks: which value of a file means which class, decided once for a whole data set."""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from regraft.data.bands import has_rasterio, hush_rasterio
from regraft.data.containers import check_size, format_of, not_an_image, read_png
from regraft.data.decode import MAX_PIXELS, decode
from regraft.data.names import shown
from regraft.errors import DataError, ImageRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.data.pairs import Pairs

IGNORED = 255
"""The label of pixels that are neither learnt from nor judged by."""

MOST_CLASSES = 50

_ADVICE = "Write masks as PNG with 0 and 1, with 0 and 255, or with class numbers from 0 and 255 for what is ignored."
_TWO = 2  # classes, of which 255 may be one
_SHOWN = 8  # values that a message names
_KINDS = ("PNG", "TIFF", "BMP", "WebP")


@dataclass(frozen=True)
class LabelCoding:
    """What the values of mask files mean.

    Attributes:
        values: pairs of a file's value and the class it means, the ignored value left out.
        classes: K, with class 0 for what is unchanged.
        ignore: whether 255 is in the files and means that a pixel is ignored.
    """

    values: tuple[tuple[int, int], ...]
    classes: int
    ignore: bool

    def sentence(self) -> str:
        """In a few words, for people."""
        told = ", ".join(f"{value} is class {number}" for value, number in self.values)
        return f"{self.classes} classes ({told}{', 255 is ignored' if self.ignore else ''})"


@dataclass(frozen=True, slots=True)
class LabelValues:
    """What one mask file holds.

    Attributes:
        path: of the file.
        size: height and width.
        counts: number of pixels by value.
        bilevel: a file of one bit a pixel, whose 1 means changed whatever other files use.
    """

    path: str
    size: tuple[int, int]
    counts: dict[int, int]
    bilevel: bool


def read_label(path: str, coding: LabelCoding, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """A mask as classes: (H, W) uint8, 255 where a pixel is ignored.

    Raises:
        ImageRejected: the file cannot be read whole, has colours, or has values that the coding does not have.
    """
    raw, bilevel = _raw(path, max_pixels)
    known = _known(coding, bilevel=bilevel)
    table = np.full(256, -1, np.int16)
    table[list(known)] = list(known.values())
    classes = table[np.clip(raw, 0, 255)]
    classes[(raw < 0) | (raw > IGNORED)] = -1
    if (classes < 0).any():
        raise ImageRejected(
            path,
            f"a mask with the values {_told(np.unique(raw[classes < 0]).tolist())}, where"
            f" {coding.sentence()}. {_ADVICE}",
        )
    labels: NDArray[np.uint8] = classes.astype(np.uint8)
    return labels


def _known(coding: LabelCoding, *, bilevel: bool) -> dict[int, int]:
    """The class of each value that a file may have."""
    return dict(coding.values) | ({IGNORED: IGNORED} if coding.ignore else {}) | ({0: 0, 1: 1} if bilevel else {})


def check_coded(label: LabelValues, coding: LabelCoding | None) -> None:
    """Refuse a mask with values that the coding does not have.

    Raises:
        DataError: naming the file and the values.
    """
    unknown = sorted(label.counts.keys() - _known(coding, bilevel=label.bilevel).keys()) if coding else []
    if unknown and coding:
        raise DataError(
            f"{label.path} is a mask with the values {_told(unknown)}, where {coding.sentence()}. {_ADVICE}"
        )


def label_values(path: str, *, max_pixels: int = MAX_PIXELS) -> LabelValues:
    """What a mask file holds.

    Raises:
        ImageRejected: it cannot be read whole.
        DataError: it has colours or values that are not whole numbers.
    """
    raw, bilevel = _raw(path, max_pixels)
    values, counts = np.unique(raw, return_counts=True)
    return LabelValues(path, raw.shape[:2], dict(zip(values.tolist(), counts.tolist(), strict=True)), bilevel)


def find_coding(pairs: Pairs, *, threads: int = 4) -> LabelCoding:
    """Read every mask and decide what the values mean; see `coding_of`. Files that cannot be read are left out.

    Raises:
        DataError: no mask, or what `coding_of` refuses.
    """

    def look(path: str) -> LabelValues | None:
        try:
            return label_values(path)
        except ImageRejected:
            return None

    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(look, [item.label for item in pairs.items if item.label is not None])
        return coding_of([seen for seen in found if seen is not None])


def coding_of(seen: Sequence[LabelValues], classes: int | None = None) -> LabelCoding:
    """Decide for a whole data set what the values of its masks mean.

    - 0 and 1: classes;
    - 0 and 255: 255 is changed, nothing is ignored;
    - 0, 1 and 255, the latter two in one file: 255 is ignored;
    - 0 to K-1, K at least 3, without a gap: classes, and 255 is ignored where it occurs.

    Args:
        seen: of every mask.
        classes: K that a model knows already, or None. Masks may then lack some classes, or any change at all; of three
            classes and more, 255 always is ignored.

    Raises:
        DataError: other values; no mask; some files with 1 and others with 255, which may mean the same or not; no
            pixel that is changed; more classes than the model knows.
    """
    if not seen:
        raise DataError(f"There is no mask that can be read. {_ADVICE}")
    totals = Counter[int]()
    for one in seen:
        totals.update(one.counts)
    most = MOST_CLASSES if classes is None else classes
    for one in seen:
        if any(not (0 <= value < most or value == IGNORED) for value in one.counts):
            known = "" if classes is None else f", but the model knows {classes} classes"
            raise DataError(f"{one.path} is a mask with the values {_told(sorted(one.counts))}{known}. {_ADVICE}")
    numbers = sorted(totals.keys() - {IGNORED})
    if classes is not None and classes > _TWO and set(totals) == {0, IGNORED}:
        raise DataError(
            f"The masks, such as {seen[0].path}, hold 0 and 255 only, and the model knows {classes} classes, for which"
            " 255 is ignored: whether 255 means changed here cannot be told. Write class numbers instead."
        )
    if classes is not None and classes > _TWO:
        return LabelCoding(tuple((number, number) for number in range(classes)), classes, IGNORED in totals)
    several = bool(numbers) and numbers[-1] > 1
    coding = _classes(seen, numbers, ignore=IGNORED in totals) if several else _binary(seen, totals)
    if classes is None and not sum(totals[value] for value, number in coding.values if number > 0):
        raise DataError(
            f"No pixel of {len(seen)} masks, such as {seen[0].path}, is changed: there is nothing to learn. {_ADVICE}"
        )
    return coding


def _classes(seen: Sequence[LabelValues], numbers: list[int], *, ignore: bool) -> LabelCoding:
    missing = sorted(set(range(numbers[-1])) - set(numbers))
    if missing:
        one = next(one for one in seen if numbers[-1] in one.counts)
        raise DataError(
            f"{one.path} is a mask with the values {_told(sorted(one.counts))}, but no mask has {_told(missing)}:"
            f" expected classes from 0 without a gap. {_ADVICE}"
        )
    return LabelCoding(tuple((number, number) for number in numbers), len(numbers), ignore)


def _binary(seen: Sequence[LabelValues], totals: Counter[int]) -> LabelCoding:
    """Masks of 0, 1 and 255 only."""
    ones = [one for one in seen if 1 in one.counts and not one.bilevel]
    ignored = next((one for one in ones if IGNORED in one.counts), None)
    full = next((one for one in seen if IGNORED in one.counts), None)
    if ones and full and not ignored:
        raise DataError(
            f"{ones[0].path} is a mask with the values {_told(sorted(ones[0].counts))} and {full.path} one with"
            f" {_told(sorted(full.counts))}: whether 255 means changed or ignored cannot be told, as no mask has both 1"
            f" and 255. {_ADVICE}"
        )
    if full and not ones:
        bilevel = ((1, 1),) if 1 in totals else ()
        return LabelCoding(((0, 0), *bilevel, (IGNORED, 1)), 2, ignore=False)
    return LabelCoding(((0, 0), (1, 1)), 2, ignore=ignored is not None)


def _told(values: Sequence[int]) -> str:
    return shown([str(value) for value in values], _SHOWN)


def _raw(path: str, max_pixels: int) -> tuple[NDArray[Any], bool]:
    """The values of a mask, (H, W) integers, and whether it has one bit a pixel; see `label_values` for errors."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise ImageRejected(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    kind = format_of(data)
    if kind is None:
        raise ImageRejected(path, not_an_image(data))
    if kind == "JPEG":
        return _of_jpeg(_one_band(np.asarray(decode(data, path=path, max_pixels=max_pixels).image), path), path), False
    if kind not in _KINDS:
        raise ImageRejected(path, f"a {kind} as a mask; save it as PNG")
    if kind == "TIFF" and has_rasterio():
        values, bilevel = _by_rasterio(path, max_pixels)
        return _one_band(values, path), bilevel
    if kind == "PNG":
        read_png(data, path)  # for the checksums, which Pillow does not look at
    try:
        with Image.open(io.BytesIO(data), formats=_KINDS) as image:
            check_size(image.size, path, max_pixels)
            upright = ImageOps.exif_transpose(image)
            bilevel = upright.mode == "1"
            values = _greys(upright)
    except ImageRejected:
        raise
    except Exception as error:
        raise ImageRejected(path, f"broken {kind} ({str(error).partition(chr(10))[0][:160]})") from error
    return _one_band(values, path), bilevel


def _greys(image: Image.Image) -> NDArray[Any]:
    """The values as stored; of a palette its indices, or where what it shows is black and white only, these."""
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    values = np.asarray(image)
    if image.mode != "P":
        return values
    colours = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = np.unique(values)
    if used.max() < len(colours) and {tuple(c) for c in colours[used].tolist()} == {(0, 0, 0), (255, 255, 255)}:
        return np.asarray(colours[values][..., 0])
    return values


def _by_rasterio(path: str, max_pixels: int) -> tuple[NDArray[Any], bool]:
    """All bands, (H, W, C), and whether they have one bit a pixel.

    A nodata value is not looked at: in masks it often is 0, which means unchanged.
    """
    import rasterio
    from rasterio.errors import RasterioError

    hush_rasterio()
    try:
        with rasterio.open(path, driver="GTiff") as raster:
            check_size((raster.width, raster.height), path, max_pixels)
            values = raster.read().transpose(1, 2, 0)
            bilevel = raster.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "1"
    except (RasterioError, ValueError) as error:
        raise ImageRejected(path, f"broken or not whole ({str(error).partition(chr(10))[0][:160]})") from error
    return values, bilevel


def _of_jpeg(values: NDArray[Any], path: str) -> NDArray[Any]:
    """Black and white that survived the compression, else a `DataError`: near values would be taken for classes."""
    found = np.unique(values).tolist()
    if set(found) <= {0, 255}:
        return values
    raise DataError(f"{path} is a JPEG with the values {_told(found)}: the compression has changed the mask. {_ADVICE}")


def _one_band(values: Any, path: str) -> NDArray[Any]:
    """Integers (H, W) of one band, or of several that are equal; alpha does not count.

    Raises:
        DataError: bands that differ, or values that are not whole numbers.
    """
    if values.ndim == 3:  # noqa: PLR2004
        bands = values[..., : 1 if values.shape[-1] == 2 else 3]  # noqa: PLR2004
        differ = (bands != bands[..., :1]).any(-1)
        if differ.any():
            colours = np.unique(bands[differ][:10_000], axis=0)[:3].tolist()
            raise DataError(f"{path} is a mask with colours, such as {', '.join(map(str, colours))}. {_ADVICE}")
        values = bands[..., 0]
    if values.dtype.kind in "ui":
        return np.asarray(values)
    whole = np.isfinite(values) & (values == np.round(values))
    if not whole.all():
        raise DataError(f"{path} is a mask with values such as {values[~whole][0]:.6g}. {_ADVICE}")
    return np.asarray(values.astype(np.int64))
