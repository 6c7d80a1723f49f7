"""Decoding by Pillow's plugins, made strict and quiet; the JPEG way is in `regraft.data.decode`."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import threading
import warnings
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageFile

from regraft.data.containers import Header, check_length, check_size, checked_orientation, orientation_or_note
from regraft.data.to_rgb import BACKGROUND, to_rgb
from regraft.errors import ImageRejected

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLUGINS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
    "WebP": ("WebPImagePlugin", "WebPImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
    "JPEG 2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "PNM": ("PpmImagePlugin", "PpmImageFile"),
}

# TIFF tags, from TIFF 6.0, TIFF technical note 1 and the DNG specification.
_BITS, _PHOTOMETRIC, _ORIENTATION, _SUB_IMAGES, _THUMBNAIL, _DNG_VERSION = 258, 262, 274, 330, 254, 50706

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints Pillow's log to stderr


def decode_with_pillow(
    data: bytes, kind: str, path: str, max_pixels: int, header: Header | None
) -> tuple[Image.Image, int, tuple[str, ...]]:
    """Decode the first frame by the one plugin that reads `kind`, checking the size before the pixels.

    The plugin is called directly: `Image.open` would try others and apply its own cap, which is a global.

    Args:
        data: the file's bytes.
        kind: what `regraft.data.containers.format_of` says.
        path: named when it is rejected.
        max_pixels: the cap on width times height.
        header: what our own walk through the file found, for formats that have one.

    Returns:
        The RGB image as stored, its orientation 1..8, and notes.

    Raises:
        ImageRejected: too large, or of a kind that must not be taken for an image.
        Exception: anything that Pillow raises on broken data.
    """
    _hush()
    check_length(data, kind, path)
    source = _open(data, kind)
    with contextlib.closing(source):
        check_size(source.size, path, max_pixels)
        tags = _tiff_tags(source, data, path) if kind == "TIFF" else {}
        frame = source.tile[0][1] if kind == "GIF" and source.tile else None
        with _never_completing():
            source.load()
        sixteen_bit = kind == "PNM" or (header is not None and header.sixteen_bit)
        if sixteen_bit and isinstance(source.info.get("transparency"), tuple):
            source.info["transparency"] = tuple(value // 256 for value in source.info["transparency"])
        image, notes = to_rgb(source, path, sixteen_bit=sixteen_bit)
        if image is source:
            image = source.copy()  # else the file's bytes live as long as the image
        if tags.get(_PHOTOMETRIC) == 0 and _is_wide(source.mode):  # Pillow inverts up to 8 bits, but not these
            image = image.point(lambda value: 255 - value)
        elif 16 in tags.get(_BITS, ()) and not _is_wide(source.mode):  # noqa: PLR2004
            notes.append("16-bit colour reduced to 8 bit: v // 256")
        if frame is not None and frame != (0, 0, *image.size):
            image = _on_canvas(image, frame)
        orientation, more = (header.orientation, header.notes) if header else _orientation(source, kind)
    return image, orientation, (*more, *_frames(source, data, kind), *notes)


def _open(data: bytes, kind: str) -> Any:
    module, plugin = _PLUGINS[kind]
    return getattr(importlib.import_module(f"PIL.{module}"), plugin)(io.BytesIO(data))


def _is_wide(mode: str) -> bool:
    return mode in {"I", "F"} or mode.startswith("I;")


def _tiff_tags(source: Any, data: bytes, path: str) -> dict[int, Any]:
    """The tags that decide, read before loading changes them; camera raw files are turned away."""
    tags = {tag: source.tag_v2.get(tag) for tag in (_PHOTOMETRIC, _BITS) if tag in source.tag_v2}
    thumbnail = source.tag_v2.get(_THUMBNAIL) == 1 and _SUB_IMAGES in source.tag_v2
    if thumbnail or _DNG_VERSION in source.tag_v2 or data[8:10] == b"CR":
        raise ImageRejected(path, "a camera raw file: develop it to JPEG, PNG or TIFF")
    return tags


def _on_canvas(image: Image.Image, frame: tuple[int, int, int, int]) -> Image.Image:
    """A first GIF frame that covers a part only: the rest is background, not the palette's first colour."""
    canvas = Image.new("RGB", image.size, BACKGROUND)
    mask = Image.new("1", image.size)
    mask.paste(1, frame)
    canvas.paste(image, mask=mask)
    return canvas


def _orientation(source: Any, kind: str) -> tuple[int, tuple[str, ...]]:
    """What is left to turn after loading: Pillow turns TIFF itself, and then forgets the tag."""
    if kind != "TIFF":
        return orientation_or_note(source.info.get("exif"))
    try:
        return checked_orientation(source.tag_v2.get(_ORIENTATION, 1)), ()
    except ValueError:
        return 1, ("broken EXIF ignored, orientation unknown",)


def _frames(source: Any, data: bytes, kind: str) -> tuple[str, ...]:
    """A note where there are more frames or pages than the first; GIF and TIFF are walked to count them."""
    if kind not in {"GIF", "TIFF", "WebP", "AVIF"}:
        return ()
    what = "pages" if kind == "TIFF" else "frames"
    try:
        count: int = source.n_frames if kind in {"WebP", "AVIF"} else _open(data, kind).n_frames
    except Exception:  # noqa: BLE001 - a later frame is broken, which is no matter of the first
        return (f"several {what}: the first; a later one is broken",)
    return (f"animated: first of {count} frames" if what == "frames" else f"first of {count} pages",) * (count > 1)


_guard = threading.Lock()
_loading = 0
_hosts_choice = False


@contextlib.contextmanager
def _never_completing() -> Iterator[None]:
    """Keep Pillow from filling up cut files in silence, whatever the program around us asked it for.

    The switch is one for the process. It is off while any thread is in here and gets the program's value back
    when the last one leaves.
    """
    global _loading, _hosts_choice  # noqa: PLW0603 - so is the switch
    with _guard:
        _loading += 1
        _hosts_choice = _hosts_choice or ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        with _guard:
            _loading -= 1
            if not _loading:
                ImageFile.LOAD_TRUNCATED_IMAGES = _hosts_choice or ImageFile.LOAD_TRUNCATED_IMAGES
                _hosts_choice = False


_TIFF_METADATA = ("ignore", None, Warning, re.compile(r"PIL\.TiffImagePlugin"), 0)


def _hush() -> None:
    """Filter out what Pillow warns of in metadata, which says nothing about pixels, and of sizes.

    `warnings.catch_warnings` would be tidier, but it is not safe in threads. The rule about sizes is the last
    in the list, so that a program that turned this warning into an error still gets it.
    """
    if _TIFF_METADATA not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)
