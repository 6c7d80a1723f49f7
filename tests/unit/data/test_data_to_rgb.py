import io
import struct

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageCms, features

from decoding import notes, pixels, reason
from odd_images import (
    encoded,
    palette_with_transparency,
    picture,
    png_16_bit,
    png_chunk,
    see_through,
)
from regraft.data.to_rgb import to_rgb

SCENE = picture(1, 7, (60, 40))
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
FORMATS = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM", pytest.param("AVIF", marks=needs_avif)]


# --- colours -------------------------------------------------------------------------------------------------


def test_grey_bilevel_and_palette_need_no_note():
    grey = SCENE.convert("L")
    for image in (grey, SCENE.convert("1"), SCENE.quantize(8), SCENE.convert("P")):
        data = encoded(image, "PNG")
        assert np.array_equal(pixels(data), np.asarray(image.convert("RGB")))
        assert notes(data) == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_shown_on_white(form, mode):
    image = see_through(SCENE, mode)
    data = encoded(image, form, **({"lossless": True} if form == "WEBP" else {}))
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    expected = 255 + (rgba[..., :3] - 255) * rgba[..., 3:] / 255
    assert np.abs(pixels(data) - expected).max() <= 1
    assert notes(data) == ("transparency shown on white",)


def test_an_alpha_channel_that_hides_nothing_is_no_news():
    image = SCENE.copy()
    image.putalpha(255)
    assert notes(encoded(image, "PNG")) == ()
    assert np.array_equal(pixels(encoded(image, "PNG")), np.asarray(SCENE))


def test_palette_transparency_as_bytes_and_as_one_index():
    data = palette_with_transparency(SCENE)
    reference = Image.open(io.BytesIO(data)).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", SCENE.size, "white"), reference).convert("RGB")
    assert np.abs(pixels(data).astype(int) - np.asarray(expected)).max() <= 1
    assert notes(data) == ("transparency shown on white",)
    one = Image.new("P", (4, 1))
    one.putpalette([0, 0, 0, 200, 0, 0])
    one.putpixel((1, 0), 1)
    assert pixels(encoded(one, "GIF", transparency=0))[0].tolist() == [[255] * 3, [200, 0, 0], [255] * 3, [255] * 3]


def test_one_transparent_colour_in_grey_and_colour_png():
    grey = Image.fromarray(np.array([[0, 100, 200]], np.uint8))
    assert pixels(encoded(grey, "PNG", transparency=100))[0, :, 0].tolist() == [0, 255, 200]
    colour = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert pixels(encoded(colour, "PNG", transparency=(4, 5, 6)))[0].tolist() == [[1, 2, 3], [255] * 3]


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "HSV", "YCbCr"])
def test_modes_that_few_files_have(mode):
    image = see_through(SCENE, "LA" if mode == "La" else "RGBA") if mode.endswith("a") else SCENE
    converted = image.quantize(16).convert("PA") if mode == "PA" else image.convert(mode)
    result, said = to_rgb(converted, "x")
    assert (result.mode, result.size) == ("RGB", SCENE.size)
    if mode.endswith("a"):
        assert said == ["transparency shown on white"]
        assert result.getpixel((0, 0)) == (255, 255, 255)
    else:
        assert np.abs(np.asarray(result).astype(int) - np.asarray(SCENE)).mean() < (16 if mode == "PA" else 5)


def test_cmyk_and_ycck_have_adobes_sign():
    ink = Image.new("CMYK", (32, 32), (200, 30, 60, 20))
    expected = [(255 - c) * (255 - 20) / 255 for c in (200, 30, 60)]
    inverted = np.ascontiguousarray(255 - np.asarray(ink))
    files = {
        "CMYK JPEG": encoded(ink, "JPEG", quality=100),
        "YCCK JPEG": simplejpeg.encode_jpeg(inverted, quality=100, colorspace="CMYK"),
        "CMYK TIFF": encoded(ink, "TIFF"),
    }
    for name, data in files.items():
        assert np.abs(pixels(data).mean((0, 1)) - expected).max() < 2, name
        assert notes(data) == ("CMYK converted to RGB without a colour profile",)


def test_lab_and_ycbcr_tiff():
    flat = Image.new("RGB", (16, 16), (200, 60, 30))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    data = encoded(ImageCms.applyTransform(flat, ImageCms.buildTransform(srgb, lab, "RGB", "LAB")), "TIFF")
    assert np.abs(pixels(data).astype(int) - (200, 60, 30)).max() <= 3
    assert notes(data) == ("LAB converted to sRGB",)
    assert (
        np.abs(pixels(encoded(flat.convert("YCbCr"), "TIFF", compression="jpeg")).astype(int) - (200, 60, 30)).max()
        <= 2
    )


