import io
import os
import struct
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, features

from decoding import notes, pixels, reason
from odd_images import (
    encoded,
    huge_png,
    make_odd_folder,
    picture,
    simple_folder,
    with_orientation,
)
from regraft.data.decode import MAX_PIXELS, decode, read_image
from regraft.errors import ImageRejected

SCENE = picture(1, 7, (60, 40))
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
FORMATS = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM", pytest.param("AVIF", marks=needs_avif)]
LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "PPM": {}, "JPEG2000": {}, "WEBP": {"lossless": True}}


# --- what is an ordinary image ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_give_back_the_pixels_without_a_note(form):
    data = encoded(SCENE, form, **LOSSLESS[form])
    assert np.array_equal(pixels(data), np.asarray(SCENE))
    assert notes(data) == ()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "optimize": True}, {"quality": 30}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_pixels_are_pillows_own(mode, options):
    data = encoded(SCENE.convert(mode), "JPEG", **options)
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("form", FORMATS)
def test_one_pixel_is_an_image(form):
    image = decode(encoded(Image.new("RGB", (1, 1), (9, 9, 9)), form), path="x").image
    assert (image.size, image.mode) == ((1, 1), "RGB")
    assert max(image.getpixel((0, 0))) < 16


def test_result_is_a_plain_image_that_does_not_hold_the_file():
    for form in ("PNG", "TIFF", "WEBP"):
        assert type(decode(encoded(SCENE, form), path="x").image) is Image.Image


@pytest.mark.shared
def test_real_photographs_are_pillows_own_pixels(shared_data):
    files = sorted((shared_data / "hymenoptera").rglob("*.jpg"))[:30]
    assert len(files) == 30
    for file in files:
        decoded = read_image(file)
        assert np.array_equal(np.asarray(decoded.image), np.asarray(Image.open(file).convert("RGB")))
        assert decoded.notes == ()


# --- orientation -------------------------------------------------------------------------------------------

# From the Exif standard's table of where row 0 and column 0 of the stored pixels belong.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
def test_all_orientations(form, orientation):
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}, "JPEG": {"quality": 98, "subsampling": 0}}
    data = with_orientation(SCENE, orientation, form, **options.get(form, {}))
    expected = UPRIGHT[orientation](np.asarray(SCENE)).astype(int)
    assert pixels(data).shape == expected.shape
    assert np.abs(pixels(data) - expected).mean() < {"JPEG": 4, "AVIF": 9}.get(form, 0.001)
    assert notes(data) == ()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate"])
def test_tiff_is_turned_once(compression):
    data = with_orientation(SCENE, 6, "TIFF", compression=compression)
    assert np.array_equal(pixels(data), np.rot90(np.asarray(SCENE), -1))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"]
)
def test_broken_exif_is_noted_not_rejected(form, exif):
    data = encoded(SCENE, form, exif=exif)
    assert notes(data) == ("broken EXIF ignored, orientation unknown",)
    assert pixels(data).shape == (40, 60, 3)


