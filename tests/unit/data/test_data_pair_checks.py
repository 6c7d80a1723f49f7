"""One look at every file of pairs: what is counted, what costs a pair, what is refused."""

import numpy as np
import pytest
from PIL import Image

from regraft.data.change_labels import LabelCoding
from regraft.data.pair_checks import survey
from regraft.data.pairs import pair_key, read_pairs
from regraft.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Writes pairs of noise: name to size (height, width), with masks of 0 and 255."""

    def make(**sizes):
        draws = np.random.default_rng(0)
        for name, (height, width) in sizes.items():
            for date in "AB":
                write(tmp_path / date / f"{name}.png", draws.integers(0, 256, (height, width, 3), np.uint8))
            write(tmp_path / "label" / f"{name}.png", 255 * draws.integers(0, 2, (height, width), np.uint8))
        return tmp_path

    return make


def write(path, values):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(path)


def test_what_is_seen(folder):
    root = folder(a=(6, 9), b=(4, 5))
    steps = []
    pairs = read_pairs(root)
    found = survey(pairs, on_progress=lambda done, total: steps.append((done, total)))
    assert found.sizes == ((6, 9), (4, 5))
    assert (found.bands, found.dtype) == (3, "uint8")
    assert found.coding == LabelCoding(((0, 0), (255, 1)), 2, ignore=False)
    for item, counts in zip(found.pairs.items, found.class_pixels, strict=True):
        true = np.asarray(Image.open(item.label)) > 0
        assert counts.tolist() == [(~true).sum(), true.sum()]
    assert [item.key for item in found.pairs.items] == [pair_key(item) for item in pairs.items]
    assert found.rejected == ()
    assert steps == [(1, 2), (2, 2)]


def test_many_pairs_keep_their_order(folder):
    found = survey(read_pairs(folder(**{f"p{n}": (3, 3 + n) for n in range(40)})), threads=3)
    assert found.sizes == tuple((3, 3 + n) for n in range(40))


def test_without_masks_there_is_no_coding(folder):
    root = folder(a=(6, 9))
    (root / "label" / "a.png").unlink()
    found = survey(read_pairs(root, labelled=False))
    assert found.coding is None
    assert found.class_pixels.shape == (1, 0)


@pytest.mark.parametrize("where", ["B", "label"])
def test_unequal_sizes_are_refused_naming_files_and_sizes(folder, where):
    root = folder(a=(6, 9))
    write(root / where / "a.png", np.zeros((6, 8, 3) if where == "B" else (6, 8), np.uint8))
    with pytest.raises(DataError, match=rf"pair a\.png differ in size: .*A/a\.png has 9x6 .*{where}/a\.png has 8x6"):
        survey(read_pairs(root))


@pytest.mark.parametrize("where", ["A", "B", "label"])
def test_a_corrupt_file_costs_its_pair(folder, where):
    root = folder(a=(6, 9), b=(4, 5))
    path = root / where / "a.png"
    path.write_bytes(path.read_bytes()[:-30])
    found = survey(read_pairs(root))
    assert [item.name for item in found.pairs.items] == ["b.png"]
    assert found.sizes == ((4, 5),)
    assert [one.path for one in found.rejected] == [str(path)]
    (root / "A" / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"No pair of .* can be read"):
        survey(read_pairs(root))


def test_unequal_bands_or_types_are_refused_naming_both_files(folder):
    rasterio = pytest.importorskip("rasterio")
    root = folder(a=(6, 9))
    for date in "AB":
        with rasterio.open(
            root / date / "b.tif", "w", driver="GTiff", height=6, width=9, count=4, dtype="uint16"
        ) as raster:
            raster.write(np.ones((4, 6, 9), np.uint16))
    write(root / "label" / "b.png", np.zeros((6, 9), np.uint8))
    with pytest.raises(DataError, match=r"A/a\.png has 3 bands of uint8 and .*A/b\.tif has 4 of uint16"):
        survey(read_pairs(root))


def test_classes_that_a_model_knows_hold_for_all_masks(folder):
    root = folder(a=(6, 9))
    write(root / "label" / "a.png", np.resize(np.array([0, 0, 1], np.uint8), (6, 9)))
    found = survey(read_pairs(root), classes=3)
    assert found.coding.classes == 3
    assert found.class_pixels.tolist() == [[36, 18, 0]]
    write(root / "label" / "a.png", np.zeros((6, 9), np.uint8))
    assert survey(read_pairs(root), classes=2).class_pixels.tolist() == [[54, 0]]
    with pytest.raises(DataError, match="nothing to learn"):
        survey(read_pairs(root))


def test_images_above_the_cap_cost_their_pair(folder):
    root = folder(a=(6, 9), b=(4, 5))
    found = survey(read_pairs(root), max_pixels=30)
    assert [item.name for item in found.pairs.items] == ["b.png"]
    assert "megapixels" in found.rejected[0].reason


@pytest.mark.shared
def test_levir_mini(shared_data):
    pairs = read_pairs(shared_data / "levir_mini").split("val")
    found = survey(pairs)
    assert set(found.sizes) == {(256, 256)}
    assert found.coding == LabelCoding(((0, 0), (255, 1)), 2, ignore=False)
    assert found.class_pixels.sum() == 40 * 256 * 256
