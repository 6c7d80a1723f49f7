"""`regraft evaluate`, `predict` and `show` with a model of change detection."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import regraft as package
from change_pairs import FOLDERS, drawn, write_pairs
from regraft.errors import BundleError

PLACE = (500_000, 5_000_000, 2)  # left, top and side of a pixel


def metrics_of(run):
    return json.loads((Path(run) / "metrics.json").read_text())


def threshold_of(run):
    return json.loads((Path(run) / "bundle" / "bundle.json").read_text())["threshold"]


def dates(folder, name="p00.png"):
    return folder / "A" / name, folder / "B" / name


def predicted(folder, run, name="p00.png"):
    """What the model says of a pair in memory: the mask, 0 or 255, and P(changed)."""
    model = package.load_change(run)
    probability = model.predict(*(np.asarray(Image.open(path)) for path in dates(folder, name)))[1]
    return np.where(probability >= threshold_of(run), 255, 0), probability


def test_evaluation_on_its_own_data_gives_the_same_digits(regraft, trained):
    said = regraft("evaluate", trained, "--run", "e")
    assert said.code == 0, said.err
    before, after = metrics_of(trained), metrics_of("e")
    for name in ("split", "n", "threshold", "threshold_chosen_here", "intervals", "confusion", "histogram", "per_pair"):
        assert after[name] == before[name], name
    for name in ("precision", "recall", "f1", "iou", "mean_iou", "kappa", "average_precision", "loss"):
        assert after[name] == before[name], name
    assert not (Path("e") / "bundle").exists()
    assert "data:image/" in (Path("e") / "report.html").read_text()


def test_evaluation_on_other_pairs_from_a_copied_bundle(regraft, trained, tmp_path):
    shutil.copytree(trained / "bundle", "model")
    write_pairs(tmp_path / "other", 3, seed=9, lists=False, start=50)
    said = regraft("evaluate", "model", "other", "--run", "e")
    assert said.code == 0, said.err
    metrics = metrics_of("e")
    assert (metrics["split"], metrics["n"], metrics["seen"]) == ("all", 3, 0)
    assert not metrics["threshold_chosen_here"]
    assert metrics["threshold"] == threshold_of(trained)
    assert regraft("evaluate", "model").code == 2
    assert "name the pairs" in regraft("evaluate", "model").err


def test_nothing_changed_is_no_number_and_no_error(regraft, trained, tmp_path):
    write_pairs(tmp_path / "calm", 3, seed=4, changed=False, lists=False)
    said = regraft("evaluate", trained, "calm", "--run", "e")
    assert said.code == 0, said.err
    assert "not defined" in said.err
    metrics = metrics_of("e")
    assert metrics["f1"] is metrics["recall"] is None
    assert metrics["changed_pixels"] == 0
    assert "NaN" not in (Path("e") / "metrics.json").read_text()
    (Path("calm") / "label" / "p00.png").unlink()
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save("calm/label/p00.png")
    assert regraft("evaluate", trained, "calm", "--run", "f").code == 0
    assert metrics_of("f")["changed_pixels"] == 64 * 64


def test_pairs_seen_in_training_are_told(regraft, trained, pairs):
    said = regraft("evaluate", trained, pairs, "--split", "train", "--run", "e")
    assert said.code == 0, said.err
    assert metrics_of("e")["seen"] == 8
    assert "training part" in (Path("e") / "report.html").read_text()
    assert "training part" in said.err


def test_pictures_in_and_out(regraft, trained, pairs):
    said = regraft("predict", trained, *dates(pairs), "-o", "change.png")
    assert said.code == 0, said.err
    mask, probability = predicted(pairs, trained)
    np.testing.assert_array_equal(np.asarray(Image.open("change.png")), mask)
    found = np.asarray(Image.open("change-probability.png"))
    np.testing.assert_allclose(found / 255, probability, atol=0.51 / 255)
    assert f"{100 * (mask > 0).mean():.2f} % changed" in said.out
    assert not list(Path().glob("*.regraft-part"))
    again = regraft("predict", trained, *dates(pairs), "-o", "change.png")
    assert again.code == 2
    assert "--overwrite" in again.err
    assert regraft("predict", trained, *dates(pairs), "-o", "change.png", "--overwrite").code == 0


def test_thresholds_and_tiles(regraft, trained, pairs):
    words = ("predict", trained, *dates(pairs), "-o")
    assert regraft(*words, "none.png", "--threshold", 1).code == 0
    assert regraft(*words, "all.png", "--threshold", 0).code == 0
    assert np.asarray(Image.open("all.png")).min() == 255
    assert np.asarray(Image.open("none.png")).mean() < np.asarray(Image.open("all.png")).mean()
    said = regraft(*words, "small.png", "--tile", 32, "--overlap", 0)
    assert said.code == 0, said.err
    assert "the model learnt from tiles of 64" in said.err
    for name, value, told in [
        ("--threshold", 1.5, "lies in 0 to 1"),
        ("--tile", 3, "tile is 3"),
        ("--overlap", 64, "overlap is 64"),
        ("--runtime", "openvino", "runs on torch"),
        ("--vector", "change.shp", "change.shp"),
    ]:
        said = regraft(*words, "x.png", name, value)
        assert said.code == 2, name
        assert told in said.err, said.err
    assert not list(Path().glob("x*"))


@pytest.fixture
def scene(tmp_path):
    """Two dates of 100 x 140 pixels in UTM 33, with a square that changed."""
    rasterio = pytest.importorskip("rasterio")
    draws = np.random.default_rng(3)
    before = draws.integers(60, 100, (3, 100, 140)).astype(np.uint8)
    after = before.copy()
    after[:, 20:50, 70:100] = 230
    transform = rasterio.Affine(PLACE[2], 0, PLACE[0], 0, -PLACE[2], PLACE[1])
    profile = {"driver": "GTiff", "height": 100, "width": 140, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    for name, values in (("before.tif", before), ("after.tif", after)):
        with rasterio.open(tmp_path / name, "w", transform=transform, **profile) as file:
            file.write(values)
    return rasterio


def test_a_scene_to_a_map_with_coordinates_and_polygons(regraft, trained, scene):
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    said = regraft("predict", trained, "before.tif", "after.tif", "-o", "change.tif", "--vector", "change.gpkg")
    assert said.code == 0, said.err
    with scene.open("before.tif") as first, scene.open("change.tif") as file:
        assert (file.crs, file.transform, file.shape) == (first.crs, first.transform, first.shape)
        mask = file.read(1)
    with scene.open("change-probability.tif") as file:
        probability = file.read(1)
    pair = []
    for name in ("before.tif", "after.tif"):
        with scene.open(name) as file:
            pair.append(file.read().transpose(1, 2, 0))
    expected = package.load_change(trained).predict(*pair)[1]
    np.testing.assert_allclose(probability, expected, atol=1e-6)
    np.testing.assert_array_equal(mask, expected >= threshold_of(trained))
    assert mask[20:50, 70:100].mean() > 0.5
    info = pyogrio.read_info("change.gpkg")
    _, _, shapes, _ = pyogrio.raw.read("change.gpkg")
    assert info["crs"] == "EPSG:32633"
    area = sum(one.area for one in shapely.from_wkb(shapes))
    assert area == pytest.approx(mask.sum() * PLACE[2] ** 2)


def test_a_folder_of_pairs_with_one_that_cannot_be_read(regraft, trained, pairs):
    for kind in ("label", "list"):
        shutil.rmtree(pairs / kind)
    for path in sorted((pairs / "A").iterdir())[3:]:
        path.unlink()
        (pairs / "B" / path.name).unlink()
    broken = pairs / "B" / "p01.png"
    broken.write_bytes(broken.read_bytes()[:500])
    said = regraft("predict", trained, "--pairs", pairs, "-o", "out")
    assert said.code == 1, said.err
    assert "p01.png" in said.err
    assert {path.name for path in Path("out").iterdir()} == {
        "p00.png", "p00-probability.png", "p02.png", "p02-probability.png", "summary.csv",
    }  # fmt: skip
    np.testing.assert_array_equal(np.asarray(Image.open("out/p00.png")), predicted(pairs, trained)[0])
    with Path("out/summary.csv").open() as handle:
        rows = {row["name"]: row for row in csv.DictReader(handle)}
    assert float(rows["p00.png"]["changed"]) == pytest.approx((predicted(pairs, trained)[0] > 0).mean(), abs=1e-6)
    assert rows["p01.png"]["changed"] == ""
    assert "p01.png" in rows["p01.png"]["error"]
    said = regraft("predict", trained, "--pairs", pairs, "-o", "out")
    assert said.code == 2
    assert "is not empty" in said.err
    broken.unlink()
    shutil.copy(pairs / "B" / "p00.png", broken)
    assert regraft("predict", trained, "--pairs", pairs, "-o", "out", "--overwrite", "--vector", "geojson").code == 0
    assert json.loads(Path("out/p01.geojson").read_text())["type"] == "FeatureCollection"


def test_names_in_a_table_stay_within_the_output(regraft, trained, pairs):
    before, after = dates(pairs)
    for name in ("../outside.png", str(Path("far.png").absolute())):
        Path("t.csv").write_text(f"before,after,name\n{before},{after},{name}\n")
        said = regraft("predict", trained, "--pairs", "t.csv", "-o", "out/maps")
        assert said.code == 2, said.err
        assert name in said.err
        assert not [path for path in Path().rglob("*") if path.stem in {"outside", "far"} or path.name == "out"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("A", "B"), "-o change.tif"),
        (("A", "-o", "o.png"), "two dates, before and after"),
        (("A", "B", "A", "-o", "o.png"), "two dates, before and after"),
        (("town", "-o", "o.png"), "--pairs FOLDER"),
        (("A", "B", "-o", "o.png", "--min-area", "4"), "--vector"),
        (("A", "B", "-o", "o.png", "--tile", "100000"), "16 to 4096"),
        (("A", "B", "-o", "o.jpg"), "written as .tif or .png"),
        (("A", "B", "-o", "nowhere.d/../A.dir/o"), "written as .tif or .png"),
        (("A", "none.png", "-o", "o.png"), "none.png"),
        (("A", "small.png", "-o", "o.png"), "64 x 64 pixels"),
        (("A", "B", "--pairs", "town", "-o", "out"), "leave"),
        (("--pairs", "town"), "--pairs FOLDER -o FOLDER"),
        (("--pairs", "nowhere", "-o", "out"), "nowhere"),
        (("--pairs", "town", "-o", "out", "--vector", "x.gpkg"), "gpkg or geojson"),
        (("--pairs", "town", "-o", "small.png"), "is a file"),
    ],
)
def test_careless_predictions_get_a_sentence(regraft, trained, pairs, words, told):
    Image.fromarray(np.zeros((32, 40, 3), np.uint8)).save("small.png")
    known = dict(zip("AB", dates(pairs), strict=True))
    before = sorted(map(str, Path().rglob("*")))
    said = regraft("predict", trained, *[known.get(word, word) for word in words])
    assert said.code == 2, said.err
    assert told in said.err, said.err
    assert len(said.err.strip().splitlines()) == 1
    assert sorted(map(str, Path().rglob("*"))) == before


def test_models_of_one_image_and_of_two_dates_are_told_apart(regraft, trained, photos):
    assert regraft("train", photos, "--strategy", "nearest-mean", "--run", "m").code == 0
    picture = next(photos.rglob("*.jpg"))
    for words in (("--tile", 64), ("--threshold", 0.5), ("--align",), ("--pairs", "x"), ("--vector", "x.gpkg")):
        said = regraft("predict", "m", picture, *words)
        assert said.code == 2, said.err
        assert f"{words[0]} is for a change model" in said.err
    assert "no image is named" in regraft("predict", "m").err
    with pytest.raises(BundleError, match="two dates"):
        package.load(trained)
    with pytest.raises(BundleError, match="one image"):
        package.load_change("m")


def test_a_batch_of_pairs_is_shown(regraft, pairs):
    said = regraft("show", pairs, "-o", "batch.png", "--images", 5)
    assert said.code == 0, said.err
    with Image.open("batch.png") as picture:
        assert picture.size[0] > 300
    shutil.rmtree(pairs / "label")
    assert regraft("show", pairs, "-o", "more.png", "--split", "val").code == 0
    for words, told in [
        (("--split", "test"), "split 'test' is not in"),
        (("--label", "x"), "no effect with pairs"),
        (("--images", 0), "images is 0"),
    ]:
        said = regraft("show", pairs, "-o", "other.png", *words)
        assert said.code == 2
        assert told in said.err
    assert not Path("other.png").exists()


def test_masks_of_three_classes(regraft, tmp_path):
    draws = np.random.default_rng(0)
    for kind in FOLDERS:
        (tmp_path / "d" / kind).mkdir(parents=True)
    for number in range(6):
        before, after, mask = drawn(draws)
        mask = (mask > 0).astype(np.uint8) * (1 + number % 2)
        mask[:2] = 255
        for kind, values in zip(FOLDERS, (before, after, mask), strict=True):
            Image.fromarray(values).save(tmp_path / "d" / kind / f"{number}.png")
    said = regraft("train", "d", "--size", 64, "--epochs", 1, "--batch", 4, "--run", "r")
    assert said.code == 0, said.err
    metrics = metrics_of("r")
    assert metrics["classes"] == ["unchanged", "class 1", "class 2"]
    assert metrics["pixels"] == metrics["n"] * (64 * 64 - 2 * 64)
    said = regraft("predict", "r", "d/A/0.png", "d/B/0.png", "-o", "o.png")
    assert said.code == 0, said.err
    assert set(np.unique(np.asarray(Image.open("o.png")))) <= {0, 1, 2}
