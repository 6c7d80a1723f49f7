"""Augmentation of pairs: geometry is one for both dates and the mask, light is each date's own."""

import numpy as np
import pytest

from regraft.errors import OptionError
from regraft.training.pair_augment import PairAugment, _blurred, _hue, _means, _relit, _Strength, pair_augmentation
from regraft.training.pairs import Scene

SEEDS = range(40)
STILL = _Strength(scale=1.25)  # moves and scales, but leaves light alone


def coordinates(height=96, width=120, dtype=np.float32):
    """A scene whose bands are row and column, with a mask of both in coarse steps; the dates differ by a third band."""
    rows, columns = np.mgrid[:height, :width]
    first = np.stack([rows, columns, np.full_like(rows, 20)], -1)
    second = np.stack([rows, columns, np.full_like(rows, 200)], -1)
    return Scene(np.stack([first, second]).astype(dtype), ((rows // 8) * 16 + columns // 8).astype(np.uint8))


def scene(height=64, width=64, bands=3, dtype=np.uint8, seed=0):
    draws = np.random.default_rng(seed)
    dates = draws.integers(0, 256, (2, height, width, bands)).astype(dtype)
    return Scene(dates, draws.integers(0, 2, (height, width)).astype(np.uint8))


@pytest.fixture
def only_geometry(monkeypatch):
    monkeypatch.setitem(PairAugment.__call__.__globals__["_STRENGTHS"], "default", STILL)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("corner", [(0, 0), (16, 24), (64, 64)])
def test_dates_and_mask_stay_aligned(only_geometry, dtype, corner):
    whole = coordinates(dtype=dtype)
    seen = set()
    for seed in SEEDS:
        dates, label = PairAugment("default")(whole, *corner, 48, seed)
        assert dates.dtype == dtype
        assert dates.shape == (2, 48, 48, 3)
        np.testing.assert_allclose(dates[0, ..., :2], dates[1, ..., :2])
        labelled = label != 255
        # The mask says in which cell of 8 by 8 pixels a pixel lies; the bands say where exactly.
        rows, columns = dates[0, ..., 0].astype(float)[labelled], dates[0, ..., 1].astype(float)[labelled]
        cell_rows, cell_columns = np.divmod(label[labelled].astype(int), 16)
        assert np.abs(rows - (cell_rows * 8 + 3.5)).max() <= 4.6
        assert np.abs(columns - (cell_columns * 8 + 3.5)).max() <= 4.6
        seen.add(tuple(dates[0, 0, 0, :2].tolist()))
    assert len(seen) > len(SEEDS) / 2


def test_the_sides_are_between_0_8_and_1_25_times_as_large(only_geometry):
    whole, sides = Scene(coordinates(200, 200).dates, np.zeros((200, 200), np.uint8)), []
    for seed in SEEDS:
        dates, label = PairAugment("default")(whole, 64, 64, 64, seed)
        assert (label != 255).all()  # the scene around the window is taken in
        sides.append(np.ptp(dates[0, ..., 0]) / 64)
    assert min(sides) > 0.76
    assert max(sides) < 1.27
    assert np.std(sides) > 0.08


def test_a_scene_as_large_as_its_tile_is_never_padded(only_geometry):
    whole = coordinates(48, 48)
    assert all((PairAugment("default")(whole, 0, 0, 48, seed)[1] != 255).all() for seed in SEEDS)


def test_small_scenes_are_padded_with_ignored_pixels(only_geometry):
    whole = coordinates(20, 30)
    for seed in SEEDS:
        dates, label = PairAugment("default")(whole, 0, 0, 48, seed)
        assert dates.shape == (2, 48, 48, 3)
        assert (label == 255).any()
        assert (label != 255).sum() >= 0.6 * 20 * 30
        assert (dates[:, label == 255] <= 200).all()


def test_light_only_turns_mirrors_and_swaps():
    whole = coordinates()
    ways, swapped = set(), 0
    for seed in range(120):
        dates, label = PairAugment("light")(whole, 16, 24, 48, seed)
        first = dates[0, ..., 2].max()
        swapped += first == 200
        corners = tuple(dates[0, row, column, :2].tolist() for row, column in ((0, 0), (0, -1)))
        ways.add(str(corners))
        assert sorted(np.unique(dates[..., 0])) == list(range(16, 64))
        np.testing.assert_array_equal(label, (dates[0, ..., 0] // 8) * 16 + dates[0, ..., 1] // 8)
    assert len(ways) == 8
    assert 40 < swapped < 80
    kept = [PairAugment("light", swap=False)(whole, 0, 0, 48, seed)[0][0, 0, 0, 2] for seed in SEEDS]
    assert set(kept) == {20}


@pytest.mark.parametrize("level", ["light", "default", "heavy"])
@pytest.mark.parametrize(("bands", "dtype"), [(3, np.uint8), (1, np.uint8), (4, np.uint8), (6, np.float32)])
def test_a_pure_function_of_the_seed(level, bands, dtype):
    whole = scene(bands=bands, dtype=dtype)
    before = whole.dates.copy()
    augment = PairAugment(level)
    first, again, other = (augment(whole, 0, 0, 64, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert first[0].dtype == dtype
    assert np.isfinite(first[0]).all()
    np.testing.assert_array_equal(whole.dates, before)


def test_light_differs_between_the_dates():
    same = scene()
    same = Scene(np.stack([same.dates[0]] * 2), same.label)
    dates, _ = PairAugment("default")(same, 0, 0, 64, 0)
    assert not np.array_equal(dates[0], dates[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_means_equal_numpys(dtype):
    date = scene(40, 50, 4, dtype).dates[0]
    np.testing.assert_allclose(_means(date), date.reshape(-1, 4).mean(0, dtype=float), rtol=1e-12)


def test_other_bands_keep_their_mean_up_to_a_share_of_their_spread():
    date = np.random.default_rng(0).normal([5, -300, 1e4], [1, 40, 900], (50, 50, 3)).astype(np.float32)
    means, spreads = date.mean((0, 1)), date.std((0, 1))
    for seed in SEEDS:
        found = _relit(date, _Strength(light=0.2), np.random.default_rng(seed))
        assert (np.abs(found.mean((0, 1)) - means) <= 0.26 * spreads).all()
        assert (np.abs(found.std((0, 1)) / spreads - 1) <= 0.27).all()


@pytest.mark.parametrize(("bands", "dtype"), [(3, np.uint8), (5, np.float32)])
def test_no_strength_changes_nothing(bands, dtype):
    date = scene(bands=bands, dtype=dtype).dates[0]
    found = _relit(date, _Strength(), np.random.default_rng(0))
    np.testing.assert_allclose(found, date, atol=1e-3)


def test_brightness_and_contrast_equal_pillows():
    from PIL import Image, ImageEnhance

    date = scene().dates[0] // 2 + 40
    draws = np.random.default_rng(5)
    bright, contrast, colour = 1 + 0.3 * np.random.default_rng(5).uniform(-1, 1, 3)
    image = ImageEnhance.Brightness(Image.fromarray(date)).enhance(bright)
    image = ImageEnhance.Contrast(image).enhance(contrast)
    image = ImageEnhance.Color(image).enhance(colour)
    found = _relit(date, _Strength(light=0.3), draws)
    # Pillow rounds to bytes after each step.
    assert np.abs(found.astype(int) - np.asarray(image).astype(int)).max() <= 3


def test_hue_leaves_grey_alone_and_turns_red_to_green():
    np.testing.assert_allclose(_hue(0.7) @ np.ones(3), np.ones(3), atol=1e-12)
    np.testing.assert_allclose(_hue(2 * np.pi / 3) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(_hue(0.3) @ _hue(-0.3), np.eye(3), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_blur_equals_scipys_convolution(dtype):
    scipy = pytest.importorskip("scipy.ndimage")
    date = scene(bands=2, dtype=dtype).dates[0]
    expected = date.astype(float)
    for axis in (0, 0, 1, 1):
        expected = scipy.convolve1d(expected, [0.25, 0.5, 0.25], axis, mode="nearest")
    tolerance = 0.51 if dtype == np.uint8 else 1e-3
    np.testing.assert_allclose(_blurred(date), expected, atol=tolerance)


def test_levels():
    assert pair_augmentation("none") is None
    assert pair_augmentation("heavy", swap=False) == PairAugment("heavy", swap=False)
    with pytest.raises(OptionError, match=r"'havy' is none of none, light, default, heavy.*did you mean heavy"):
        pair_augmentation("havy")
