"""What careless data get: a warning, or a refusal before the long part."""

import shutil

import numpy as np
import pytest
from PIL import Image

import regraft as package
from change_pairs import FOLDERS, write_pairs
from regraft.data.pair_checks import survey
from regraft.data.pair_splits import split_pairs
from regraft.data.pairs import read_pairs
from regraft.errors import DataError, OptionError, SplitError
from regraft.recipes.change_findings import alpha_bands, leaks, one_sided, other_grids

QUICK = ("--size", 64, "--epochs", 1, "--batch", 4)


def copied(folder, names, more="copy_"):
    for kind in FOLDERS:
        for name in names:
            shutil.copy(folder / kind / name, folder / kind / f"{more}{name}")


def test_pairs_of_identical_files_stay_together(tmp_path):
    folder = write_pairs(tmp_path / "data", 12, lists=False)
    copied(folder, [f"p{n:02d}.png" for n in range(12)])
    pairs = survey(read_pairs(folder)).pairs
    for seed in range(5):
        split = {item.name: item.split for item in split_pairs(pairs, seed=seed).items}
        assert {split[f"p{n:02d}.png"] == split[f"copy_p{n:02d}.png"] for n in range(12)} == {True}
        assert set(split.values()) == {"train", "val"}


def test_copies_of_one_pair_cannot_be_divided(tmp_path):
    folder = write_pairs(tmp_path / "data", 1, lists=False)
    copied(folder, ["p00.png"])
    with pytest.raises(SplitError, match="copies of 1"):
        split_pairs(survey(read_pairs(folder)).pairs, seed=0)


def test_copies_across_given_splits_and_equal_dates_are_told(regraft, pairs):
    for kind in FOLDERS:
        shutil.copy(pairs / kind / "p00.png", pairs / kind / "p11.png")  # of train, and of val
    assert "p00.png and p11.png" in leaks(survey(read_pairs(pairs)).pairs)[0]
    assert "identical files" in regraft("train", pairs, *QUICK).err


def test_masks_the_wrong_way_round_are_told(tmp_path):
    folder = write_pairs(tmp_path / "data", 4, lists=False)
    for file in (folder / "label").iterdir():
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(file)
    assert "every labelled pixel is changed" in one_sided(survey(read_pairs(folder)))[0]


def test_tiles_are_no_larger_than_the_images(regraft, pairs):
    said = regraft("train", pairs, "--epochs", 1, "--batch", 4, "--run", "r")
    assert said.code == 0, said.err
    assert "tiles of 64 pixels instead of 256" in said.err
    assert package.load_change("r").bundle.tile == 64


def test_a_map_of_several_classes_has_the_score_that_was_told(regraft, tmp_path):
    folder = write_pairs(tmp_path / "data", 12, seed=3)
    for number, file in enumerate(sorted((folder / "label").iterdir())):
        mask = np.asarray(Image.open(file))
        Image.fromarray(np.where(mask > 0, 1 + number % 2, 0).astype(np.uint8)).save(file)
    said = regraft("train", folder, "--size", 64, "--epochs", 4, "--batch", 4, "--run", "r")
    assert said.code == 0, said.err
    said = regraft("predict", "r", "--pairs", folder, "-o", "maps")
    assert said.code == 0, said.err
    names = (folder / "list" / "val.txt").read_text().split()
    truth = np.stack([np.asarray(Image.open(folder / "label" / name)) for name in names]) > 0
    found = np.stack([np.asarray(Image.open(f"maps/{name}")) for name in names]) > 0
    f1 = 2 * (truth & found).sum() / (truth.sum() + found.sum())
    metrics = package.evaluate("r", folder).metrics
    assert f1 == pytest.approx(metrics["f1"], abs=1e-9)
    with pytest.raises(DataError, match="0 and 255 only"):
        package.evaluate("r", write_pairs(tmp_path / "binary", 4))


def test_a_name_that_is_not_there_is_told_before_the_options(regraft, tmp_path):
    said = regraft("train", tmp_path / "nowhere", *QUICK)
    assert said.code == 2
    assert "does not exist" in said.err


def test_misspelt_networks_and_losses_are_told_before_the_data_are_read(regraft, pairs):
    for words in (("--model", "bitt"), ("--loss", "dise")):
        said = regraft("train", pairs, *QUICK, *words)
        assert said.code == 2
        assert "pairs, 3 bands" not in said.err


def test_rasters_with_transparency_and_dates_on_other_grids(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from rasterio.transform import from_origin

    draws = np.random.default_rng(0)
    for kind in ("A", "B"):
        (tmp_path / kind).mkdir()
        with rasterio.open(
            tmp_path / kind / "x.tif", "w", driver="GTiff", height=32, width=32, count=4, dtype="uint8",
            crs="EPSG:32633", transform=from_origin(500_000 + 10 * (kind == "B"), 5_000_000, 1, 1),
        ) as raster:  # fmt: skip
            raster.write(draws.integers(1, 255, (4, 32, 32)).astype(np.uint8))
    (tmp_path / "label").mkdir()
    Image.fromarray(np.eye(32, dtype=np.uint8)).save(tmp_path / "label" / "x.png")
    pairs = read_pairs(tmp_path)
    assert "band 4" in alpha_bands(pairs)[0]
    assert "different grids" in other_grids(pairs)[0]
    assert not alpha_bands(read_pairs(write_pairs(tmp_path / "plain", 2, lists=False)))


def test_pixels_without_data_are_refused_before_training(regraft, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    folder = write_pairs(tmp_path / "data", 4, lists=False)
    for kind in ("A", "B"):
        for file in sorted((folder / kind).iterdir()):
            file.unlink()
            with rasterio.open(
                file.with_suffix(".tif"), "w", driver="GTiff", height=64, width=64, count=1, dtype="float32"
            ) as raster:
                raster.write(np.full((1, 64, 64), np.nan, np.float32))
    said = regraft("train", folder, *QUICK)
    assert said.code == 2
    assert "has data in both dates" in said.err


@pytest.mark.parametrize("options", [{"model": 3}, {"loss": ["ce"]}, {"size": "64"}, {"size": 5000}, {"init": 1}])
def test_wrong_types_get_a_sentence(pairs, options):
    with pytest.raises(OptionError):
        package.train(pairs, **options)


def test_wrong_arguments_of_a_model_get_a_sentence(trained, tmp_path):
    model = package.load_change(trained)
    good = np.zeros((64, 64, 3), np.uint8)
    for bad in (None, 3, [1], good[0], good[None], good[:0], str(tmp_path)):
        with pytest.raises(OptionError, match=r"\(H, W, C\)"):
            model.predict(bad, good)
    for how in ({"tile": "64"}, {"threshold": "0.5"}, {"min_area": None}, {"vector": True}):
        with pytest.raises(OptionError):
            model.map_scene("a.png", "b.png", tmp_path / "c.png", **how)
    with pytest.raises(OptionError, match="path"):
        model.map_scene(None, "b.png", tmp_path / "c.png")
    for wrong in (3, ["x"]):
        with pytest.raises(OptionError):
            package.train(wrong)
        with pytest.raises(OptionError):
            package.evaluate(wrong)
