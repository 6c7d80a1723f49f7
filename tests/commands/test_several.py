"""Several backbones side by side, `--backbone a+b`, through train, predict, evaluate and embed."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import regraft as package
from regraft.errors import BundleError, OptionError
from regraft.recipes.backbone import absolute_name, backbone_names, short_name

BOTH = "efficientnet_lite0+efficientnet_lite1"


def read_csv(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def joined(regraft, photos):
    said = regraft("train", photos, "--backbone", BOTH, "--strategy", "linear-probe", "--run", "both")
    assert said.code == 0, said.err
    assert "features of 42 images by 2 backbones" in said.err
    return Path("both")


def test_a_run_of_two_backbones_holds_both_and_predicts_what_it_measured(regraft, joined, photos):
    facts = json.loads((joined / "bundle" / "bundle.json").read_text())
    assert [card["name"] for card in facts["backbones"]] == BOTH.split("+")
    assert facts["feature_dim"] == 2560
    assert {path.name for path in (joined / "bundle").iterdir()} == {
        "backbone.safetensors",
        "backbone-2.safetensors",
        "bundle.json",
        "guard.safetensors",
        "head.safetensors",
    }
    assert json.loads((joined / "metrics.json").read_text())["backbone"] == BOTH
    page = (joined / "report.html").read_text()
    assert "Backbone 1" in page
    assert "Backbone 2" in page
    said = regraft("predict", joined, photos, "-o", "answers.csv")
    assert said.code == 0, said.err
    measured = {row["path"]: row for row in read_csv(joined / "predictions.csv")}
    answers = {row["path"]: row for row in read_csv(Path("answers.csv"))}
    for name, row in measured.items():
        assert answers[name]["label"] == row["predicted"]
        assert float(answers[name]["probability"]) == pytest.approx(float(row["probability"]), abs=1e-6)
    again = regraft("evaluate", joined, "--run", "again")
    assert again.code == 0, again.err
    numbers = [json.loads((run / "metrics.json").read_text()) for run in (joined, Path("again"))]
    assert numbers[0]["accuracy"] == numbers[1]["accuracy"]
    assert numbers[0]["log_loss"] == numbers[1]["log_loss"]


def test_the_bundle_serves_where_nothing_else_is(joined, photos, tmp_path):
    before = package.load(joined).predict(_some(photos))
    moved = shutil.move(str(joined / "bundle"), str(tmp_path / "elsewhere"))
    shutil.rmtree(joined)
    after = package.load(moved, cache=tmp_path / "cache").predict(_some(photos))
    assert [a.label for a in before] == [a.label for a in after]
    assert [a.probability for a in before] == pytest.approx([a.probability for a in after], abs=1e-9)


def _some(photos):
    return sorted(photos.rglob("*.*"))[:3]


def test_features_stand_side_by_side_in_the_order_of_the_names(photos):
    one, two = (package.embed(photos, backbone=name) for name in BOTH.split("+"))
    both = package.embed(photos, backbone=BOTH)
    assert both.blocks == (1280, 1280)
    assert np.array_equal(both.table.features, np.concatenate([one.table.features, two.table.features], 1))
    assert both.table.fingerprints == (*one.table.fingerprints, *two.table.fingerprints)


def test_each_backbone_is_standardised_on_its_own(regraft, photos):
    """A backbone whose features are a thousand times larger has no more say."""
    package.embed(photos, backbone=BOTH, output="both.npz")
    with np.load("both.npz") as file:
        arrays = dict(file)
    assert json.loads(str(arrays["about"]))["blocks"] == [1280, 1280]
    arrays["features"] = arrays["features"] * np.repeat(np.float32([1024, 1]), 1280)
    np.savez("large.npz", **arrays)
    probabilities = []
    for name in ("both", "large"):
        said = regraft("train", "--features", f"{name}.npz", "--strategy", "linear-probe", "--run", f"run_{name}")
        assert said.code == 0, said.err
        rows = read_csv(Path(f"run_{name}") / "predictions.csv")
        probabilities.append([float(row["probability"]) for row in rows])
    assert probabilities[0] == pytest.approx(probabilities[1], abs=2e-5)
    scale = load_file(Path("run_both/bundle/head.safetensors"))["scale"]
    assert scale.shape == (2560,)


def test_images_that_one_backbone_cannot_be_given_are_left_out_of_all(regraft, photos):
    (photos / "class_0").mkdir(exist_ok=True)
    broken = next(iter(sorted(photos.rglob("*.*")))).parent / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no image")
    said = regraft("train", photos, "--backbone", BOTH, "--strategy", "knn", "--run", "left")
    assert said.code == 0, said.err
    assert len(read_csv(Path("left/rejected.csv"))) == 1
    assert json.loads(Path("left/metrics.json").read_text())["images"] == 42


def test_what_cannot_be_joined_is_said(regraft, photos, joined):
    for name, words in (
        ("efficientnet_lite0+efficientnet_lite0", "names efficientnet_lite0 twice"),
        ("efficientnet_lite0+", "has an empty name"),
        ("efficientnet_lite0+nonsense", "nonsense"),
        (f"run:{joined}#3", "there is no number 3"),
    ):
        said = regraft("train", photos, "--backbone", name, "--run", "nothing")
        assert said.code == 2
        assert words in said.err
        assert not Path("nothing").exists()
    said = regraft("train", photos, "--backbone", BOTH, "--part", "model", "--run", "nothing")
    assert said.code == 2
    assert "only for a file of your own" in said.err
    with pytest.raises(BundleError, match="2 backbones"):
        package.train(photos, backbone=f"run:{joined}#7", run="nothing")


def test_a_run_of_two_backbones_stands_for_both(regraft, photos, joined):
    said = regraft("train", photos, "--backbone", f"run:{joined}", "--strategy", "linear-probe", "--run", "again")
    assert said.code == 0, said.err
    numbers = [json.loads((run / "metrics.json").read_text()) for run in (joined, Path("again"))]
    assert numbers[0]["log_loss"] == numbers[1]["log_loss"]
    assert [name.rpartition("#")[2] for name in numbers[1]["backbone"].split("+")] == ["1", "2"]
    alone = package.embed(photos, backbone=f"run:{joined}#2")
    assert np.array_equal(alone.table.features, package.embed(photos, backbone=BOTH.split("+")[1]).table.features)


def test_a_plus_in_a_path_stays_part_of_it(tmp_path):
    (tmp_path / "a+b").mkdir()
    (tmp_path / "a+b" / "c+d.pth").touch()
    name = f"efficientnet_lite0+file:{tmp_path}/a+b/c+d.pth@timm/resnet18+run:{tmp_path}/a+b"
    assert backbone_names(name) == [
        "efficientnet_lite0",
        f"file:{tmp_path}/a+b/c+d.pth@timm/resnet18",
        f"run:{tmp_path}/a+b",
    ]
    assert short_name(name) == "efficientnet_lite0+c+d+a+b"
    assert absolute_name(name) == name
    with pytest.raises(OptionError, match="empty name"):
        backbone_names("a++b")
