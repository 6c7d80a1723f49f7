"""`regraft check`, end to end."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import regraft as package


@pytest.fixture
def split(photos):
    """The photos in train and test, as they come."""
    for path in sorted(photos.rglob("*.jpg")):
        part = "test" if int("".join(filter(str.isdigit, path.stem)) or 0) % 4 == 0 else "train"
        target = photos.parent / "split" / part / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return photos.parent / "split"


def found(folder):
    content = json.loads((Path(folder) / "check.json").read_text())
    return {finding["kind"]: finding for finding in content["findings"]}


def detailed(path, seed):
    """A picture that no other looks like."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
    Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(path, quality=95)


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
    detailed(train / one / "scene.jpg", 1)
    shutil.copy(train / one / "scene.jpg", test / one / "copy.jpg")
    detailed(train / two / "other.jpg", 2)
    Image.open(train / two / "other.jpg").crop((16, 12, 320, 240)).save(test / two / "cropped.jpg", quality=80)
    detailed(train / one / "twice.jpg", 3)
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
    assert regraft("train", "clean.csv", "--run", "r").code == 0


def test_wrong_labels_are_shown_first(regraft, photos):
    classes = sorted(folder.name for folder in photos.iterdir())
    moved = sorted((photos / classes[0]).iterdir())[0]
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
    result = package.check(tmp_path / "flat", output=tmp_path / "out")
    assert [finding.kind for finding in result.findings] == ["identical"]
    assert not result.matters
    assert result.label_errors is None
