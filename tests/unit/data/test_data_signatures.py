import io

import pytest
from PIL import Image, features

from regraft.data.signatures import HEAD_BYTES, has_image_ending, is_image_head, why_no_image

WRITERS = {
    "JPEG": "RGB", "PNG": "RGB", "GIF": "P", "BMP": "RGB", "TIFF": "RGB", "PPM": "RGB", "ICO": "RGB",
    "ICNS": "RGB", "DDS": "RGB", "MPO": "RGB", "DIB": None, "WEBP": "RGB", "AVIF": "RGB", "JPEG2000": "RGB",
}  # fmt: skip
_NEEDS = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}


@pytest.mark.parametrize("form", [form for form, mode in WRITERS.items() if mode])
def test_what_pillow_writes_is_an_image(form):
    if form in _NEEDS and not features.check(_NEEDS[form]):
        pytest.skip(f"this Pillow cannot write {form}")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (1, 2, 3)).convert(WRITERS[form]).save(buffer, form)
    assert is_image_head(buffer.getvalue()[:HEAD_BYTES])


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "F"])
def test_the_netpbm_family(mode):
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, "PPM")
    assert is_image_head(buffer.getvalue()[:HEAD_BYTES])


@pytest.mark.parametrize(
    "head",
    [
        b"MM\x00*\x00\x00\x00\x08",
        b"II+\x00\x08\x00\x00\x00",
        b"MM\x00+\x00\x08\x00\x00",
        b"P2\n# made by hand\n2 2\n",
        b"P7\nWIDTH 2\nHEIGHT 2\n",
        b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1heic",
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00",
        b"\xff\x4f\xff\x51\x00\x2f",
    ],
)
def test_forms_that_pillow_does_not_write_here(head):
    assert is_image_head(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x00" * 32,
        b"BMW is a car, and this is a text",
        b"P5 is the fifth pattern of all of them",
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42",
        b"\x89PN",
        b"path,label\na.jpg,cat\n",
        b"%PDF-1.7\n",
        b"PK\x03\x04\x14\x00",
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b"{}",
    ],
)
def test_other_contents_are_no_images(head):
    assert not is_image_head(head)


def test_every_prefix_of_an_image_is_handled(png):
    whole = png()[:HEAD_BYTES]
    assert [is_image_head(whole[:n]) for n in range(HEAD_BYTES)] == [n >= 8 for n in range(HEAD_BYTES)]


@pytest.mark.parametrize(
    ("name", "known"), [("a.JPG", True), ("a.b.webp", True), (".jpg", False), ("jpg", False), ("a.txt", False)]
)
def test_endings(name, known):
    assert has_image_ending(name) is known


def test_an_image_ending_is_believed_and_other_files_are_opened(tmp_path, png):
    contents = {
        "no_ending": png(),
        "photo.txt": png(),
        "empty.jpg": b"",
        "text.jpg": b"text",
        "a.txt": b"text",
        "b": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    reasons = {name: why_no_image(str(tmp_path / name)) for name in contents}
    assert reasons == {
        "no_ending": None,
        "photo.txt": None,
        "empty.jpg": None,
        "text.jpg": None,
        "a.txt": "not an image",
        "b": "not an image (empty)",
    }
    assert why_no_image(str(tmp_path / "gone")) == "cannot be read (No such file or directory)"
