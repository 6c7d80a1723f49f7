"""Makers of small image folders for tests: one with every odd file that people have, one that is merely quick."""

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

_PHONE_ORIENTATION = 6  # stored lying on its side: turn by 90 degrees clockwise to see it upright


def picture(kind: int, seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """An RGB picture (width, height): each kind has a hue and a stripe width of its own, each seed its noise."""
    width, height = size
    rng = np.random.default_rng((kind, seed))
    y, x = np.mgrid[:height, :width]
    angle = rng.uniform(0, np.pi)
    period = 6 + 5 * kind
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + rng.uniform(0, 6))
    hue = 2 * np.pi * (kind * 0.31 + rng.uniform(-0.03, 0.03))
    colour = 128 + 90 * np.cos(hue + np.array([0, 2.1, 4.2]))
    pixels = colour + 40 * stripes[..., None] + rng.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options) -> bytes:
    """The bytes of an image file in Pillow's format `form`."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def huge_png(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a hundred bytes that says it is enormous."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = png_chunk(b"IDAT", zlib.compress(bytes(16)))
    return b"\x89PNG\r\n\x1a\n" + header + rows + png_chunk(b"IEND", b"")


def png_16_bit(values: np.ndarray) -> bytes:
    """A 16-bit PNG of (H, W) grey or (H, W, 3) colour values; Pillow writes only the grey ones."""
    height, width = values.shape[:2]
    colour = 2 if values.ndim == 3 else 0
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def with_orientation(image: Image.Image, orientation: int, form: str = "JPEG", **options) -> bytes:
    """A file whose EXIF says that the stored pixels have to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, form, exif=exif, **options)


def see_through(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode RGBA or LA with its left quarter fully, and the next quarter half, transparent."""
    alpha = np.full((image.height, image.width), 255, np.uint8)
    alpha[:, : image.width // 4] = 0
    alpha[:, image.width // 4 : image.width // 2] = 128
    opaque = image.convert("RGB" if mode == "RGBA" else "L")
    opaque.putalpha(Image.fromarray(alpha))
    return opaque


def palette_with_transparency(image: Image.Image) -> bytes:
    """A palette PNG whose transparency is a table of bytes, one a colour."""
    return encoded(image.quantize(16), "PNG", transparency=bytes([0, 128, 255]))


def _good(kind: int, seed: int) -> dict[str, tuple[bytes, str]]:
    first, second = picture(kind, seed), picture(kind, seed + 1)
    grey = np.asarray(first.convert("L"))
    if kind == 0:
        return {
            "exif_rotated.jpg": (with_orientation(first.rotate(90, expand=True), _PHONE_ORIENTATION), "ok"),
            "grey.jpg": (encoded(first.convert("L"), "JPEG"), "ok"),
            "grey_alpha.png": (encoded(see_through(first, "LA"), "PNG"), "noted"),
            "alpha.png": (encoded(see_through(first, "RGBA"), "PNG"), "noted"),
            "sixteen_bit.png": (png_16_bit(grey.astype(np.uint16) * 257), "noted"),
            "animated.gif": (encoded(first, "GIF", save_all=True, append_images=[second]), "noted"),
            "größe 图像 🐝.jpg": (encoded(first, "JPEG"), "ok"),
        }
    return {
        "palette_transparent.png": (palette_with_transparency(first), "noted"),
        "cmyk.jpg": (encoded(first.convert("CMYK"), "JPEG"), "noted"),
        "float.tif": (encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"), "noted"),
        "png_inside.jpg": (encoded(first, "PNG"), "ok"),
        "no_ending": (encoded(second, "PNG"), "ok"),
        **({"byte_\udcff.jpg": (encoded(second, "JPEG"), "ok")} if sys.platform == "linux" else {}),
    }


def _bad(kind: int, seed: int) -> dict[str, tuple[bytes, str]]:
    jpeg, png = encoded(picture(kind, seed), "JPEG"), bytearray(encoded(picture(kind, seed), "PNG"))
    if kind == 0:
        return {
            "truncated.jpg": (jpeg[: len(jpeg) * 3 // 4], "rejected"),
            "empty.jpg": (b"", "rejected"),
            "huge.png": (huge_png(), "rejected"),
        }
    png[len(png) // 2] ^= 0xFF
    page = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"
    return {"corrupt.png": (bytes(png), "rejected"), "page.jpg": (page, "rejected")}


def _aside(kind: int, seed: int) -> dict[str, tuple[bytes, str]]:
    jpeg = encoded(picture(kind, seed), "JPEG")
    if kind == 0:
        return {
            ".hidden.jpg": (jpeg, "skipped"),
            ".ipynb_checkpoints/picture-checkpoint.jpg": (jpeg, "skipped"),
        }
    return {"notes.txt": (b"taken in spring\n", "skipped")}


def make_odd_folder(folder: Path, *, rejected: bool = True, per_class: int = 12) -> dict[str, str]:
    """Write a folder of two classes, `a` and `b`, with ordinary JPEGs and every odd file that people have.

    Args:
        folder: made when it is missing.
        rejected: also write the files that cannot be decoded: 5 beside 37 that can, which is above a limit of
            5 %.
        per_class: ordinary images a class; the two classes differ in hue and stripe width.

    Returns:
        What must happen to each odd file, by its path relative to `folder` with "/": "ok" (an image like any
        other), "noted" (an image with a note), "rejected" (an error with path and reason), "skipped" (no image
        of the data set).
    """
    outcomes = {}
    for kind, name in enumerate(("a", "b")):
        odd = {**_good(kind, 1000), **(_bad(kind, 2000) if rejected else {}), **_aside(kind, 3000)}
        ordinary = {f"picture_{i:02d}.jpg": (encoded(picture(kind, i), "JPEG"), "ordinary") for i in range(per_class)}
        for file, (data, outcome) in {**ordinary, **odd}.items():
            target = folder / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            if outcome != "ordinary":
                outcomes[f"{name}/{file}"] = outcome
    return outcomes


def simple_folder(
    folder: Path,
    classes: int = 3,
    per_class: int = 12,
    size: int = 64,
    seed: int = 0,
    splits: dict[str, int] | None = None,
) -> list[str]:
    """Write a folder of quick, real JPEG files, no two alike, whose classes any backbone tells apart.

    Args:
        folder: made when it is missing.
        classes: number of classes.
        per_class: images a class, when there are no splits.
        size: both sides, pixels.
        seed: other seeds give other images of the same classes.
        splits: images a class in each split, as `{"train": 8, "val": 4}`; makes `split/class/` folders.

    Returns:
        The class names.
    """
    names = [f"kind_{kind}" for kind in range(classes)]
    for part, (split, count) in enumerate((splits or {"": per_class}).items()):
        for kind, name in enumerate(names):
            target = folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image = picture(kind, 1_000_000 * seed + 10_000 * part + i, (size, size))
                image.save(target / f"{i:03d}.jpg", quality=90)
    return names