# --- more than eight bits ------------------------------------------------------------------------------------

WIDE = np.array([[0, 128, 129, 257], [32768, 33000, 65407, 65535]], np.uint16)


def tiff(values):
    return encoded(Image.fromarray(values), "TIFF")


@pytest.mark.parametrize(
    "data",
    [png_16_bit(WIDE), tiff(WIDE), tiff(WIDE.astype(">u2")), tiff(WIDE.astype(np.int32))],
    ids=["PNG", "TIFF", "big-endian TIFF", "32-bit TIFF"],
)
def test_sixteen_bit_grey_is_divided_by_257(data):
    assert pixels(data)[..., 0].tolist() == [[round(v / 257) for v in row] for row in WIDE.tolist()]
    (note,) = notes(data)
    assert "v / 257" in note
    assert "values 0 to 65535" in note


def test_sixteen_bit_pgm_that_is_dark_is_not_taken_for_eight_bit():
    data = b"P5 2 1 65535\n" + struct.pack(">HH", 0, 255)
    assert pixels(data)[0, :, 0].tolist() == [0, 1]


def test_sixteen_bit_data_that_use_little_of_the_range_are_pointed_out():
    said = notes(png_16_bit(WIDE // 16))
    assert len(said) == 2
    assert "nearly black" in said[1]
    assert notes(png_16_bit(WIDE)) == notes(png_16_bit(WIDE))[:1]


def test_sixteen_bit_colour_png_keeps_the_high_byte():
    values = np.stack([WIDE, WIDE[::-1], WIDE[:, ::-1]], axis=-1)
    data = png_16_bit(values)
    assert np.array_equal(pixels(data), (values // 256).astype(np.uint8))
    assert notes(data) == ("16-bit colour reduced to 8 bit: v // 256",)


def test_transparent_colour_of_a_sixteen_bit_png():
    grey = png_16_bit(WIDE)
    data = grey.replace(grey[33:41], png_chunk(b"tRNS", struct.pack(">H", 257)) + grey[33:41], 1)
    assert pixels(data)[0, :, 0].tolist() == [0, 0, 1, 255]
    assert notes(data)[-1] == "transparency shown on white"
    colour = png_16_bit(np.stack([WIDE] * 3, axis=-1))
    data = colour.replace(colour[33:41], png_chunk(b"tRNS", struct.pack(">HHH", *[32768] * 3)) + colour[33:41], 1)
    assert pixels(data)[1, :, 0].tolist() == [255, 255, 255, 255]


@pytest.mark.parametrize(
    ("values", "expected", "rule"),
    [
        ([0.0, 0.25, 1.0], [0, 64, 255], "255 v"),
        ([0.0, 100.4, 254.0], [0, 100, 254], "v as it is"),
        ([-1.0, 0.0, 3.0], [0, 64, 255], "stretched"),
        ([7000.0, 7000.0, 7000.0], [0, 0, 0], "stretched"),
    ],
)
def test_float_rules(values, expected, rule):
    data = tiff(np.array([values], np.float32))
    assert pixels(data)[0, :, 0].tolist() == expected
    (note,) = notes(data)
    assert rule in note
    assert f"values {values[0]:g} to {values[2]:g}" in note


@pytest.mark.parametrize(
    ("values", "expected", "rule"),
    [
        ([0, 100, 255], [0, 100, 255], "v as it is"),
        ([0, 257, 65535], [0, 1, 255], "v / 257"),
        ([-5, 0, 5], [0, 128, 255], "stretched"),
        ([0, 1_000_000, 2_000_000], [0, 128, 255], "stretched"),
    ],
)
def test_wide_integer_rules(values, expected, rule):
    data = tiff(np.array([values], np.int32))
    assert pixels(data)[0, :, 0].tolist() == expected
    assert rule in notes(data)[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_rejected(bad):
    assert "NaN or infinite" in reason(tiff(np.array([[0.0, bad]], np.float32)))


def test_sixteen_bit_tiff_that_stores_white_as_zero():
    data = encoded(Image.fromarray(WIDE), "TIFF", tiffinfo={262: 0})
    if b"\x06\x01\x03\x00\x01\x00\x00\x00\x00\x00" not in data:  # tag 262, SHORT, one value: 0
        data = data.replace(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00", b"\x06\x01\x03\x00\x01\x00\x00\x00\x00\x00")
    assert pixels(data)[..., 0].tolist() == [[255 - round(v / 257) for v in row] for row in WIDE.tolist()]
