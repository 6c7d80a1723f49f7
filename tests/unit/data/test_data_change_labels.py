"""Masks: what their values mean, decided for a whole data set, and what cannot be decided."""

import numpy as np
import pytest
from PIL import Image

from regraft.data import change_labels
from regraft.data.change_labels import LabelCoding, check_coded, coding_of, find_coding, label_values, read_label
from regraft.data.pairs import Pair, Pairs
from regraft.errors import DataError, ImageRejected

BLACK_WHITE = LabelCoding(((0, 0), (255, 1)), 2, ignore=False)
PLAIN = LabelCoding(((0, 0), (1, 1)), 2, ignore=False)


def mask(*values, dtype=np.uint8):
    """4x6 pixels with the values in turn."""
    return np.resize(np.array(values, dtype), (4, 6))


@pytest.fixture
def masks(tmp_path):
    """Writes masks, arrays or Pillow images, and makes pairs of them."""

    def make(*contents, ending="png", **options):
        items = []
        for number, content in enumerate(contents):
            path = tmp_path / f"m{number}.{ending}"
            image = content if isinstance(content, Image.Image) else Image.fromarray(content)
            image.save(path, **options)
            items.append(Pair(f"m{number}", "a", "b", str(path)))
        return Pairs(tuple(items), "here")

    return make


@pytest.mark.parametrize(
    ("contents", "coding"),
    [
        ([mask(0, 1)], PLAIN),
        ([mask(0), mask(1)], PLAIN),
        ([mask(0, 255)], BLACK_WHITE),
        ([mask(0), mask(255)], BLACK_WHITE),
        ([mask(0, 1, 255)], LabelCoding(((0, 0), (1, 1)), 2, ignore=True)),
        ([mask(0, 255), mask(0, 1), mask(1, 255)], LabelCoding(((0, 0), (1, 1)), 2, ignore=True)),
        ([mask(0, 2), mask(1, 3)], LabelCoding(((0, 0), (1, 1), (2, 2), (3, 3)), 4, ignore=False)),
        ([mask(0, 1, 2), mask(0, 255)], LabelCoding(((0, 0), (1, 1), (2, 2)), 3, ignore=True)),
    ],
)
def test_what_the_values_mean(masks, contents, coding):
    pairs = masks(*contents)
    assert find_coding(pairs) == coding
    classes = dict(coding.values) | {255: dict(coding.values).get(255, 255)}
    for item, content in zip(pairs.items, contents, strict=True):
        expected = np.vectorize(classes.get)(content)
        found = read_label(item.label, coding)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8


def test_masks_of_0_and_1_do_not_come_out_as_all_0(masks):
    pairs = masks(mask(0, 1, 0))
    assert read_label(pairs.items[0].label, find_coding(pairs)).sum() == 8


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(mask(0, 255)).convert("1"),
        Image.fromarray(mask(0, 255)).convert("RGB"),
        Image.fromarray(np.stack([mask(0, 255)] * 3 + [mask(9, 200)], -1)),
        Image.fromarray(mask(0, 255)).convert("LA"),
        Image.fromarray(mask(0, 255).astype(np.uint16)),
    ],
    ids=["1", "RGB", "RGBA", "LA", "16 bit"],
)
def test_every_way_to_store_black_and_white(masks, image):
    pairs = masks(image)
    np.testing.assert_array_equal(read_label(pairs.items[0].label, find_coding(pairs)), mask(0, 1))


def test_one_bit_files_agree_with_either_way(masks):
    bilevel = Image.fromarray(mask(255, 0)).convert("1")
    for other in (mask(0, 255), mask(0, 1)):
        pairs = masks(bilevel, other)
        coding = find_coding(pairs)
        np.testing.assert_array_equal(read_label(pairs.items[0].label, coding), mask(1, 0))
        np.testing.assert_array_equal(read_label(pairs.items[1].label, coding), mask(0, 1))


def test_a_palette_gives_its_indices_but_black_and_white_what_they_show(masks):
    colours = Image.fromarray(mask(0, 1, 2))
    colours = colours.convert("P")
    colours.putdata(mask(0, 1, 2).ravel().tolist())
    colours.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    pairs = masks(colours)
    np.testing.assert_array_equal(read_label(pairs.items[0].label, find_coding(pairs)), mask(0, 1, 2))
    turned = Image.new("P", (6, 4))
    turned.putdata(mask(0, 1).ravel().tolist())
    turned.putpalette([255, 255, 255, 0, 0, 0])
    pairs = masks(turned)
    assert find_coding(pairs) == BLACK_WHITE
    np.testing.assert_array_equal(read_label(pairs.items[0].label, BLACK_WHITE), mask(1, 0))