# --- frames and pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "note"),
    [
        ("GIF", "animated: first of 3 frames"),
        ("PNG", "animated: first of 3 frames"),
        ("WEBP", "animated: first of 3 frames"),
        ("TIFF", "first of 3 pages"),
    ],
)
def test_first_of_several(form, note):
    frames = [Image.new("RGB", (24, 16), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert notes(data) == (note,)
    assert np.abs(pixels(data).astype(int) - (255, 0, 0)).max() <= 3


def test_first_gif_frame_that_covers_a_part_only():
    whole = encoded(Image.new("P", (10, 8), 0), "GIF")
    red = encoded(Image.new("RGB", (4, 3), (200, 0, 0)).quantize(2), "GIF")
    frame = bytearray(red[red.index(b",", 13) :])
    frame[1:5] = struct.pack("<HH", 5, 2)  # where it lies on the canvas
    data = whole[:6] + struct.pack("<HH", 10, 8) + red[10 : red.index(b",", 13)] + bytes(frame)
    expected = np.full((8, 10, 3), 255)
    expected[2:5, 5:9] = (200, 0, 0)
    assert np.array_equal(pixels(data), expected)


def test_later_frames_that_are_cut_do_not_matter():
    frames = [picture(0, i, (40, 40)).quantize(64) for i in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    cut = data[: len(data) * 5 // 6]
    assert np.array_equal(pixels(cut), pixels(data))
    assert any("animated" in note or "frames" in note for note in notes(cut))


def test_pictures_that_phones_append_are_not_an_animation():
    data = encoded(SCENE, "MPO", save_all=True, append_images=[picture(2, 1, (60, 40))])
    assert notes(data) == ()
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


# --- the cap -------------------------------------------------------------------------------------------------


def test_cap_is_checked_before_pixels_are_decoded():
    why = reason(huge_png())
    assert "60000 x 60000" in why
    assert "--max-pixels" in why
    assert f"{MAX_PIXELS / 1e6:g}" in why
    gif = b"GIF89a" + struct.pack("<HH", 60000, 60000) + b"\0\0\0," + struct.pack("<HHHH", 0, 0, 9, 9) + b"\0\2\0;"
    assert "60000 x 60000" in reason(gif)


@pytest.mark.parametrize("form", FORMATS)
def test_own_cap(form):
    data = encoded(SCENE, form)
    assert "60 x 40 pixels" in reason(data, max_pixels=60 * 40 - 1)
    assert decode(data, path="x", max_pixels=60 * 40).image.size == (60, 40)


def test_a_needle_is_rejected():
    assert "a side is longer" in reason(huge_png(2_000_000, 1))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP"])
def test_pillows_own_limit_does_not_speak(form, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(encoded(SCENE, form)).shape == (40, 60, 3)


def test_pillows_own_limit_where_it_cannot_be_avoided_is_a_reason(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert "MAX_IMAGE_PIXELS" in reason(encoded(SCENE, "TIFF"))


# --- reduced decoding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((800, 600), 600, (800, 600)),
        ((800, 600), 301, (800, 600)),
        ((800, 600), 300, (400, 300)),
        ((801, 605), 150, (201, 152)),
        ((800, 600), 1, (100, 75)),
        ((600, 1200), 300, (300, 600)),
    ],
)
def test_jpeg_is_reduced_to_no_less_than_asked(size, at_least, expected):
    data = encoded(picture(0, 0, size), "JPEG")
    assert decode(data, path="x", at_least=at_least).image.size == expected


def test_reduced_jpeg_keeps_its_orientation_and_other_formats_are_not_reduced():
    data = with_orientation(picture(3, 1, (320, 240)), 6)
    whole, half = decode(data, path="x").image, decode(data, path="x", at_least=120).image
    assert half.size == (120, 160)
    difference = np.asarray(whole.resize(half.size, Image.Resampling.BOX)).astype(int) - np.asarray(half)
    assert np.abs(difference).mean() < 2
    assert decode(encoded(SCENE, "PNG"), path="x", at_least=10).image.size == SCENE.size


def test_reduced_jpeg_differs_little_after_the_resize():
    smooth = picture(4, 1, (300, 260)).resize((1200, 1040), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=92)
    whole = decode(data, path="x").image
    reduced = decode(data, path="x", at_least=512).image
    assert reduced.size == (600, 520)
    both = [np.asarray(i.resize((295, 256), Image.Resampling.BICUBIC)).astype(int) for i in (whole, reduced)]
    assert np.abs(both[0] - both[1]).mean() < 0.6


# --- files ---------------------------------------------------------------------------------------------------


def test_read_image(tmp_path):
    file = tmp_path / "is_a_png.jpg"
    file.write_bytes(encoded(SCENE, "PNG"))
    assert np.array_equal(np.asarray(read_image(file).image), np.asarray(SCENE))
    for path in (tmp_path / "missing.jpg", tmp_path, "null\0byte"):
        with pytest.raises(ImageRejected, match="cannot be read"):
            read_image(path)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_names_of_any_bytes(tmp_path):
    name = os.path.join(tmp_path, "\udcff\udcfe.jpg")  # noqa: PTH118 - a str with undecodable bytes
    with open(name, "wb") as file:  # noqa: PTH123
        file.write(b"no image")
    with pytest.raises(ImageRejected) as caught:
        read_image(name)
    assert caught.value.path == name


def test_every_odd_file_is_what_its_maker_says(tmp_path):
    for path, outcome in make_odd_folder(tmp_path, per_class=0).items():
        try:
            found = "noted" if read_image(tmp_path / path).notes else "ok"
        except ImageRejected:
            found = "rejected"
        assert outcome in {found, "skipped"}, ascii(path)
    assert "rejected" not in make_odd_folder(tmp_path / "good", rejected=False, per_class=0).values()


def test_simple_folder(tmp_path):
    assert simple_folder(tmp_path, classes=2, splits={"train": 3, "val": 2}, size=32) == ["kind_0", "kind_1"]
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(files) == 10
    assert len({file.read_bytes() for file in files}) == 10
    assert all(read_image(file).image.size == (32, 32) for file in files)
