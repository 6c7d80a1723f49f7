"""`regraft check`, end to end."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft.errors import CannotWrite, OptionError
from regraft.recipes.check import check
from regraft.recipes.compare import compare
from regraft.recipes.listen import Listener
from regraft.recipes.rank import rank
from regraft.recipes.train import train


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


def table_of(photos, splits=("train", "test")):
    """A table of the photos with a column `kind`, two further columns and one that is called like a usual one."""
    rows = [
        f"{path.relative_to(photos.parent)},{path.parent.name},{n / 2},warm,{splits[n % 2]},{n}"
        for n, path in enumerate(sorted(photos.rglob("*.jpg")))
    ]
    table = photos.parent / "table.csv"
    table.write_text("\n".join(["path,kind,price,season,split,class", *rows]) + "\n")
    return table


def test_the_data_are_never_replaced_and_their_other_columns_stay(regraft, photos):
    table = table_of(photos)
    before = table.read_bytes()
    words = ("check", table, "--cheap", "--label", "kind", "--overwrite", "--clean")
    for target in (table, photos.parent / "photos" / ".." / "table.csv"):
        said = regraft(*words, target)
        assert said.code == 2
        assert "replace the data themselves" in said.err
    assert table.read_bytes() == before
    assert not Path("checks").exists()
    assert regraft(*words, "clean.csv").code == 0
    with table.open() as one, Path("clean.csv").open() as two:
        old, new = list(csv.DictReader(one)), list(csv.DictReader(two))
    assert list(new[0]) == ["path", "label", "split", "group", "sha256", "kind", "price", "season", "class_"]
    told = [
        [(row["path"], row[kind], row["price"], row["season"], row["split"], row[n]) for row in rows]
        for rows, kind, n in ((old, "kind", "class"), (new, "label", "class_"))
    ]
    assert told[0] == told[1]
    assert regraft("check", "clean.csv", "--cheap", "-o", "again", "--clean", "clean2.csv").code == 0
    said = regraft("train", "clean.csv", "--label", "kind", "--label", "price:regression", "--run", "r")
    assert said.code == 0, said.err


def test_what_was_not_looked_at_is_told(regraft, photos, tmp_path):
    first = min(photos.iterdir())
    shutil.copytree(first, tmp_path / "one" / "only")
    said = regraft("check", tmp_path / "one", "-o", "one_class")
    assert "Labels were not looked at: all are 'only'" in said.out
    assert "Labels were not looked at" in json.loads(Path("one_class/check.json").read_text())["not_done"][0]
    assert "Labels were not looked at" in Path("one_class/check.html").read_text()
    assert "no image has one" in regraft("check", first, "-o", "none").out
    said = regraft("check", photos, "--cheap", "--backbone", "efficientnet_lite1")
    assert said.code == 2
    assert "--backbone has no effect with --cheap" in said.err
    assert "no backbone 'nope'" in regraft("check", photos, "--backbone", "nope").err


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(regraft, photos):
    (min(photos.iterdir()) / "gone.jpg").symlink_to("nowhere.jpg")
    (min(photos.iterdir()) / "gone.txt").symlink_to("nowhere.txt")
    said = regraft("check", photos, "--cheap", "-o", "out")
    assert said.code == 1
    assert "1 file cannot be read" in said.out
    assert [Path(i["path"]).name for group in found("out")["unreadable"]["images"] for i in group] == ["gone.jpg"]


def test_one_column_of_classes_and_true_or_false_are_expected(photos):
    table = table_of(photos)
    for verb in (check, rank, compare):
        for label in (["kind", "season"], "price:regression", "kind,season:multilabel", 5, [None]):
            with pytest.raises(OptionError, match="label"):
                verb(table, label=label)
        with pytest.raises(OptionError, match="data is 5"):
            verb(5)
        with pytest.raises(OptionError, match="overwrite is 'no'"):
            verb(table, label="kind", overwrite="no")
    with pytest.raises(OptionError, match="cheap is 'no'"):
        check(table, label="kind", cheap="no")
    with pytest.raises(OptionError, match="overwrite is 'no'"):
        train(table, label="kind", overwrite="no")
    assert check(table, label=["kind:classes"], cheap=True).manifest.classes == ("classa", "classb", "classc")


def test_places_that_take_no_files_are_told_first(photos):
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    told = []
    listener = Listener(told.append)
    for call in (
        lambda: check(photos, output="/proc/x", listener=listener),
        lambda: check(photos, clean="/proc/x.csv", listener=listener),
        lambda: rank(photos, output="/proc/x.csv", listener=listener),
        lambda: compare(photos, run="/proc/x", listener=listener),
    ):
        with pytest.raises(CannotWrite, match="/proc"):
            call()
    assert told == []  # before any network runs
