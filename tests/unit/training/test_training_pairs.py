"""Tiles of change pairs: the grid, what is loaded, what stays in memory."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.data.change_labels import LabelCoding
from regraft.data.pairs import Pair
from regraft.errors import ImageRejected
from regraft.training.batches import EVALUATION, training_batches
from regraft.training.pair_augment import PairAugment
from regraft.training.pairs import PairExamples, PairSource, Scene, Tile, tiles_of, window

CODING = LabelCoding(((0, 0), (255, 1)), 2, ignore=False)


@pytest.fixture
def pairs(tmp_path):
    """Two pairs of noise: (20, 30) and (16, 16), with what was written."""
    draws = np.random.default_rng(0)
    items, written = [], []
    for number, size in enumerate([(20, 30), (16, 16)]):
        before, after = draws.integers(0, 256, (2, *size, 3), np.uint8)
        label = 255 * draws.integers(0, 2, size, np.uint8)
        paths = [str(tmp_path / f"{number}{what}.png") for what in ("before", "after", "label")]
        for path, values in zip(paths, (before, after, label), strict=True):
            Image.fromarray(values).save(path)
        items.append(Pair(f"{number}.png", *paths))
        written.append((before, after, label))
    return items, written


def source(items, memory=10**6):
    return PairSource.of(items, CODING, sizes=[(20, 30), (16, 16)], bands=3, dtype="uint8", memory=memory)


@pytest.mark.parametrize("tile", [5, 16, 64])
def test_the_grid_covers_every_pixel_once(tile):
    sizes = [(20, 30), (16, 16), (1, 7)]
    seen = [np.zeros((100, 100), int) for _ in sizes]
    tiles = tiles_of(sizes, tile)
    for one in tiles:
        seen[one.pair][one.top : one.top + tile, one.left : one.left + tile] += 1
    for (height, width), count in zip(sizes, seen, strict=True):
        assert (count[:height, :width] == 1).all()
    assert len(set(tiles)) == len(tiles)


def test_evaluation_loads_every_labelled_pixel_once_and_as_it_is(pairs):
    items, written = pairs
    tiles = tiles_of([(20, 30), (16, 16)], 16)
    examples = PairExamples(source(items), tiles, 16, PairAugment("heavy"), seed=3)
    changed = labelled = 0
    for row, tile in enumerate(tiles):
        dates, label = examples.load(row, EVALUATION)
        assert dates.shape == (2, 3, 16, 16)
        assert (dates.dtype, label.dtype) == (torch.uint8, torch.uint8)
        before, _after, mask = written[tile.pair]
        inside = (slice(tile.top, tile.top + 16), slice(tile.left, tile.left + 16))
        height, width = mask[inside].shape
        np.testing.assert_array_equal(dates[0, :, :height, :width].permute(1, 2, 0), before[inside])
        assert (label[height:] == 255).all()
        assert (label[:, width:] == 255).all()
        assert (dates[:, :, height:] == 0).all()
        changed += int((label == 1).sum())
        labelled += int((label != 255).sum())
    assert labelled == 20 * 30 + 16 * 16
    assert changed == sum(int((mask > 0).sum()) for _, _, mask in written)
    assert len(examples) == len(examples.targets) == len(tiles)


def test_training_is_a_function_of_seed_epoch_and_row(pairs):
    items, _ = pairs
    tiles = tiles_of([(20, 30), (16, 16)], 16)
    examples = PairExamples(source(items), tiles, 16, PairAugment("default"), seed=3)
    again = PairExamples(source(items), tiles, 16, PairAugment("default"), seed=3)
    other = PairExamples(source(items), tiles, 16, PairAugment("default"), seed=4)
    first = examples.load(1, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, again.load(1, 5), strict=True))
    for unlike in (examples.load(1, 6), examples.load(2, 5), other.load(1, 5)):
        assert not torch.equal(first[0], unlike[0])
    plain = examples.plain()
    assert all(torch.equal(a, b) for a, b in zip(plain.load(1, 5), plain.load(1, EVALUATION), strict=True))


def test_pairs_that_fit_are_decoded_once_and_others_again(pairs, tmp_path):
    items, _ = pairs
    kept = source(items)
    kept.fill()
    few = PairSource(tuple(items), CODING, keep=1)
    few.fill()
    assert few.scene(0) is few.scene(0)
    few.scene(1)
    (tmp_path / "0after.png").unlink()
    assert kept.scene(0).size == (20, 30)
    with pytest.raises(ImageRejected, match=r"0after\.png: cannot be read"):
        few.scene(0)
    assert source(items, memory=10).keep == 2
    assert PairSource.of(items * 5, CODING, sizes=[(20, 30)] * 10, bands=3, dtype="uint8", memory=10).keep == 4


def test_pickled_without_what_is_in_memory(pairs):
    items, _ = pairs
    examples = PairExamples(source(items), tiles_of([(20, 30), (16, 16)], 16), 16, PairAugment("default"), seed=3)
    examples.source.fill()
    data = pickle.dumps(examples)
    assert len(data) < 2000
    sent = pickle.loads(data)
    assert all(torch.equal(a, b) for a, b in zip(sent.load(0, 1), examples.load(0, 1), strict=True))
    assert sent.source == examples.source


def test_what_a_date_has_no_data_for_is_ignored(tmp_path, pairs):
    items, written = pairs
    before, after, _ = written[1]
    hole = np.full((16, 16, 1), 255, np.uint8)
    hole[3, 4] = 0
    Image.fromarray(np.concatenate([after, hole], -1)).save(items[1].after)
    scene = source(items).scene(1)
    assert np.argwhere(scene.label == 255).tolist() == [[3, 4]]
    assert scene.dates[1, 3, 4].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(scene.dates[0], before)
    unlabelled = PairSource((items[1],), None, keep=1).scene(0)
    assert (unlabelled.label == 255).all()


def test_wide_values_become_floats(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    for name in ("before", "after"):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", height=4, width=6, count=5, dtype="uint16"
        ) as raster:
            raster.write(np.arange(120, dtype=np.uint16).reshape(5, 4, 6) * 500)
    pair = Pair("x", str(tmp_path / "before.tif"), str(tmp_path / "after.tif"))
    dates, _ = PairExamples(PairSource((pair,), None, 1), (Tile(0, 0, 0),), 4, None, 0).load(0, EVALUATION)
    assert dates.dtype == torch.float32
    assert dates.shape == (2, 5, 4, 4)
    assert dates[1, 4, 3, 0].item() == 114 * 500


def test_files_that_changed_since_the_survey_are_rejected(pairs):
    items, _ = pairs
    Image.new("RGB", (5, 5)).save(items[0].after)
    with pytest.raises(ImageRejected, match=r"differs from .* in size"):
        source(items).scene(0)
    Image.new("L", (5, 5)).save(items[1].label)
    with pytest.raises(ImageRejected, match=r"differs from .* in size"):
        source(items).scene(1)


def test_windows_inside_are_views_and_beyond_are_empty():
    scene = Scene(np.ones((2, 8, 8, 1), np.uint8), np.zeros((8, 8), np.uint8))
    dates, _ = window(scene, 2, 3, 5)
    assert np.shares_memory(dates, scene.dates)
    dates, label = window(scene, -2, 5, 5)
    assert (label == 0).sum() == dates[0].sum() == 9
    assert (label[2:, :3] == 0).all()


def test_loading_processes_give_the_same_batches(pairs):
    items, _ = pairs
    examples = PairExamples(source(items), tiles_of([(20, 30), (16, 16)], 16), 16, PairAugment("default"), seed=3)
    here, there = (list(training_batches(examples, batch=2, seed=1, epoch=4, workers=workers)) for workers in (0, 2))
    assert len(here) == len(there) == 2
    for one, other in zip(here, there, strict=True):
        assert one.inputs.shape == (2, 2, 3, 16, 16)
        assert one.targets.shape == (2, 16, 16)
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.rows, other.rows)
