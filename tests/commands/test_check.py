"""`regraft check`, end to end."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft.recipes.check import check


def detailed(path, seed, colour=(0, 0, 0), quality=95):
    """A picture that no other looks like."""
    rng = np.random.default_rng(seed)
    small = np.clip(rng.integers(0, 200, (12, 16, 3)) + np.array(colour), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC).save(path, quality=quality)


@pytest.fixture
def photos(tmp_path):
    """36 pictures of three classes that differ in colour; without splits."""
    for kind, colour in enumerate(((90, 0, 0), (0, 90, 0), (0, 0, 90))):
        for n in range(12):
            detailed(tmp_path / "photos" / f"class{'abc'[kind]}" / f"{n:03d}.jpg", 100 * kind + n, colour)
    return tmp_path / "photos"


@pytest.fixture
def split(photos):
    """The photos in train and test."""
    for path in sorted(photos.rglob("*.jpg")):
        part = "test" if int(path.stem) % 4 == 0 else "train"
        target = photos.parent / "split" / part / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return photos.parent / "split"


def found(folder):
    content = json.loads((Path(folder) / "check.json").read_text())
    return {finding["kind"]: finding for finding in content["findings"]}


def test_sound_data(regraft, split):
    said = regraft("check", split, "--cheap", "-o", "out")
    assert said.code == 0
    assert {path.name for path in Path("out").iterdir()} == {"check.html", "check.json"}
    assert not [f for f in found("out").values() if f["matters"]]
    assert "page    out/check.html" in said.out


def test_planted_faults(regraft, split):
    before = {path: path.read_bytes() for path in split.rglob("*.jpg")}
    train, test = split / "train", split / "test"
    one, two = (folder.name for folder in sorted(train.iterdir())[:2])
    detailed(train / one / "scene.jpg", 1001)
    shutil.copy(train / one / "scene.jpg", test / one / "copy.jpg")
    detailed(train / two / "other.jpg", 1002)
    Image.open(train / two / "other.jpg").crop((8, 6, 160, 120)).save(test / two / "cropped.jpg", quality=80)
    detailed(train / one / "twice.jpg", 1003)
    shutil.copy(train / one / "twice.jpg", train / two / "contrary.jpg")
    (train / one / "cut.jpg").write_bytes((train / one / "scene.jpg").read_bytes()[:900])
    Image.new("RGB", (90, 90), "white").save(train / two / "white.png")
    said = regraft("check", split, "-o", "out", "--clean", "clean.csv")
    assert said.code == 1
    kinds = found("out")
    names = {kind: [{Path(i["path"]).name for i in group} for group in f["images"]] for kind, f in kinds.items()}
    assert names["unreadable"] == [{"cut.jpg"}]
    assert names["identical-across-splits"] == [{"scene.jpg", "copy.jpg"}]
    assert names["identical-labelled-differently"] == [{"twice.jpg", "contrary.jpg"}]
    assert names["near-duplicates-across-splits"] == [{"other.jpg", "cropped.jpg"}]
    assert names["one-colour"] == [{"white.png"}]
    with Path("clean.csv").open() as handle:
        kept = {Path(row["path"]).name for row in csv.DictReader(handle)}
    with Path("clean.remarks.csv").open() as handle:
        out = {Path(r["path"]).name for r in csv.DictReader(handle) if r["what"] == "left out"}
    assert out == {"cut.jpg", "scene.jpg", "twice.jpg", "contrary.jpg", "other.jpg"}
    assert not out & kept
    assert {"copy.jpg", "cropped.jpg", "white.png"} <= kept
    assert all(path.read_bytes() == data for path, data in before.items())
    again = regraft("check", "clean.csv", "--cheap", "-o", "again")
    assert again.code == 0
    assert regraft("train", "clean.csv", "--run", "r", "--strategy", "linear-probe").code == 0


def test_wrong_labels_are_shown_first(regraft, photos):
    classes = sorted(folder.name for folder in photos.iterdir())
    moved = min((photos / classes[0]).iterdir())
    moved.rename(photos / classes[1] / "moved.jpg")
    assert regraft("check", photos, "-o", "out").code == 0
    (first,) = found("out")["label-suspects"]["images"][0]
    assert Path(first["path"]).name == "moved.jpg"
    assert f"looks like {classes[0]}" in first["note"]


def test_nothing_is_overwritten_unasked(regraft, photos):
    Path("clean.csv").write_text("precious")
    assert regraft("check", photos, "--cheap", "--clean", "clean.csv").code == 2
    assert Path("clean.csv").read_text() == "precious"
    assert regraft("check", photos, "--cheap").code == 0
    assert regraft("check", photos, "--cheap").code == 0
    assert {path.name for path in Path("checks").iterdir()} == {"photos", "photos-2"}
    assert regraft("check", photos, "--cheap", "-o", "checks/photos").code == 2
    assert regraft("check", photos, "--cheap", "-o", "checks/photos", "--overwrite").code == 0
    Path("checks/photos/mine.txt").write_text("precious")
    assert regraft("check", photos, "--cheap", "-o", "checks/photos", "--overwrite").code == 2
    assert Path("checks/photos/mine.txt").exists()
    assert regraft("check", "absent/").code == 2


def test_as_a_function_without_labels(photos, tmp_path):
    for n, path in enumerate(sorted(photos.rglob("*.jpg"))[:6]):
        (tmp_path / "flat").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "flat" / f"{n}.jpg")
    shutil.copy(tmp_path / "flat" / "0.jpg", tmp_path / "flat" / "copy.jpg")
    result = check(tmp_path / "flat", output=tmp_path / "out")
    assert [finding.kind for finding in result.findings] == ["identical"]
    assert not result.matters
    assert result.label_errors is None
