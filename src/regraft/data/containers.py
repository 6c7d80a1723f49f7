"""What a file's bytes tell before any pixel is decoded: kind, size, orientation, and whether it is whole."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regraft.errors import ImageRejected

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXIF_ORIENTATION = 0x0112
_SHORT = 3  # the TIFF field type of two bytes

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}  # bytes; text may begin with "BM", too
_UNREAD = (
    b"qoif",
    b"DDS ",
    b"icns",
    b"v/1\x01",
    b"#?RADIANCE",
    b"#?RGBE",
    b"P7\n",
    b"PF\n",
    b"BPG\xfb",
    b"\0\0\x02\0",
)
_FOREIGN = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"8BPS", "a Photoshop document: export it as PNG"),
    (b"\0\0\x01\0", "an icon (ICO), which holds several pictures: save the one you mean as PNG"),
    (b"\xff\x0a", "a JPEG XL image: convert it to JPEG or PNG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image: convert it to JPEG or PNG"),
    (b"II\xbc", "a JPEG XR image: convert it to JPEG or PNG"),
    (b"IIU\0", "a camera raw file: develop it to JPEG, PNG or TIFF"),
    (b"IIRO", "a camera raw file: develop it to JPEG, PNG or TIFF"),
    (b"FUJIFILMCCD-RAW", "a camera raw file: develop it to JPEG, PNG or TIFF"),
    *((magic, "an image of a format that is not read: convert it to PNG or TIFF") for magic in _UNREAD),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x93NUMPY", "a NumPy array: save it as an image first"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SIMPLE  =", "a FITS file: convert it to TIFF"),
)
_BRANDS = (
    (b"crx ", "a camera raw file: develop it to JPEG, PNG or TIFF"),
    *((brand, "a HEIC image: convert it to JPEG or PNG") for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")),
)
_TEXT = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image: run git lfs pull"),
    (b"<!doctype html", "not an image: looks like HTML"),
    (b"<html", "not an image: looks like HTML"),
    (b"<svg", "an SVG drawing, which has no pixels: render it to PNG"),
)


CMYK_NOTE = "CMYK converted to RGB without a colour profile"

MAX_SIDE = 1_000_000
"""The longest side that is decoded, pixels: resampling a longer one takes more memory than its pixels."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the markers or chunks of a file say.

    Attributes:
        size: width and height as stored, before the orientation is applied.
        orientation: the EXIF orientation, 1 (upright) to 8.
        notes: what the user should know.
        sixteen_bit: the samples have 16 bits.
    """

    size: tuple[int, int]
    orientation: int
    notes: tuple[str, ...] = ()
    sixteen_bit: bool = False


def format_of(data: bytes) -> str | None:
    """The image format that the first bytes announce, whatever the file is called; None for anything else.

    One of JPEG, PNG, GIF, BMP, TIFF, WebP, AVIF, JPEG 2000, PNM: what the decoder reads. 64 bytes suffice.
    """
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data[4:8] == b"ftyp" and (b"avif" in data[8:64] or b"avis" in data[8:64]):
        return "AVIF"
    if len(data) > 2 and data[:1] == b"P" and data[1:2] in b"123456f" and data[2:3].isspace():  # noqa: PLR2004
        return "PNM"
    return None


def not_an_image(data: bytes) -> str:
    """Say, in a sentence, what bytes that announce no readable image format seem to be instead."""
    if not data:
        return "empty file"
    if not data[:65536].strip(b"\0"):
        return "not an image: holds only zero bytes, as an interrupted copy does"
    for magic, name in _FOREIGN:
        if data.startswith(magic):
            return name
    if data[128:132] == b"DICM":
        return "a DICOM file: convert it to PNG or TIFF"
    if data[4:8] == b"ftyp":
        return next((name for brand, name in _BRANDS if brand in data[8:64]), "a video")
    return _text_or_bytes(data[:1024])


def _text_or_bytes(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, name in _TEXT:
        if text.startswith(start):
            return name
    if text.startswith((b"<?xml", b"<!--")):
        for start, name in _TEXT:
            if start in text:
                return name
        return "not an image: looks like XML"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):  # noqa: PLR2004 - below are control characters
        return "not an image: looks like text"
    return f"not an image of a known format (its first bytes are {head[:8].hex(' ')})"


def check_size(size: tuple[int, int], path: str, max_pixels: int) -> None:
    """Hold the size that a header announces against the cap, before any pixel is decoded.

    Raises:
        ImageRejected: there are more pixels than `max_pixels`, or a side is longer than `MAX_SIDE`.
    """
    width, height = size
    if width * height > max_pixels:
        raise ImageRejected(
            path,
            f"{width} x {height} pixels are {width * height / 1e6:.4g} megapixels, above the cap of "
            f"{max_pixels / 1e6:.4g}: raise it with --max-pixels",
        )
    if max(size) > MAX_SIDE:
        raise ImageRejected(
            path, f"{width} x {height} pixels: a side is longer than {MAX_SIDE}, cut the image into tiles"
        )


def exif_orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, from an EXIF block; 1 where it says nothing.

    Only the one field is read, so that a broken remainder does no harm. Source: Exif 3.0, 4.6.5, tag 0x0112.

    Raises:
        ValueError: the block is broken.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        raise ValueError("no byte order mark")
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, offset)
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, _ = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == _EXIF_ORIENTATION:
                (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, entry + 8)
                return checked_orientation(value)
    except struct.error as error:
        raise ValueError("ends early") from error
    return 1


def checked_orientation(value: object) -> int:
    """An orientation of 1 to 8; 0, which some cameras write, means 1.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, int) and 0 <= value <= 8:  # noqa: PLR2004
        return value or 1
    raise ValueError(f"orientation {value!r}")


