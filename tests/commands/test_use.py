"""`predict`, `evaluate`, `embed`, `show`, `backbones`, `manifest`, `cache`."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import regraft as package
from odd_images import simple_folder


@pytest.fixture
def trained(regraft, photos):
    assert regraft("train", photos, "--run", "r").code == 0
    return Path("r").resolve()


def read_csv(path):
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        return list(csv.DictReader(handle))


def test_predict_prints_and_writes(regraft, trained, photos):
    images = sorted(photos.rglob("*.jpg"))
    said = regraft("predict", trained, *images[:2])
    assert said.code == 0
    assert said.out.splitlines()[0].startswith(f"{images[0]}  {images[0].parent.name}  ")
    for ending in ("csv", "json", "parquet"):
        assert regraft("predict", trained, photos, "-o", f"out.{ending}").code == 0
    tables = {
        "csv": read_csv("out.csv"),
        "json": json.loads(Path("out.json").read_text()),
        "parquet": pq.read_table("out.parquet").to_pylist(),
    }
    for rows in tables.values():
        assert [row["path"] for row in rows] == [row["path"] for row in tables["csv"]]
        assert len(rows) == 42
        assert sum(row["label"] == Path(row["path"]).parent.name for row in rows) >= 38
        for row in rows:
            columns = [name for name in row if name.startswith("p_")]
            assert sum(float(row[name]) for name in columns) == pytest.approx(1, abs=1e-6)
            assert float(row["probability"]) == max(float(row[name]) for name in columns)


def test_predict_goes_on_after_bad_files(regraft, trained, photos, tmp_path):
    good = min(photos.rglob("*.jpg"))
    (tmp_path / "bad.jpg").write_bytes(good.read_bytes()[:200])
    said = regraft("predict", trained, "bad.jpg", "missing.jpg", good, "-o", "out.csv")
    assert said.code == 1
    rows = read_csv("out.csv")
    assert [bool(row["error"]) for row in rows] == [True, True, False]
    assert [bool(row["label"]) for row in rows] == [False, False, True]
    assert "file not found" in rows[1]["error"]
    assert regraft("predict", trained, "missing.jpg").code == 1


def test_predict_does_not_overwrite(regraft, trained, photos):
    Path("out.csv").write_text("precious")
    said = regraft("predict", trained, photos, "-o", "out.csv")
    assert said.code == 2
    assert Path("out.csv").read_text() == "precious"
    assert regraft("predict", trained, photos, "-o", "out.csv", "--overwrite").code == 0
    assert regraft("predict", trained, photos, "-o", "out.xlsx").code == 2


def test_file_names_of_any_bytes(regraft, trained, photos):
    image = min(photos.rglob("*.jpg"))
    odd = os.fsencode(photos) + b"/\xff\xe9 \xe5\x9b\xbe.jpg"
    shutil.copy(image, odd)
    for ending in ("csv", "json", "parquet"):
        assert regraft("predict", trained, os.fsdecode(odd), "-o", f"out.{ending}").code == 0
    assert read_csv("out.csv")[0]["path"] == os.fsdecode(odd)
    assert regraft("predict", trained, os.fsdecode(odd)).code == 0


def test_the_bundle_alone_predicts_elsewhere(trained, photos, tmp_path):
    """Copied to another place, with an empty cache, in another process: the same digits."""
    shutil.copytree(trained / "bundle", tmp_path / "elsewhere" / "model")
    images = sorted(map(str, photos.rglob("*.jpg")))[:4]
    here = package.load(trained).predict(images)
    done = subprocess.run(
        [sys.executable, "-m", "regraft", "predict", "model", *images, "-o", "out.json"],
        cwd=tmp_path / "elsewhere",
        env=dict(os.environ) | {"REGRAFT_CACHE_DIR": str(tmp_path / "other_cache")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    there = json.loads((tmp_path / "elsewhere" / "out.json").read_text())
    assert [row["probability"] for row in there] == [answer.probability for answer in here]


def test_torch_runtime_agrees(trained, photos):
    images = sorted(map(str, photos.rglob("*.jpg")))[:3]
    fast = package.load(trained).predict(images)
    slow = package.load(trained, runtime="torch").predict(images)
    for a, b in zip(fast, slow, strict=True):
        assert a.label == b.label
        assert a.probability == pytest.approx(b.probability, abs=1e-4)


@pytest.mark.parametrize("name", ["head.safetensors", "backbone.safetensors", "bundle.json"])
def test_damaged_bundles_are_refused(regraft, trained, name):
    path = trained / "bundle" / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)
    said = regraft("predict", trained, "x.jpg")
    assert said.code == 2
    assert "damaged" in said.err
    path.unlink()
    assert regraft("predict", trained, "x.jpg").code == 2


def test_bundle_holds_no_pickle_and_tells_everything(trained):
    assert {p.name for p in (trained / "bundle").iterdir()} == {
        "bundle.json",
        "head.safetensors",
        "backbone.safetensors",
        "guard.safetensors",
    }
    facts = json.loads((trained / "bundle" / "bundle.json").read_text())
    assert facts["backbones"][0]["preprocessing"]["size"] == [224, 224]
    assert facts["facts"]["manifest_sha256"]
    assert facts["facts"]["metrics"]["test"]["accuracy"] >= 0
    assert facts["facts"]["versions"]["regraft"] == package.__version__


def test_evaluate_repeats_the_numbers_of_training(regraft, trained):
    said = regraft("evaluate", trained, "--run", "again")
    assert said.code == 0, said.err
    before, after = (json.loads(Path(p, "metrics.json").read_text()) for p in (trained, "again"))
    for name in ("accuracy", "log_loss", "macro_f1", "calibration_error", "intervals", "confusion"):
        assert before[name] == after[name]
    assert Path("again/report.html").exists()
    assert not Path("again/bundle").exists()
    assert f"{before['accuracy']:.4f}" in said.out


def test_evaluate_on_other_data(regraft, trained, tmp_path, photos):
    simple_folder(tmp_path / "other", classes=3, per_class=5, seed=7)
    said = regraft("evaluate", trained, "other", "--run", "e1")
    assert said.code == 0
    assert json.loads(Path("e1/metrics.json").read_text())["n"] == 15
    said = regraft("evaluate", trained, photos, "--run", "e2")
    assert "training part" in said.err
    (tmp_path / "other" / "stranger").mkdir()
    shutil.copy(next((tmp_path / "other").rglob("*.jpg")), tmp_path / "other" / "stranger" / "x.jpg")
    said = regraft("evaluate", trained, "other", "--run", "e3")
    assert "'stranger'" in said.err
    assert json.loads(Path("e3/metrics.json").read_text())["n"] == 15
    said = regraft("evaluate", trained, "other", "--split", "test")
    assert said.code == 2
    assert "no splits" in said.err
    assert regraft("evaluate", "other").code == 2


def test_an_accuracy_that_cannot_be_promised_is_told_wherever_the_model_is_used(regraft, photos):
    said = regraft("train", photos, "--strategy", "knn", "--abstain-at", "0.999", "--run", "careful")
    assert said.code == 0, said.err
    assert "cannot vouch for an accuracy of 0.999" in said.err
    again = regraft("evaluate", "careful", "--run", "again")
    for told in (said, again):
        assert "test images; of those kept" in told.err
        assert "an accuracy of 0.999 could not be promised" in told.err
    assert "could not promise an accuracy of 0.999" in regraft("predict", "careful", photos).err
    first, second = (json.loads(Path(run, "metrics.json").read_text())["abstaining"] for run in ("careful", "again"))
    assert first["threshold"] == second["threshold"]
    assert first["threshold"]["value"] > 0
    assert first["kept"]["test"] == second["kept"]["test"]
    for run in ("careful", "again"):
        rows = [row for row in read_csv(f"{run}/predictions.csv") if row["split"] == "test"]
        assert sum(row["unsure"] == "False" for row in rows) == first["kept"]["test"]["kept"]


def test_embed_and_train_on_the_file(regraft, photos, trained):
    assert regraft("embed", photos, "-o", "f.npz").code == 0
    assert regraft("embed", photos, "-o", "f.parquet").code == 0
    with np.load("f.npz", allow_pickle=False) as file:
        assert file["features"].shape == (42, 1280)
        assert file["features"].dtype == np.float32
        assert set(file["labels"]) == {p.name for p in photos.iterdir()}
    outcomes = []
    for name in ("f.npz", "f.parquet"):
        assert regraft("train", "--features", name, "--run", f"from_{name}").code == 0
        outcomes.append(json.loads(Path(f"from_{name}/metrics.json").read_text())["log_loss"])
    assert outcomes[0] == pytest.approx(outcomes[1], abs=1e-9)
    said = regraft("predict", "from_f.npz", photos)
    assert said.code == 2
    assert "feature file" in said.err
    assert regraft("train", photos, "--features", "f.npz", "--run", "joined").code == 0
    assert (
        json.loads(Path("joined/metrics.json").read_text())["log_loss"]
        == json.loads((trained / "metrics.json").read_text())["log_loss"]
    )
    assert regraft("evaluate", "joined", "--features", "f.npz", "--run", "e").code == 0
    assert regraft("embed", photos, "-o", "f.npz").code == 2
    assert regraft("embed", photos, "-o", "f.txt").code == 2


def test_features_of_another_network_or_view_are_refused(regraft, photos, trained):
    assert regraft("embed", photos, "-o", "flip.npz", "--views", "flip").code == 0
    said = regraft("evaluate", trained, "--features", "flip.npz")
    assert said.code == 2
    assert "--views none" in said.err
    assert regraft("embed", photos, "-o", "other.npz", "--backbone", "efficientnet_lite1").code == 0
    said = regraft("evaluate", trained, "--features", "other.npz")
    assert said.code == 2
    assert "efficientnet_lite1" in said.err
    with np.load("flip.npz") as file:
        np.savez("bare.npz", features=file["features"], labels=file["labels"])
    said = regraft("evaluate", trained, "--features", "bare.npz", "--run", "e")
    assert said.code == 0
    assert "does not say what computed it" in said.err


def test_features_of_unlabelled_images(regraft, tmp_path):
    (tmp_path / "flat").mkdir()
    for n in range(3):
        Image.new("RGB", (30, 30), (n, 80, 80)).save(tmp_path / "flat" / f"{n}.png")
    assert regraft("embed", "flat", "-o", "f.npz").code == 0
    said = regraft("train", "--features", "f.npz")
    assert said.code == 2
    assert "no labels" in said.err


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"labels": np.array(["a"])}, "features"),
        ({"features": np.zeros((3, 2)), "labels": np.array(["a", "b"])}, "shape (2,)"),
        ({"features": np.full((2, 2), np.nan), "labels": np.array(["a", "b"])}, "2 of 2 rows"),
        ({"features": np.array([["a"]]), "labels": np.array(["a"])}, "numbers"),
        ({"features": np.zeros((2, 2)), "labels": np.array(["a", "b"], object)}, "cannot be read"),
    ],
)
def test_broken_feature_files(regraft, arrays, told):
    np.savez("f.npz", **arrays)
    said = regraft("train", "--features", "f.npz")
    assert said.code == 2
    assert told in said.err


def test_show_writes_a_picture(regraft, photos):
    said = regraft("show", photos, "-o", "batch.png", "--images", "6")
    assert said.code == 0, said.err
    with Image.open("batch.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 300
    assert regraft("show", photos, "-o", "batch.png").code == 2
    assert regraft("show", photos).code == 2  # no terminal here
    assert regraft("show", photos, "-o", "x.png", "--split", "val").code == 2
    picture = package.show(photos, images=3)
    assert picture.mode == "RGB"


def test_backbones(regraft):
    said = regraft("backbones")
    assert said.code == 0
    assert "efficientnet_lite0" in said.out.split()
    said = regraft("backbones", "efficientnet_lite0")
    assert "1280 features" in said.out
    assert any(line.split()[:3] == ["blocks.6", "Sequential", "320x7x7"] for line in said.out.splitlines())
    said = regraft("backbones", "nosuchnetwork123")
    assert said.code == 2
    assert "nosuchnetwork123" in said.err


def test_a_network_can_be_looked_at_without_its_weights(regraft, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    said = regraft("backbones", "torchvision/squeezenet1_1")
    assert said.code == 0
    assert "512 features" in said.out
    assert "squeezenet1_1-b8a52dc0.pth" in said.err
    assert not (tmp_path / "torch").exists()


def test_offline_names_what_is_needed(regraft, photos, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    said = regraft("train", photos, "--backbone", "timm/resnet18.a1_in1k")
    assert said.code == 2
    assert "timm/resnet18.a1_in1k" in said.err
    assert "efficientnet_lite0" in said.err


def test_manifest_round_trip(regraft, photos):
    assert regraft("manifest", photos, "-o", "m.csv", "--split").code == 0
    first = read_csv("m.csv")
    assert {row["split"] for row in first} == {"train", "val", "test"}
    assert regraft("manifest", "m.csv", "-o", "lists", "--form", "meta").code == 0
    assert regraft("manifest", "lists", "-o", "folders", "--form", "folders").code == 0
    assert regraft("manifest", "folders", "-o", "again.parquet").code == 0
    again = pq.read_table("again.parquet").to_pylist()

    def told(rows):
        return sorted((row["label"], row["split"], row["sha256"]) for row in rows)

    assert told(first) == told(again)
    assert regraft("manifest", photos, "-o", "m.csv").code == 2
    assert regraft("manifest", photos).code == 2
    assert regraft("manifest", photos, "-o", "t.csv", "--take", "5,2").code == 2


def test_cache_shows_and_prunes(regraft, photos, monkeypatch, tmp_path):
    monkeypatch.setenv("REGRAFT_CACHE_DIR", str(tmp_path / "cache"))
    assert "0 entries" in regraft("cache").out
    regraft("embed", photos, "-o", "f.npz")
    said = regraft("cache")
    assert "42 images" in said.out
    assert regraft("cache", "--older-than", "3").code == 2
    assert "0 entries" in regraft("cache", "--prune", "--older-than", "3").out
    assert "2 entries" in regraft("cache", "--prune").out
    assert "0 entries" in regraft("cache").out


def test_help_of_every_verb_has_an_example(regraft):
    for verb in ("train", "evaluate", "predict", "embed", "show", "backbones", "manifest", "cache"):
        said = regraft(verb, "--help")
        assert said.code == 0
        assert f"Example: regraft {verb}" in said.out


def test_unknown_verbs_and_options(regraft, photos):
    for words in (["tarin"], ["train", photos, "--stratgy", "svm"], ["predict"], ["train", photos, "--seed", "x"]):
        said = regraft(*words)
        assert said.code == 2, words
        assert said.err + said.out
