import re
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from decoding import notes, pixels, reason
from odd_images import encoded, picture, png_chunk
from regraft.data.decode import decode
from regraft.errors import ImageRejected

SCENE = picture(1, 7, (60, 40))
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
FORMATS = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM", pytest.param("AVIF", marks=needs_avif)]


# --- broken files --------------------------------------------------------------------------------------------

BIG = picture(2, 3, (200, 160))
JPEG = encoded(BIG, "JPEG", quality=90)


@pytest.mark.parametrize("completing", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_cut_files_are_rejected_even_if_the_program_told_pillow_to_complete_them(form, completing, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", completing)
    data = encoded(BIG, form)
    for share in (0.05, 0.5, 0.95):
        assert re.search("truncated|broken", reason(data[: int(share * len(data))]))
    assert decode(data, path="x").image.size == BIG.size
    assert ImageFile.LOAD_TRUNCATED_IMAGES is completing


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_cut_compressed_tiff(compression):
    data = encoded(BIG, "TIFF", compression=compression)
    assert "TIFF" in reason(data[: len(data) // 2])


def overwrite(data, start, stop):
    return data[:start] + bytes(stop - start) + data[stop:]


@pytest.mark.parametrize(
    "damaged",
    [
        JPEG[: len(JPEG) // 2],
        JPEG[: len(JPEG) // 2] + b"\xff\xd9",
        JPEG[:-2],
        overwrite(JPEG, len(JPEG) // 2, len(JPEG)),
        overwrite(JPEG, len(JPEG) // 2, len(JPEG) // 2 + 700),
        JPEG[: len(JPEG) // 2] + JPEG[len(JPEG) // 2 + 700 :],
        JPEG[: len(JPEG) // 2] + JPEG[100:],
    ],
    ids=["cut", "cut and closed", "no end marker", "tail of zeros", "block of zeros", "block missing", "spliced"],
)
def test_damaged_picture_data_of_a_jpeg(damaged):
    assert re.match("truncated|broken", reason(damaged))


def test_what_follows_a_jpeg_and_a_few_padding_bytes_do_no_harm():
    assert np.array_equal(pixels(JPEG + bytes(500) + JPEG[:300]), pixels(JPEG))
    assert notes(JPEG + b"trailer") == ()
    padded = JPEG[:-2] + bytes(12) + JPEG[-2:]
    assert np.array_equal(pixels(padded), pixels(JPEG))
    assert "extraneous bytes" in notes(padded)[0]
    assert "extraneous bytes" in reason(JPEG[:-2] + bytes(400) + JPEG[-2:])


def test_thumbnail_in_the_metadata_is_not_taken_for_the_picture():
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + encoded(picture(0, 0, (16, 16)), "JPEG")
    data = encoded(BIG, "JPEG", exif=exif)
    assert pixels(data).shape == (160, 200, 3)
    assert "truncated" in reason(data[: len(data) // 2])


def test_corrupt_png():
    data = encoded(BIG, "PNG")
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    assert "checksum of its IDAT chunk" in reason(bytes(flipped))
    assert "truncated" in reason(data[:-4])
    short = data[:33] + png_chunk(b"IDAT", b"\x78\x9c\x03\x00\x00\x00\x00\x01") + png_chunk(b"IEND", b"")
    assert re.search("truncated|broken", reason(short))
    text = png_chunk(b"tEXt", b"Comment\0hello")
    assert np.array_equal(pixels(data[:33] + text[:-1] + b"?" + data[33:]), np.asarray(BIG))  # no matter of pixels


HEIC = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"\n<!DOCTYPE HTML><html>", "looks like HTML"),
        (b"<HTML><head>", "looks like HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7\n", "git lfs pull"),
        (b"hello, this is text", "looks like text"),
        (b"BMW is a car, and this is text", "looks like text"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "SVG"),
        (b'<svg width="3">', "SVG"),
        (HEIC, "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "camera raw"),
        (b"\0\0\0\x18ftypisom\0\0\0\1", "video"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"PK\x03\x04....", "ZIP"),
        (bytes(4000), "zero bytes"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM"),
        (bytes(range(1, 30)), "01 02 03 04"),
    ],
)
def test_what_is_not_an_image_is_called_by_its_name(data, words):
    assert words in reason(data)


def test_camera_raw_files_that_are_tiff_inside():
    data = encoded(SCENE, "TIFF", tiffinfo={50706: bytes([1, 4, 0, 0])})
    assert "camera raw" in reason(data)


def test_layouts_that_pillow_cannot_read_say_so():
    data = encoded(SCENE, "TIFF").replace(
        b"\x06\x01\x03\x00\x01\x00\x00\x00\x02\x00", b"\x06\x01\x03\x00\x01\x00\x00\x00\x63\x00"
    )
    assert "not read" in reason(data)


# --- robustness ----------------------------------------------------------------------------------------------


def mutants(data, rng, count):
    for _ in range(count):
        broken = bytearray(data)
        if rng.random() < 0.25:
            broken = broken[: rng.integers(1, len(data))]
        # Half of the damage falls into the header, where sizes and offsets are.
        for _ in range(rng.integers(1, 6)):
            at = rng.integers(len(broken)) if rng.random() < 0.5 else rng.integers(min(len(broken), 64))
            broken[at] = rng.integers(256)
        yield bytes(broken)


def outcome(data, **options):
    """The pixels as bytes, or None for a file that is rejected with a decent reason."""
    try:
        image = decode(data, path="x", **options).image
    except ImageRejected as error:
        return None if error.reason and not re.search(r"object at|BytesIO|\n", error.reason) else error
    return image.tobytes() if image.mode == "RGB" else image


def test_mutated_files_are_decoded_or_rejected_and_nothing_is_printed(capsys):
    rng = np.random.default_rng(20)
    small = picture(0, 5, (24, 20))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    forms = [f for f in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM") if f in Image.SAVE]
    outcomes = []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for form in forms:
            options = {"exif": exif} if form in {"JPEG", "PNG", "TIFF", "WEBP"} else {}
            broken = mutants(encoded(small, form, **options), rng, 40)
            outcomes += [outcome(data, max_pixels=1_000_000) for data in broken]
    assert {type(found) for found in outcomes} == {bytes, type(None)}
    assert [str(w.message) for w in heard] == []
    assert capsys.readouterr() == ("", "")
    rejected = outcomes.count(None)
    assert 30 < rejected < len(outcomes) - 30  # the test would be idle if all went one way


def test_threads_give_the_same_and_leave_the_programs_choice(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    files = [encoded(picture(0, i, (50, 40)), form) for i in range(6) for form in ("PNG", "TIFF", "JPEG", "GIF")]
    broken = [data[: len(data) * 2 // 3] for data in files]

    with ThreadPoolExecutor(8) as pool:
        good = list(pool.map(outcome, files))
        bad = list(pool.map(outcome, broken))
    assert good == [outcome(data) for data in files]
    assert None not in good
    assert set(bad) == {None}
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_damage_is_found_at_reduced_size_too():
    assert "JPEG" in reason(JPEG[: len(JPEG) // 2] + b"\xff\xd9", at_least=20)