@pytest.mark.parametrize("rasterio", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff(masks, monkeypatch, dtype, rasterio):
    if rasterio:
        pytest.importorskip("rasterio")
    monkeypatch.setattr(change_labels, "has_rasterio", lambda: rasterio)
    pairs = masks(mask(0, 1, 2, dtype=dtype), ending="tif")
    coding = find_coding(pairs)
    assert coding.classes == 3
    np.testing.assert_array_equal(read_label(pairs.items[0].label, coding), mask(0, 1, 2))


def test_bmp_and_an_unharmed_jpeg(masks):
    assert find_coding(masks(mask(0, 255), ending="bmp")) == BLACK_WHITE
    black_and_white = np.kron(np.array([[0, 255]], np.uint8), np.ones((8, 8), np.uint8))
    pairs = masks(black_and_white, ending="jpg", quality=100)
    np.testing.assert_array_equal(read_label(pairs.items[0].label, find_coding(pairs)), black_and_white > 0)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([mask(0, 255), mask(0, 3, 252, 255)], r"m1\.png is a mask with the values 0, 3, 252, 255\. Write masks"),
        ([mask(0, 128)], "values 0, 128"),
        ([mask(0, 1), mask(0, 255)], r"m0\.png is a mask with the values 0, 1 and .*m1\.png one with 0, 255"),
        ([mask(0, 1), mask(255)], "cannot be told"),
        ([mask(0, 2)], r"0, 2, but no mask has 1"),
        ([mask(0, 5, 1)], r"no mask has 2, 3, 4"),
        ([mask(0), mask(0)], "No pixel of 2 masks"),
        ([mask(0, 1000, dtype=np.uint16)], "values 0, 1000"),
        ([np.stack([mask(0, 9), mask(0, 8), mask(0, 7)], -1)], r"colours, such as \[9, 8, 7\]"),
        ([], "no mask that can be read"),
    ],
)
def test_what_cannot_be_told_is_refused_naming_the_file(masks, contents, message):
    with pytest.raises(DataError, match=message):
        find_coding(masks(*contents))


def test_floats_that_are_not_whole_are_refused(masks):
    with pytest.raises(DataError, match=r"values such as 0\.5"):
        find_coding(masks(mask(0, 0.5, dtype=np.float32), ending="tif"))


def test_a_jpeg_with_other_values_is_refused(masks):
    noise = np.random.default_rng(0).integers(0, 2, (32, 32), np.uint8) * 255
    with pytest.raises(DataError, match="the compression has changed the mask"):
        find_coding(masks(noise, ending="jpg"))


def test_a_file_that_does_not_follow_the_coding_is_rejected(masks):
    pairs = masks(mask(0, 255), mask(0, 1))
    path = pairs.items[1].label
    with pytest.raises(ImageRejected, match=r"m1\.png: a mask with the values 1, where 2 classes \(0 is class 0, 255"):
        read_label(path, BLACK_WHITE)
    with pytest.raises(DataError, match="values 1, where 2 classes"):
        check_coded(label_values(path), BLACK_WHITE)
    check_coded(label_values(path), PLAIN)
    assert label_values(path).counts == {0: 12, 1: 12}


def test_broken_masks_are_rejected_and_do_not_decide(masks, tmp_path):
    pairs = masks(mask(0, 255), mask(0, 1))
    path = tmp_path / "m1.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageRejected, match="truncated PNG"):
        read_label(str(path), PLAIN)
    assert find_coding(pairs) == BLACK_WHITE
    path.write_bytes(b"what?")
    with pytest.raises(ImageRejected, match="not an image"):
        label_values(str(path))
    with pytest.raises(ImageRejected, match="cannot be read"):
        label_values(str(tmp_path / "none.png"))


def test_classes_that_a_model_knows(masks):
    def known(classes, *contents):
        return coding_of([label_values(item.label) for item in masks(*contents).items], classes)

    three = ((0, 0), (1, 1), (2, 2))
    assert known(3, mask(0, 2)) == LabelCoding(three, 3, ignore=False)
    assert known(3, mask(0, 255), mask(0, 1)) == LabelCoding(three, 3, ignore=True)
    with pytest.raises(DataError, match="0 and 255 only"):
        known(3, mask(0, 255))
    assert known(2, mask(0)) == PLAIN
    assert known(2, mask(0, 255)) == BLACK_WHITE
    with pytest.raises(DataError, match=r"values 0, 3, but the model knows 3 classes"):
        known(3, mask(0, 3))
    with pytest.raises(DataError, match=r"values 0, 2, but the model knows 2 classes"):
        known(2, mask(0, 2))
