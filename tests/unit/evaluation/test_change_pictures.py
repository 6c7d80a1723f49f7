"""Pictures of changes: every pixel has the colour of what it is."""

import base64
import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from regraft.evaluation.report.change_pictures import (
    FALSE,
    FOUND,
    GREY,
    MISSED,
    OTHER,
    TILE,
    UNCHANGED,
    embedded,
    errors_picture,
    label_picture,
    pairs_picture,
    picture_limits,
    to_picture,
)

# Linear RGB as seen without the long or the middle cones (Vienot, Brettel and Mollon 1999).
EYES = {
    "protanope": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deuteranope": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    "both": np.eye(3),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def as_seen(colour, eye):
    """CIE L*a*b* of a colour in an eye."""
    rgb = np.array(colour) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt((XYZ @ np.clip(EYES[eye] @ linear, 0, 1)) / XYZ.sum(axis=1)).clip(0.138)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_each_kind_of_pixel_has_its_colour():
    truth = np.array([[0, 0, 1, 1, 2, 255, 255]], np.uint8)
    predicted = np.array([[0, 1, 1, 0, 1, 1, 0]], np.uint8)
    expected = [UNCHANGED, FALSE, FOUND, MISSED, OTHER, GREY, GREY]
    assert list(map(tuple, errors_picture(truth, predicted)[0].tolist())) == expected
    assert list(map(tuple, label_picture(truth[:, 1:6], 2)[0].tolist())) == [UNCHANGED, FOUND, FOUND, FOUND, GREY]
    kinds = label_picture(truth, 3)[0].tolist()
    assert len(set(map(tuple, kinds))) == 4
    assert kinds[0] == [0, 0, 0]


@pytest.mark.parametrize("eye", EYES)
def test_colour_blind_people_tell_the_colours_apart(eye):
    seen = [as_seen(colour, eye) for colour in (UNCHANGED, FOUND, FALSE, MISSED, GREY)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20  # 2 is just noticeable


def test_other_bands_are_stretched_between_percentiles():
    rng = np.random.default_rng(0)
    values = rng.integers(200, 9000, (50, 40, 5)).astype(np.uint16)
    shown = to_picture(values)
    assert shown.shape == (50, 40, 3)
    for band in range(3):
        low, high = np.percentile(values[..., band], [2, 98])
        expected = np.clip((values[..., band] - low) / (high - low), 0, 1) * 255
        assert np.abs(shown[..., band] - expected).max() <= 0.5
    assert np.array_equal(to_picture(values * 3.0 + 7), shown)  # units do not matter
    grey = to_picture(values[..., :1])
    assert (grey == grey[..., :1]).all()
    assert np.array_equal(grey[..., 0], shown[..., 0])
    assert np.array_equal(to_picture(values[..., :2]), grey)


def test_eight_bit_colours_stay_and_pixels_without_value_are_grey():
    values = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    assert np.array_equal(to_picture(values), values)
    valid = np.ones((9, 9), bool)
    valid[2, 3] = False
    assert to_picture(values, valid)[2, 3].tolist() == list(GREY)
    assert values[2, 3].tolist() != list(GREY)  # the input is left alone
    floats = values.astype(np.float32)
    floats[4, 4, 1] = np.nan
    floats[2, 3] = -9999
    assert np.array_equal(
        picture_limits(floats, valid=valid)[0], np.percentile(values[valid][:, 0][None], [2, 98]) * 1.0
    )
    shown = to_picture(floats, valid)
    assert shown[4, 4].tolist() == shown[2, 3].tolist() == list(GREY)
    assert (to_picture(np.full((3, 3, 4), np.nan)) == 128).all()
    assert to_picture(np.full((3, 3, 1), 5.0)).max() == 0


def test_two_dates_share_their_limits():
    rng = np.random.default_rng(1)
    before = rng.normal(100, 5, (30, 30, 4)).astype(np.float32)
    after = before.copy()
    after[:5, :5] = 900
    limits = picture_limits(before, after)
    same = to_picture(before, limits=limits)[5:] == to_picture(after, limits=limits)[5:]
    assert same.all()


def test_pictures_in_the_page_are_small_and_masks_are_exact():
    mask = errors_picture(*np.random.default_rng(0).integers(0, 2, (2, 64, 64), np.uint8))
    shown = embedded(mask, photo=False)
    kind, _, encoded = shown.uri.partition(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))), mask)
    large = embedded(np.zeros((500, 1000, 3), np.uint8), photo=True)
    assert (large.width, large.height) == (320, 160)
    assert large.uri.startswith("data:image/jpeg")


def colours(page, at):
    return np.asarray(page)[at[1], at[0]].tolist()


def test_pairs_are_drawn_side_by_side():
    red, blue = (np.full((64, 64, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    label = np.ones((64, 64), np.uint8)
    label[:, :32] = 0
    page = pairs_picture([(red, blue, label, "a.png"), (red, blue, None, "<b>\udcff猫.png")] * 2, 2, title="levir")
    pixels = np.asarray(page).reshape(-1, 3)
    side = min(TILE, 128)  # twice as large, no more
    assert (pixels == (255, 0, 0)).all(axis=1).sum() == 4 * side**2
    assert (pixels == (0, 0, 255)).all(axis=1).sum() == 4 * side**2
    assert (pixels == (0, 0, 0)).all(axis=1).sum() == 2 * side * side // 2
    assert page.width < 6.6 * TILE
    without = pairs_picture([(red, blue, None, "a")] * 3, 3)
    assert without.width < 6.6 * TILE


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_any_number_of_pairs_can_be_drawn(count):
    page = pairs_picture([(np.zeros((300, 200, 3), np.uint8),) * 2 + (None, "x" * 300)] * count)
    assert page.mode == "RGB"
    tiles = (page.width // (2 * TILE)) * (page.height // TILE)
    assert tiles >= count
