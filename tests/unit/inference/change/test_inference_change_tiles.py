"""Tiles cover the scene, their weights sum to 1, and blending neither shifts nor leaves seams."""

import itertools

import numpy as np
import pytest

from regraft.errors import OptionError
from regraft.inference.change.tiles import blend, padded, plan, positions, shares, window

SIZES = [(100, 32, 8), (64, 64, 0), (64, 32, 0), (65, 32, 0), (33, 32, 31), (10, 32, 8), (1, 16, 4), (97, 32, 20)]


@pytest.mark.parametrize(("length", "tile", "overlap"), SIZES)
def test_every_pixel_is_covered_and_the_shares_sum_to_one(length, tile, overlap):
    starts, weights = positions(length, tile, overlap), shares(length, tile, overlap)
    total = np.zeros(max(length, tile))
    for start, own in zip(starts, weights, strict=True):
        total[start : start + tile] += own
    np.testing.assert_allclose(total[:length], 1, rtol=0, atol=1e-15)
    assert (weights[:, : min(length, tile)] > 0).all()
    assert starts[-1] + tile == max(length, tile)
    assert all(after - before <= tile - overlap for before, after in itertools.pairwise(starts))


def test_the_window_is_a_raised_cosine_whose_neighbours_sum_to_one():
    weights = window(32, 8)
    np.testing.assert_allclose(weights[:8], 0.5 - 0.5 * np.cos(np.pi * (np.arange(8) + 0.5) / 8))
    np.testing.assert_allclose(weights[-8:] + weights[:8], 1)
    assert (weights[8:-8] == 1).all()
    assert (window(32, 0) == 1).all()


def run(laid, ask):
    """Blend what `ask(top, left)` says (K, tile, tile) of all tiles."""
    carried, parts = None, []
    for row, top in enumerate(laid.tops):
        answers = [(column, ask(top, left)) for column, left in enumerate(laid.lefts)]
        carried = np.zeros((len(answers[0][1]), 0, laid.width)) if carried is None else carried
        done, carried = blend(laid, row, answers, carried)
        parts.append(done)
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(("height", "width", "overlap"), [(100, 83, 8), (100, 83, 0), (20, 90, 30), (7, 9, 8)])
def test_what_all_tiles_agree_on_stays_as_it_is(height, width, overlap):
    truth = np.random.default_rng(0).random((3, 132, 132)).astype(np.float32)
    laid = plan(height, width, tile=32, overlap=overlap)
    found = run(laid, lambda top, left: truth[:, top : top + 32, left : left + 32])
    assert found.shape == (3, height, width)
    assert (found.astype(np.float32) == truth[:, :height, :width]).all()


def test_tiles_that_disagree_fade_into_each_other():
    laid = plan(200, 200, tile=64, overlap=32)
    found = run(laid, lambda top, left: np.full((1, 64, 64), (top // 32 + left // 32) % 2, np.float32))[0]
    slope = np.pi / 2 / 32  # the steepest that sin^2 over the overlap gets, for tiles as far apart as 0 and 1
    assert (
        max(np.abs(np.diff(found, axis=axis)).max() for axis in (0, 1)) < 1.5 * slope
    )  # a little more at the shifted tiles
    assert found.max() > 0.99
    assert found.min() < 0.01


def test_a_small_scene_is_mirrored():
    values = np.arange(12).reshape(3, 4, 1)
    found = padded(values, 16)
    assert found.shape == (16, 16, 1)
    assert (found[:5, 0, 0] == [0, 4, 8, 4, 0]).all()
    assert padded(found, 16) is found


@pytest.mark.parametrize(("tile", "overlap", "name"), [(8, 0, "tile is 8"), (32, 32, "overlap is 32"), (32, -1, "-1")])
def test_wrong_options_are_named(tile, overlap, name):
    with pytest.raises(OptionError, match=name):
        plan(100, 100, tile=tile, overlap=overlap)
