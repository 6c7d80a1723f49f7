"""`regraft train` on pairs of two dates, end to end on tiny real files."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import regraft as package
from change_pairs import drawn, published_name, write_pairs
from regraft.backbones.torchvision_zoo import build_module
from regraft.models.change.bit import BitHead, BitOptions
from regraft.models.change.net import ChangeNet, LastMap
from regraft.models.change.pyramid import build_trunk

REGRAFT = [sys.executable, "-m", "regraft"]
QUICK = ("--size", 64, "--epochs", 1, "--batch", 4)
FILES = {
    "bundle", "config.json", "history.jsonl", "manifest.csv", "metrics.json", "predictions.csv", "rejected.csv",
    "report.html", "skipped.csv", "train.yaml",
}  # fmt: skip


def metrics_of(run):
    return json.loads((Path(run) / "metrics.json").read_text())


def bundle_of(run):
    return json.loads((Path(run) / "bundle" / "bundle.json").read_text())


def history(run):
    return [json.loads(line) for line in (Path(run) / "history.jsonl").read_text().splitlines()]


def test_a_run_is_complete_and_says_the_change_class_first(trained):
    assert {path.name for path in trained.iterdir()} == FILES
    metrics, bundle = metrics_of(trained), bundle_of(trained)
    scores = [name for name in metrics if name in {"precision", "recall", "f1", "iou", "accuracy", "mean_f1", "kappa"}]
    assert scores[:4] == ["precision", "recall", "f1", "iou"]
    assert (metrics["split"], metrics["n"], metrics["pairs"]) == ("val", 4, 12)
    assert metrics["f1"] > metrics["baseline_f1"]
    assert bundle["threshold"] == metrics["threshold"] == metrics["chosen"]["threshold"]
    assert (bundle["tile"], bundle["bands"], bundle["dtype"], bundle["network"]) == (64, 3, "uint8", "bit")
    rows = history(trained)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(np.isfinite([row["train_loss"], row["val_loss"], row["val_f1"]]).all() for row in rows)
    best = max(rows, key=lambda row: row["val_f1"])
    assert metrics["chosen"]["best_epoch"] == best["epoch"]
    with (trained / "manifest.csv").open() as handle:
        assert [row["split"] for row in csv.DictReader(handle)] == ["train"] * 8 + ["val"] * 4
    with (trained / "predictions.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    changed = sum(int(row["found"]) + int(row["missed"]) for row in rows)
    assert changed == metrics["changed_pixels"] == 4 * 24 * 24
    report = (trained / "report.html").read_text().lower()
    for word in ("before", "after", "truth", "prediction", "missed", "data:image/"):
        assert word in report
    assert not list(trained.parent.glob("*.training"))


def test_the_model_gives_what_its_numbers_say(trained, town):
    from PIL import Image

    model, found = package.load_change(trained), np.zeros((2, 2), int)
    threshold = bundle_of(trained)["threshold"]
    for name in (town / "list" / "val.txt").read_text().split():
        before, after, mask = (np.asarray(Image.open(town / kind / name)) for kind in ("A", "B", "label"))
        said = model.predict(before, after)[1] >= threshold
        np.add.at(found, ((mask.ravel() > 0).astype(int), said.ravel().astype(int)), 1)
    (_, false), (missed, right) = found
    assert metrics_of(trained)["f1"] == pytest.approx(2 * right / (2 * right + false + missed))


def test_split_folders_are_recognised_and_the_test_part_is_the_headline(regraft, tmp_path):
    for number, (split, count) in enumerate({"train": 4, "val": 2, "test": 3}.items()):
        write_pairs(tmp_path / "d" / split, count, seed=number, lists=False)
    said = regraft("train", "d", *QUICK, "--model", "bit:token_len=2,decoder_depth=2", "--run", "r")
    assert said.code == 0, said.err
    metrics = metrics_of("r")
    assert (metrics["split"], metrics["n"]) == ("test", 3)
    assert set(metrics["evaluations"]) == {"test", "val"}
    assert not metrics["threshold_chosen_here"]
    assert metrics["evaluations"]["val"]["threshold_chosen_here"]
    assert bundle_of("r")["network"] == "bit:token_len=2,decoder_depth=2"
    assert "too good" not in (Path("r") / "report.html").read_text()


def test_a_table_of_pairs(regraft, pairs, tmp_path):
    with (tmp_path / "t.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["Before", "after", "label", "split"])
        for number, path in enumerate(sorted((pairs / "A").iterdir())):
            split = "val" if number % 3 == 0 else "train"
            rows.writerow([f"town/A/{path.name}", f"town/B/{path.name}", f"town/label/{path.name}", split])
    said = regraft("train", "t.csv", *QUICK, "--model", "unet", "--run", "r")
    assert said.code == 0, said.err
    assert "as given (t.csv)" in said.err
    assert (metrics_of("r")["n"], bundle_of("r")["network"]) == (4, "unet")


def test_without_splits_some_pairs_are_set_aside(regraft, tmp_path):
    write_pairs(tmp_path / "d", 6, lists=False)
    said = regraft("train", "d", *QUICK, "--task", "change", "--loss", "focal+dice", "--run", "r")
    assert said.code == 0, said.err
    assert "made: seed 0" in said.err
    assert metrics_of("r")["n"] == 1
    assert 'loss: "focal+dice"' in (Path("r") / "train.yaml").read_text()


def test_pairs_may_be_taken_for_classes_where_somebody_says_so(regraft, pairs):
    shutil.rmtree(pairs / "list")
    said = regraft("train", pairs, "--task", "classes", "--strategy", "nearest-mean", "--run", "r")
    assert said.code == 0, said.err
    assert set(bundle_of("r")["classes"]) == {"A", "B", "label"}


def test_the_linear_probe_computes_each_map_once(regraft, pairs, monkeypatch):
    from regraft.training import stored_pairs

    words = ("train", pairs, "--strategy", "linear-probe", *QUICK)
    said = regraft(*words, "--run", "a")
    assert said.code == 0, said.err
    assert bundle_of("a")["network"] == "linear"
    real, asked = stored_pairs._differences, []
    monkeypatch.setattr(stored_pairs, "_differences", lambda *a: asked.append(a[2]) or real(*a))
    said = regraft(*words, "--run", "b", "--lr", 0.02)
    assert said.code == 0, said.err
    assert asked == [[0], [0]], "one tile of each part for the shapes, and no more"
    said = regraft(*words, "--run", "d", "--model", "linear:stages=4,finest=8")
    assert said.code == 0, said.err
    assert len(asked) > 4, "other maps are other rows"
    said = regraft("train", "--config", "a/train.yaml", "--run", "c")
    assert said.code == 0, said.err
    assert load_file("a/bundle/backbone.safetensors").keys() == load_file("c/bundle/backbone.safetensors").keys()
    assert (Path("a") / "bundle" / "head.safetensors").read_bytes() == (
        Path("c") / "bundle" / "head.safetensors"
    ).read_bytes()


def test_from_nothing_on_a_backbone_whose_weights_are_not_here(regraft, pairs):
    said = regraft("train", pairs, "--backbone", "timm/resnet18", "--strategy", "scratch", *QUICK, "--run", "r")
    assert said.code == 0, said.err
    assert metrics_of("r")["strategy"] == "scratch"
    assert metrics_of("r")["backbone"].startswith("timm/resnet18")
    again = regraft("evaluate", "r", "--run", "again")
    assert again.code == 0, again.err


def test_the_official_preset(regraft, pairs):
    words = ("--backbone", "timm/resnet18", "--strategy", "scratch", "--preset", "official")
    said = regraft("train", pairs, *words, *QUICK, "--run", "r")
    assert said.code == 0, said.err
    text = (Path("r") / "train.yaml").read_text()
    for line in ("optimiser: sgd", "lr: 0.01", "weight_decay: 0.0005", "schedule: linear", "loss: ce", "clip: 0.0"):
        assert line in text, line
    bundle = bundle_of("r")
    assert bundle["network"] == "bit:neck=last"
    assert bundle["scale"]["offset"] == pytest.approx([127.5] * 3)
    assert bundle["scale"]["scale"] == pytest.approx([2 / 255] * 3)


def test_the_options_that_were_decided_repeat_the_run(regraft, trained):
    said = regraft("train", "--config", trained / "train.yaml", "--run", "b")
    assert said.code == 0, said.err
    assert digests(trained) == digests("b")


def test_a_published_network_is_where_training_starts(regraft, pairs):
    torch.manual_seed(0)
    options = BitOptions(token_len=2)
    resnet = build_module("torchvision/resnet18")
    whole = {f"module.resnet.{name}": tensor.clone() for name, tensor in resnet.state_dict().items()}
    trunk = build_trunk(resnet, options.stages, 8)
    net = ChangeNet(trunk, BitHead(trunk.channels[-1], 2, options), LastMap()).eval()
    whole |= {f"module.{published_name(name)}": tensor for name, tensor in net.head.state_dict().items()}
    content = {"model_G_state_dict": whole}
    torch.save({**content, "best_val_acc": np.float64(0.9), "epoch_id": 3}, "best.pt")
    words = ("train", pairs, "--init", "file:best.pt@bit", *QUICK, "--lr", 1e-12, "--weight-decay", 0)
    said = regraft(*words, "--precision", "f32", "--run", "r")
    assert said.code == 0, said.err
    assert "100 %" in said.err
    assert [row["epoch"] for row in history("r")] == [0, 1], "it is good already, so it is judged before training"
    model = package.load_change("r")
    dates = np.random.default_rng(0).integers(0, 256, (1, 2, 64, 64, 3)).astype(np.uint8)
    with torch.no_grad():
        scaled = torch.from_numpy(dates).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
        expected = net(scaled).softmax(1).numpy()
    np.testing.assert_allclose(model.segment(dates), expected, atol=2e-4)
    assert bundle_of("r")["network"] == "bit:token_len=2,neck=last"


def test_satellite_images_of_six_bands(regraft, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    draws = np.random.default_rng(0)
    place = rasterio.transform.from_origin(500_000, 5_000_000, 10, 10)
    for kind in ("A", "B", "label"):
        (tmp_path / "d" / kind).mkdir(parents=True)
    for number in range(6):
        before, after, mask = drawn(draws, 48, bands=6)
        whole = {"A": before.astype(np.uint16) * 40, "B": after.astype(np.uint16) * 40, "label": mask[..., None]}
        for kind, values in whole.items():
            profile = {"driver": "GTiff", "height": 48, "width": 48, "count": values.shape[2]}
            path = tmp_path / "d" / kind / f"{number}.tif"
            with rasterio.open(
                path, "w", dtype=values.dtype.name, crs="EPSG:32633", transform=place, **profile
            ) as file:
                file.write(values.transpose(2, 0, 1))
    said = regraft("train", "d", *QUICK, "--run", "r")
    assert said.code == 0, said.err
    assert "6 bands of uint16" in said.err
    assert (bundle_of("r")["bands"], bundle_of("r")["dtype"]) == (6, "uint16")
    said = regraft("predict", "r", "d/A/0.tif", "d/B/0.tif", "-o", "change.tif")
    assert said.code == 0, said.err
    with rasterio.open("change.tif") as file:
        assert (file.crs, file.transform, file.shape) == (rasterio.CRS.from_epsg(32633), place, (48, 48))
    write_pairs(tmp_path / "rgb", 3)
    said = regraft("evaluate", "r", "rgb")
    assert said.code == 2
    assert "3 bands of uint8, but the model was trained on 6 of uint16" in said.err


def test_everything_at_once(regraft, pairs):
    said = regraft(
        "train", pairs, "--size", 32, "--epochs", 2, "--batch", 8, "--accumulate", 2, "--ema", "--workers", 1,
        "--class-weights", "balanced", "--loss", "0.5*ce+dice", "--schedule", "step:1:0.1", "--early-stop", 9,
        "--eval-every", 2, "--tensorboard", "--layer-decay", 0.8, "--metric", "loss", "--backbone", "timm/resnet18",
        "--strategy", "scratch", "--model", "unet", "--run", "r",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert list(Path("r").glob("tensorboard/events.*"))
    rows = history("r")
    assert [row["step"] for row in rows] == [2, 4, 6, 8], "8 pairs of 64x64 are 32 tiles of 32x32"
    assert rows[-1]["head_lr"] < rows[0]["head_lr"], "what begins at random learns as fast as the head"
    assert metrics_of("r")["chosen"]["best_epoch"] == min(rows, key=lambda row: row["val_loss"])["epoch"]
    assert "rarity" in (Path("r") / "report.html").read_text()


def test_a_budget_chooses_the_epochs(regraft, pairs):
    said = regraft("train", pairs, "--size", 64, "--batch", 4, "--budget", "3s", "--run", "r")
    assert said.code == 0, said.err
    assert "budget 3s: an epoch takes about" in said.err
    text = (Path("r") / "train.yaml").read_text()
    planned = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("epochs: "))
    assert 1 <= len(history("r")) <= planned, "time that runs out ends it early"
    assert "budget: null" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(pairs, tmp_path, number):
    words = command(pairs, "r")
    words[words.index("--epochs") + 1] = "300"
    process = start(words, tmp_path)
    while process.poll() is None and not (tmp_path / "r.training" / "history.jsonl").exists():
        time.sleep(0.02)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=120)
    said = err.decode()
    assert process.returncode == 128 + number, said
    assert "regraft train --resume r" in said
    assert "Traceback" not in said
    assert list((tmp_path / "r.training").glob("state-*.safetensors"))
    assert not (tmp_path / "r").exists()


# What a killed and resumed training leaves is what an undisturbed one leaves.


def command(pairs, name, *more):
    words = [*REGRAFT, "train", pairs, "--size", 64, "--epochs", 6, "--batch", 4, "--metric", "loss"]
    return [str(word) for word in (*words, "--save-every", 0, "--augment", "heavy", "--run", name, *more)]


def start(words, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def digests(run):
    names = ("backbone.safetensors", "head.safetensors")
    return [hashlib.sha256((Path(run) / "bundle" / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.parametrize("strategy", ["finetune", "linear-probe"])
def test_killed_in_the_middle_and_resumed_gives_the_same_weights(regraft, pairs, tmp_path, strategy):
    more = () if strategy == "finetune" else ("--strategy", strategy)
    words = command(pairs, "parts", *more)
    if strategy == "linear-probe":
        words[words.index("heavy")] = "auto"
    said = regraft(*["whole" if word == "parts" else word for word in words[len(REGRAFT) :]])
    assert said.code == 0, said.err
    process = start(words, tmp_path)
    history_file = tmp_path / "parts.training" / "history.jsonl"
    while process.poll() is None and not (history_file.exists() and history_file.read_text().count("\n") >= 2):
        time.sleep(0.005)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    if not (tmp_path / "parts").exists():
        said = regraft("train", "--resume", "parts")
        assert said.code == 0, said.err
    assert digests("parts") == digests("whole")
    assert [row["val_loss"] for row in history("parts")] == [row["val_loss"] for row in history("whole")]
    assert not Path("parts.training").exists()
