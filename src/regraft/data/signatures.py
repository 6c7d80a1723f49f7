"""Is a file an image? Its first bytes decide, not its name.

Opening 100,000 files only to look at them would cost more than it tells: a file whose ending is a known
image ending is taken as an image here, and the decoder, which reads it anyway, rejects it with a
reason when its content is something else. Only files with another ending or none are opened.
"""

# Paths are plain texts here: they come by the hundred thousand, and links stay unresolved.
# ruff: noqa: PTH122, PTH123

from __future__ import annotations

import os
import re

HEAD_BYTES = 32

# Common endings first: this is the order in which a table's ids are completed to file names.
IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp",
    ".jfif", ".jpe", ".mpo", ".apng", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm",
    ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".avif", ".heic", ".heif", ".jxl", ".ico", ".cur", ".icns",
    ".tga", ".pcx", ".psd", ".dds", ".qoi", ".exr", ".hdr", ".sgi", ".rgb", ".xbm",
)  # fmt: skip
_ENDINGS = frozenset(IMAGE_ENDINGS)

_STARTS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\x00",  # TIFF, little endian, and most camera raw files
    b"MM\x00*",  # TIFF, big endian
    b"II+\x00",  # BigTIFF
    b"MM\x00+",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",  # JPEG 2000
    b"\xff\x4f\xff\x51",  # JPEG 2000 codestream
    b"\x00\x00\x00\x0cJXL \r\n\x87\n",  # JPEG XL
    b"\xff\x0a",  # JPEG XL codestream
    b"8BPS",  # Photoshop
    b"icns",
    b"DDS ",
    b"qoif",
    b"v/1\x01",  # OpenEXR
    b"#?RADIANCE",
    b"#?RGBE",
)
_NETPBM = re.compile(rb"(?:P[1-6]\s+[#0-9]|P7\s+(?:#|WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE)|P[Ff]\s+[0-9])")
_ISO_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_BITMAP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_ICON_TYPES = (b"\x00\x00\x01\x00", b"\x00\x00\x02\x00")


def has_image_ending(name: str) -> bool:
    """Whether the file's ending is one that images have, in any case."""
    return os.path.splitext(name)[1].lower() in _ENDINGS


def is_image_head(head: bytes) -> bool:
    """Whether these first bytes of a file (up to `HEAD_BYTES`) begin an image of a known format.

    Formats: JPEG, PNG, GIF, BMP, TIFF and BigTIFF, WebP, the Netpbm family, JPEG 2000, JPEG XL, AVIF,
    HEIC, ICO and CUR, ICNS, PSD, DDS, QOI, OpenEXR, Radiance. The short marks of BMP, ICO and Netpbm
    also open ordinary texts and binaries ("BMW is a car"), so the fields after them are looked at.
    """
    if head.startswith(_STARTS):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    if head[4:8] == b"ftyp":
        return any(head[at : at + 4] in _ISO_BRANDS for at in (8, 16, 20, 24, 28))
    if head[:2] == b"BM":
        return int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS
    if head[:4] in _ICON_TYPES:
        return int.from_bytes(head[4:6], "little") > 0 and head[9:10] == b"\x00"
    return _NETPBM.match(head) is not None


def why_no_image(path: str) -> str | None:
    """Why the file at `path` is no image, or None when it is one or its ending says that it should be."""
    if has_image_ending(path):
        return None
    try:
        with open(path, "rb", buffering=0) as handle:
            head = handle.read(HEAD_BYTES)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if is_image_head(head):
        return None
    return "not an image" if head else "not an image (empty)"
