import base64
import io

import numpy as np
import pytest
from PIL import Image

from regraft.evaluation.report.pictures import SIDE, data_uri, make_pictures


def decoded(picture):
    head, body = picture.uri.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((600, 400), (SIDE * 3 // 2, SIDE)),
        ((400, 600), (SIDE, SIDE * 3 // 2)),
        ((60, 80), (60, 80)),
        ((1, 1), (1, 1)),
        ((5000, 10), (320, 1)),
    ],
)
def test_thumbnail_keeps_the_shape_and_never_grows(size, expected):
    picture = data_uri(Image.new("RGB", size, (10, 200, 30)))
    assert (picture.width, picture.height) == expected
    image = decoded(picture)
    assert image.size == expected
    np.testing.assert_allclose(np.asarray(image)[0, 0], (10, 200, 30), atol=4)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "LA"])
def test_thumbnail_of_any_mode(mode):
    assert decoded(data_uri(Image.new(mode, (200, 200)))).mode == "RGB"


def test_each_picture_is_made_once_and_a_bad_one_spares_the_others():
    calls = []

    def thumbnail(path):
        calls.append(path)
        if path == "bad":
            raise OSError("gone")
        return Image.new("RGB", (20, 20))

    found = make_pictures(["a", "bad", "a", "b"], thumbnail)
    assert sorted(calls) == ["a", "b", "bad"]
    assert list(found) == ["a", "bad", "b"]
    assert (found["bad"].uri, found["bad"].problem) == ("", "cannot be shown (OSError)")
    assert found["a"].uri
    assert not found["a"].problem


def test_files_are_read_by_the_one_decoder(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    Image.new("RGB", (300, 200), "red").save(good)
    bad.write_bytes(b"\xff\xd8\xff\xe0 not much of a photograph")
    found = make_pictures([str(good), str(bad), str(tmp_path / "none.jpg")])
    assert found[str(good)].uri
    assert found[str(bad)].problem
    assert found[str(tmp_path / "none.jpg")].problem
    assert str(tmp_path) not in found[str(bad)].problem