def orientation_or_note(exif: bytes | None) -> tuple[int, tuple[str, ...]]:
    """The orientation, and a note where the EXIF block is broken and the image is taken as it is stored."""
    if not exif:
        return 1, ()
    try:
        return exif_orientation(exif), ()
    except ValueError:
        return 1, ("broken EXIF ignored, orientation unknown",)


def read_jpeg(data: bytes, path: str) -> Header:
    """Walk the markers of a JPEG up to its picture data. Source: ITU-T T.81, annex B.

    Raises:
        ImageRejected: it ends before, or never says how large it is.
    """
    at, size, exif, four_colours = 2, None, None, False
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in {0x00, 0xFF} or 0xD0 <= marker <= 0xD8:  # stuffing and markers without a body  # noqa: PLR2004
            at += 1 if marker == 0xFF else 2  # noqa: PLR2004
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC} and len(body) >= 5:  # noqa: PLR2004
            size = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
            four_colours = body[5:6] == b"\4"
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and exif is None:  # noqa: PLR2004
            exif = body
        elif marker in {0xD9, 0xDA}:
            break
        at += 2 + length
    else:
        raise ImageRejected(path, "truncated JPEG: the file ends before its picture data")
    if size is None or 0 in size:
        raise ImageRejected(path, "broken JPEG: it does not say how large it is")
    orientation, notes = orientation_or_note(exif)
    return Header(size, orientation, (*notes, CMYK_NOTE) if four_colours else notes)


def check_length(data: bytes, kind: str, path: str) -> None:
    """Hold the length that a WebP or TIFF announces against the length that is there.

    Raises:
        ImageRejected: the file ends early.
    """
    end = 0
    if kind == "WebP":
        end = 8 + int.from_bytes(data[4:8], "little")
    elif kind == "TIFF" and 42 in data[2:4]:  # noqa: PLR2004 - 43 is BigTIFF
        end = 8 + int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big")  # its first directory
    if end > len(data):
        raise ImageRejected(path, f"truncated {kind}: the file ends before the picture does")


_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def read_png(data: bytes, path: str) -> tuple[Header, bytes]:
    """Walk all chunks of a PNG, check those that carry pixels, and leave the rest. Source: W3C PNG, clause 5.

    Returns:
        The header, and the PNG without anything but pixels: text, profiles and animation frames can then
        neither blow up memory nor raise warnings in the codec.

    Raises:
        ImageRejected: a chunk is missing, cut or fails its checksum.
    """
    kept: list[bytes | memoryview] = [data[:8]]
    found: dict[bytes, bytes] = {}
    for kind, chunk in _png_chunks(data, path):
        if kind in _PIXEL_CHUNKS:
            if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
                raise ImageRejected(path, f"corrupt PNG: the checksum of its {kind.decode()} chunk is wrong")
            kept.append(chunk)
        if kind in {b"IHDR", b"eXIf", b"acTL"}:
            found[kind] = bytes(chunk[8:-4])
    if len(found.get(b"IHDR", b"")) < 13:  # noqa: PLR2004
        raise ImageRejected(path, "broken PNG: it does not say how large it is")
    width, height, depth, colour = struct.unpack_from(">IIBB", found[b"IHDR"])
    orientation, notes = orientation_or_note(found.get(b"eXIf"))
    frames = int.from_bytes(found.get(b"acTL", b"")[:4], "big")
    if frames > 1:
        notes = (*notes, f"animated: first of {frames} frames")
    if depth == 16 and colour:  # noqa: PLR2004
        notes = (*notes, "16-bit colour reduced to 8 bit: v // 256")
    return Header((width, height), orientation, notes, sixteen_bit=depth == 16), b"".join(kept)  # noqa: PLR2004


def _png_chunks(data: bytes, path: str) -> Iterator[tuple[bytes, memoryview]]:
    """The kind and the bytes (length, kind, body, checksum) of each chunk, up to and with IEND."""
    view, at, kind = memoryview(data), 8, b""
    while kind != b"IEND":
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if at + 12 > len(data) or end > len(data):
            raise ImageRejected(path, "truncated PNG: the file ends before the picture does")
        yield kind, view[at:end]
        at = end
