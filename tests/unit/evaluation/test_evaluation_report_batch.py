import re

import numpy as np
import pytest
from PIL import Image

from regraft.evaluation.report import batch, lettering
from regraft.evaluation.report.batch import TILE, batch_picture, terminal_batch, terminal_picture

CODE = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m")
LABELS = ["ants", "caf\udce9", "猫咪", "عربى", "🐝", "a name that is far too long for any tile to hold", None, "a\nb"]


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def images(labels=LABELS):
    return [(Image.new("RGB", (60 + 40 * i, 90), (20 * i, 90, 200)), label) for i, label in enumerate(labels)]


def test_grid_has_each_image_whole_in_its_tile():
    page = batch_picture([(Image.new("RGB", (400, 200), "red"), "a")] * 4, columns=2)
    pixels = np.asarray(page)
    red = (pixels == (255, 0, 0)).all(axis=2)
    assert red.sum() == 4 * TILE * (TILE // 2)
    assert page.width == 2 * TILE + 3 * 12


@pytest.mark.parametrize("count", [0, 1, 2, 7, 12, 30])
def test_grid_of_any_number(count):
    page = batch_picture([(Image.new("L", (3, 3)), "x")] * count, title="Training images")
    assert page.mode == "RGB"
    tiles = (page.width // TILE) * (page.height // TILE)
    assert count <= tiles <= count + 7 or count == 0


def test_grid_prefers_full_rows():
    assert [batch._columns_for(n) for n in (1, 4, 12, 16, 24)] == [1, 2, 4, 4, 6]


def test_labels_of_any_script_are_drawn(monkeypatch):
    page = batch_picture(images(), title="猫 \udcff")
    assert np.asarray(page)[-30:].min() < 100  # ink under the last row
    monkeypatch.setattr(lettering, "_FURTHER_FONTS", ())
    assert lettering.font_for("猫", 14)[1] == r"\u732b"
    assert lettering.font_for("ants", 14)[1] == "ants"


def test_labels_stay_inside_their_tile():
    page = np.asarray(batch_picture([(Image.new("RGB", (9, 9)), "W" * 200)] * 2, columns=2))
    assert (page[:, 12 + TILE : 12 + TILE + 12] == 255).all()


def test_terminal_picture_shows_each_pixel_in_its_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    lines = terminal_picture(Image.fromarray(pixels), 6).split("\n")
    assert [plain(line) for line in lines] == ["▀" * 6] * 2
    for y, line in enumerate(lines):
        assert line.endswith("\x1b[0m")
        for x, found in enumerate(CODE.findall(line)):
            assert [int(v) for v in found] == [*pixels[2 * y, x], *pixels[2 * y + 1, x]]


def test_terminal_picture_keeps_the_shape_and_takes_any_mode():
    lines = terminal_picture(Image.new("P", (300, 100)), 60).split("\n")
    assert len(lines) == 10
    assert lines[0].count("\x1b[38") == 1  # one colour is said once


def test_terminal_batch_has_labels_under_tiles_of_equal_width():
    text = plain(terminal_batch(images(), width=43, columns=4)).split("\n")
    captions = [line for line in text if "▀" not in line]
    assert len(captions) == 2
    assert captions[0].startswith("ants       ")
    assert r"caf\xe9" in captions[0]
    assert captions[0][22:24] == "猫咪"  # two cells each
    assert "a name th…" in captions[1]
    assert "no label" in captions[1]
    assert "a b" in captions[1]
    assert {len(line) for line in text if "▀" in line} == {43}


def test_terminal_batch_of_nothing_is_nothing():
    assert terminal_batch([]) == ""
