"""The one decoder of the product: the bytes of a file in, an upright 8-bit RGB image or a clear reason out.

What is in the file decides, never what it is called. An image is decoded whole or rejected: Pillow alone
shows grey or shifted blocks for a JPEG whose picture data are cut or overwritten, as libjpeg only warns of
that; simplejpeg turns those warnings into errors, and its pixels are the same. All functions may be called
from several threads at once.

Two things are done to the process, and only while or once they are needed: `LOAD_TRUNCATED_IMAGES`, with
which a program may tell Pillow to complete broken files in silence, is off while a file that is not a JPEG
is decoded here; and Pillow's warnings about TIFF metadata are filtered out from the first such file on.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from PIL import Image

from regraft.data.containers import check_size, format_of, not_an_image, read_jpeg, read_png
from regraft.data.pillow import decode_with_pillow
from regraft.errors import ImageRejected

MAX_PIXELS = 200_000_000
"""The largest image that is decoded unless the caller says otherwise; decoding it takes up to 1.6 GB."""

_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What libjpeg warns of although every block of the picture was decoded.
_HARMLESS = re.compile(
    r"extraneous bytes before marker 0xd9|Invalid SOS parameters|unknown JFIF revision|unknown Adobe color"
    r"|bad ICC marker",
    re.IGNORECASE,
)
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes")
_PADDING = 16  # bytes; cameras pad by a few, whereas a damaged picture leaves any number undecoded


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as the rest of the product sees it.

    Attributes:
        image: mode RGB, upright.
        notes: what was decided on the way and is worth telling: transparency, scaled values, first of several
            frames, broken metadata. Empty for most photographs.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Decoded:
    """Read a file and decode it; see `decode`.

    Raises:
        ImageRejected: it cannot be read, or not decoded whole.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - a path with undecodable bytes stays a str
            data = file.read()
    except (OSError, ValueError) as error:
        raise ImageRejected(name, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return decode(data, path=name, max_pixels=max_pixels, at_least=at_least)


def decode(data: bytes, *, path: str, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Decoded:
    """Decode the bytes of one image file: JPEG, PNG, GIF, BMP, TIFF, WebP, AVIF, JPEG 2000 or PNM.

    The EXIF orientation is applied, transparency is shown on white, 16-bit and float values are scaled by the
    rules of `regraft.data.to_rgb`, and the first of several frames or pages is taken.

    Args:
        data: the file's bytes.
        path: what the caller calls the file, for messages.
        max_pixels: the cap on width times height, checked before any pixel is decoded.
        at_least: allow a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size, the smallest of these whose
            shorter side is not below this many pixels. The result depends on nothing else.

    Raises:
        ImageRejected: it cannot be decoded whole; `reason` says why.
    """
    kind = format_of(data)
    if kind is None:
        raise ImageRejected(path, not_an_image(data))
    try:
        if kind == "JPEG":
            return _decode_jpeg(data, path, max_pixels, at_least)
        header = None
        if kind == "PNG":
            header, data = read_png(data, path)
        return _finish(*decode_with_pillow(data, kind, path, max_pixels, header))
    except ImageRejected:
        raise
    except Exception as error:
        raise ImageRejected(path, _reason(kind, error)) from error


def _reason(kind: str, error: Exception) -> str:
    """One sentence for whatever a codec raised, without addresses of objects."""
    if isinstance(error, MemoryError):
        return f"decoding this {kind} needs more memory than there is"
    text = re.sub(r"\s*<[^>]*>", "", str(error)).partition("\n")[0].strip()
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"above Pillow's own limit, which is PIL.Image.MAX_IMAGE_PIXELS: {text}"
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return f"truncated {kind}: the file ends before the picture does"
    if "pixel mode" in text:
        return f"a {kind} of bands or sample types that are not read: save 1 or 3 bands of 8 or 16 bit"
    return f"broken {kind}" + (f" ({text[:160]})" if text else "")


def _finish(image: Image.Image, orientation: int, notes: tuple[str, ...]) -> Decoded:
    return Decoded(image.transpose(_TURN[orientation]) if orientation in _TURN else image, notes)


def _decode_jpeg(data: bytes, path: str, max_pixels: int, at_least: int | None) -> Decoded:
    import simplejpeg

    header = read_jpeg(data, path)
    check_size(header.size, path, max_pixels)
    width, height = header.size
    reduction = 1
    if at_least is not None:
        reduction = next((s for s in (8, 4, 2) if min(header.size) >= s * max(1, at_least)), 1)
    scale = {
        "min_width": -(-width // reduction),
        "min_height": -(-height // reduction),
        "min_factor": reduction,
    }
    notes = header.notes
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGBX", **scale)
    except ValueError as error:
        warning = str(error)
        if "subsampling" in warning:  # a rare layout that only Pillow takes
            return _finish(*decode_with_pillow(data, "JPEG", path, max_pixels, header))
        padding = _EXTRANEOUS.search(warning)
        if not _HARMLESS.search(warning) or (padding and int(padding[1]) > _PADDING):
            raise ImageRejected(path, f"truncated or damaged JPEG ({warning})") from error
        pixels = simplejpeg.decode_jpeg(data, "RGBX", strict=False, **scale)
        notes = (*notes, f"decoded although libjpeg warns: {warning}")
    image = Image.frombytes("RGB", (pixels.shape[1], pixels.shape[0]), pixels, "raw", "RGBX")
    return _finish(image, header.orientation, notes)
