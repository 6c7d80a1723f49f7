"""`regraft train` with strategies that train the network, end to end on tiny real files."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import regraft as package
from odd_images import simple_folder
from regraft.backbones.catalogue import build
from regraft.features.store import cache_folder

SMALL = ("--size", 64, "--epochs", 2)
RECIPES = ["finetune", "lp-ft", "partial", "gradual", "lora", "scratch"]
REGRAFT = [sys.executable, "-m", "regraft"]


@pytest.fixture(autouse=True)
def _one(one_thread):
    pass


def only_run():
    (run,) = Path("runs").iterdir()
    return run


def history(run):
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def unchanged(run):
    """Names of the backbone's tensors that are as they were before training, and of all."""
    before = build("efficientnet_lite0", cache_folder()).module.state_dict()
    after = load_file(run / "bundle" / "backbone.safetensors")
    assert after.keys() == before.keys()
    return {name for name, tensor in after.items() if torch.equal(tensor, before[name])}, after.keys()


@pytest.mark.parametrize("strategy", RECIPES)
def test_every_recipe_leaves_a_run_that_predicts_what_it_says(regraft, photos, strategy):
    said = regraft("train", photos, "--strategy", strategy, *SMALL, "--force")
    assert said.code == 0, said.err
    run = only_run()
    assert run.name == f"photos-efficientnet_lite0-{strategy}"
    assert "images/s" in said.err
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["strategy"] == strategy
    assert metrics["split"] == "test"
    rows = history(run)
    assert [row["epoch"] for row in rows if row["step"] == 0] == ([0] if strategy == "lp-ft" else [])
    learnt = [row for row in rows if row["step"]]
    assert len(learnt) == (5 if strategy == "gradual" else 2)
    for row in learnt:
        assert np.isfinite([row["train_loss"], row["val_loss"], row["val_accuracy"]]).all()
        assert row["images_per_second"] > 0
    assert sum(row["best"] for row in rows) >= 1
    again = regraft("evaluate", run)
    assert again.code == 0, again.err
    other = json.loads(next(Path("runs").glob("*-evaluate/metrics.json")).read_text())
    for name in ("accuracy", "log_loss", "macro_f1"):
        assert other[name] == metrics[name], "the same path, so the same digits"
    report = (run / "report.html").read_text()
    assert "Training" in report
    paths = sorted(map(str, photos.rglob("*.png")))[:2] or sorted(map(str, photos.rglob("*.*")))[:2]
    assert [p.error for p in package.load(run).predict(paths)] == [None, None]


def test_frozen_tensors_are_bit_identical(regraft, photos):
    assert regraft("train", photos, "--strategy", "partial", *SMALL, "--force").code == 0
    same, names = unchanged(only_run())
    frozen = {n for n in names if re.match(r"conv_stem|bn1|blocks\.[0-5]\.", n)}
    assert frozen
    assert frozen <= same, sorted(frozen - same)
    learnt = {n for n in names - frozen if "running" not in n and "num_batches" not in n}
    assert not learnt & same, "what is not frozen learns"


def test_augmenting_anew_and_stored_views_freeze_the_same(regraft, photos):
    words = ("train", photos, "--strategy", "partial", "--unfreeze-from", "conv_head", *SMALL, "--force")
    assert regraft(*words, "--views", "fresh").code == 0
    same, names = unchanged(only_run())
    frozen = {n for n in names if not n.startswith(("conv_head", "bn2"))}
    assert frozen <= same


def test_head_variants(regraft, photos):
    for head in ("mlp", "conv"):
        said = regraft("train", photos, "--strategy", "finetune", *SMALL, "--force", "--head", head, "--run", head)
        assert said.code == 0, said.err
        metrics = json.loads((Path(head) / "metrics.json").read_text())
        assert regraft("evaluate", head, "--run", f"{head}-again").code == 0
        assert json.loads((Path(f"{head}-again") / "metrics.json").read_text())["log_loss"] == metrics["log_loss"]
    bundle = json.loads((Path("conv") / "bundle" / "bundle.json").read_text())
    assert bundle["backbones"][0]["architecture"].endswith("conv=256")


def test_everything_at_once(regraft, photos, tmp_path):
    augment = tmp_path / "my.yaml"
    augment.write_text("- Resize: 40\n- RandomRotation: 45\n- RandomHorizontalFlip: 0.5\n")
    said = regraft(
        "train", photos, "--strategy", "finetune", *SMALL, "--augment", augment, "--ema", "--mixup", 0.2,
        "--optimiser", "sgd", "--schedule", "step:1:0.1", "--class-weights", "balanced", "--early-stop", 5,
        "--eval-every", 1, "--accumulate", 2, "--workers", 2, "--tensorboard", "--metric", "macro_f1", "--force",
    )  # fmt: skip
    assert said.code == 0, said.err
    run = only_run()
    assert list((run / "tensorboard").glob("events.*"))
    rows = history(run)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["lr"] < rows[0]["lr"]
    assert not list(Path("runs").glob("*.training"))


def test_the_resolved_options_are_kept_and_repeat_the_run(regraft, photos):
    assert regraft("train", photos, "--strategy", "finetune", *SMALL, "--force", "--run", "a").code == 0
    text = (Path("a") / "train.yaml").read_text()
    for name in ("lr", "batch", "augment", "precision", "epochs"):
        assert not re.search(rf"^{name}: (auto|null)$", text, re.MULTILINE), name
    said = regraft("train", "--config", "a/train.yaml", "--run", "b")
    assert said.code == 0, said.err
    for name in ("backbone", "head"):
        one, other = (Path(r) / "bundle" / f"{name}.safetensors" for r in "ab")
        assert one.read_bytes() == other.read_bytes()


def test_what_the_command_line_says_wins_over_the_file(regraft, photos):
    Path("my.yaml").write_text("strategy: finetune\nepochs: 5\nsize: 64\nforce: true\nlr: 1e-4\n")
    said = regraft("train", photos, "--config", "my.yaml", "--epochs", 1, "--run", "r")
    assert said.code == 0, said.err
    assert len(history(Path("r"))) == 1
    assert history(Path("r"))[0]["phase"] == "finetune"


def test_the_probe_is_kept_where_it_does_better(regraft, photos):
    words = ("train", photos, "--strategy", "scratch", *SMALL)
    assert regraft(*words, "--run", "s").code == 0
    assert json.loads((Path("s") / "metrics.json").read_text())["strategy"] == "scratch", "the control stays a control"
    # A head that has hardly left zero is sure of nothing, so its loss is that of guessing.
    words = ("train", photos, "--strategy", "finetune", "--size", 64, "--epochs", 1)
    said = regraft(*words, "--lr", 1e-9, "--metric", "loss", "--run", "f")
    assert said.code == 0, said.err
    metrics = json.loads((Path("f") / "metrics.json").read_text())
    assert metrics["strategy"] == "linear-probe"
    assert "--force" in said.err
    assert "probe does better" in (Path("f") / "report.html").read_text()
    assert regraft("evaluate", "f").code == 0


def test_a_test_part_alone_sets_validation_images_aside(regraft, tmp_path):
    simple_folder(tmp_path / "d" / "train", classes=2, per_class=12)
    simple_folder(tmp_path / "d" / "test", classes=2, per_class=4)
    said = regraft("train", tmp_path / "d", "--strategy", "lp-ft", *SMALL, "--force")
    assert said.code == 0, said.err
    assert "set aside" in said.err
    metrics = json.loads((only_run() / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["evaluations"]["test"]["n"] == 8


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--epochs", 3), "no effect with --strategy auto"),
        (("--strategy", "finetune", "--epochs", 0), "epochs is 0"),
        (("--strategy", "finetune", "--epochs", 3, "--budget", "1m"), "one of them"),
        (("--strategy", "finetune", "--budget", "soon"), "90s, 10m, 2h or 1h30m"),
        (("--strategy", "finetune", "--schedule", "step:7"), "step:7:0.1"),
        (("--strategy", "finetune", "--lr", "nan"), "lr is nan"),
        (("--strategy", "finetune", "--unfreeze-from", "blocks.6"), "it is for partial"),
        (("--strategy", "partial", "--unfreeze-from", "blocks.9"), "blocks.6"),
        (("--strategy", "partial", "--views", "flip"), "whole number above 0"),
        (("--strategy", "finetune", "--views", "3"), "augments anew"),
        (("--strategy", "finetune", "--augment", "wild"), "none, light, default, heavy"),
        (("--strategy", "finetune", "--augment", "missing.yaml"), "missing.yaml"),
        (("--strategy", "lp-ft", "--head", "mlp"), "no effect with --strategy lp-ft"),
        (("--strategy", "finetune", "--resume", "runs/none"), "runs/none"),
        (("--config", "none.yaml"), "none.yaml"),
        (("--strategy", "finetune", "--devices", 0), "devices is 0"),
        (("--strategy", "svm", "--devices", 2), "runs in one process"),
        (("--strategy", "finetune", "--features", "x.npz"), "trains on images"),
        (("--strategy", "finetune", "--mixup", "1e-310"), "mixup is 1e-310"),
        (("--strategy", "finetune", "--weight-decay", "inf"), "weight-decay is inf"),
        (("--strategy", "gradual", "--epochs", 10**9), "from 1 to 1,000,000"),
        (("--strategy", "partial", "--unfreeze-from", ""), "the name of a stage"),
        (("--strategy", "finetune", "--run", "x" * 200), "too long a name"),
        (("--strategy", "finetune", "--budget", "0.0001s"), "less than one epoch takes"),
    ],
)
def test_careless_words_get_a_sentence(regraft, photos, words, told):
    said = regraft("train", photos, *words)
    assert said.code == 2, said.err
    assert told in said.err
    assert not list(Path("runs").glob("*")) if Path("runs").exists() else True


def test_a_budget_chooses_the_epochs_and_the_run_can_be_repeated(regraft, photos):
    said = regraft("train", photos, "--strategy", "partial", "--size", 64, "--budget", "4s", "--force", "--run", "a")
    assert said.code == 0, said.err
    assert "budget 4s" in said.err
    count = len(history(Path("a")))
    assert 1 <= count <= 300
    said = regraft("train", "--config", "a/train.yaml", "--epochs", 1, "--run", "b")
    assert said.code == 0, said.err
    assert len(history(Path("b"))) == 1


def test_gradual_tells_the_epochs_that_it_needs(regraft, photos):
    said = regraft("train", photos, "--strategy", "gradual", "--size", 64, "--epochs", 1, "--force")
    assert said.code == 0, said.err
    rows = history(only_run())
    assert len(rows) == len({row["phase"] for row in rows}) == 5
    assert json.loads((only_run() / "metrics.json").read_text())["chosen"]["epochs"] == 5
    assert "epochs: 5" in (only_run() / "train.yaml").read_text()


def test_lp_ft_that_does_not_improve_on_the_probe_is_the_probe(regraft, photos):
    said = regraft("train", photos, "--strategy", "lp-ft", "--size", 64, "--epochs", 1, "--lr", 1e-12)
    assert said.code == 0, said.err
    assert "did not improve on the probe" in said.err
    assert json.loads((only_run() / "metrics.json").read_text())["strategy"] == "linear-probe"


def test_learning_rates_are_found_and_drawn(regraft, photos):
    said = regraft("lr-find", photos, "-o", "curve.png", "--size", 64, "--steps", 12)
    assert said.code == 0, said.err
    assert Path("curve.png").stat().st_size > 1000
    assert "curve.png" in said.out
    assert not Path("runs").exists()
    assert regraft("lr-find", photos, "--strategy", "svm").code == 2
    assert regraft("lr-find", photos, "--low", 1, "--high", 0.1).code == 2
    assert regraft("lr-find", photos, "--high", "inf").code == 2


# What a killed and resumed training leaves is what an undisturbed one leaves.


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def command(photos, strategy, name, *, epochs=6):
    words = [*REGRAFT, "train", photos, "--strategy", strategy, "--size", 64, "--epochs", epochs, "--force"]
    # By the loss on validation images the best epoch is a late one, so that the kept weights have seen the kill.
    words += ["--save-every", 0, "--metric", "loss"]
    more = ["--augment", "heavy", "--mixup", 0.2, "--ema", "--workers", 1] if strategy == "finetune" else []
    return [str(w) for w in (*words, *more, "--run", name)]


def digests(run):
    names = ("backbone.safetensors", "head.safetensors")
    return [hashlib.sha256((run / "bundle" / name).read_bytes()).hexdigest() for name in names]


def start(words, tmp_path):
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=tmp_path, env=environment(), stderr=pipe, stdout=pipe)


def finish(process):
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err.decode()


def killed_and_resumed(photos, tmp_path, strategy, kills, seed):
    began = time.monotonic()
    finish(start(command(photos, strategy, "whole"), tmp_path))
    whole = time.monotonic() - began
    rng, struck = random.Random(seed), 0
    process = start(command(photos, strategy, "parts"), tmp_path)
    folder = tmp_path / "parts.training"
    for _ in range(kills):
        while process.poll() is None and not (folder / "train.yaml").exists():
            time.sleep(0.02)
        time.sleep(rng.uniform(0, whole / 2))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            struck += 1
        process.communicate()
        if (tmp_path / "parts" / "metrics.json").exists():
            process = None  # it was done, whether the kill came or not
            break
        process = start([*REGRAFT, "train", "--resume", "parts"], tmp_path)
    if process is not None:
        finish(process)
        assert not folder.exists()
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole"), f"{struck} kills"
    return struck


_LONG = [pytest.param(name, marks=pytest.mark.nightly) for name in ("gradual", "lora")]


@pytest.mark.parametrize("strategy", ["finetune", *_LONG])
def test_killed_anywhere_and_resumed_gives_the_same_weights(photos, tmp_path, strategy):
    assert killed_and_resumed(photos, tmp_path, strategy, kills=1, seed=0) in {0, 1}


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("strategy", RECIPES)
def test_killed_often_and_resumed_gives_the_same_weights(photos, tmp_path, strategy, seed):
    assert killed_and_resumed(photos, tmp_path, strategy, kills=4, seed=100 + seed) >= 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(photos, tmp_path, number):
    words = command(photos, "partial", "r", epochs=300)
    process = start(words, tmp_path)
    folder = tmp_path / "r.training"
    while process.poll() is None and not (folder / "history.jsonl").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=120)
    said = err.decode()
    assert process.returncode == 128 + number, said
    assert "regraft train --resume r" in said
    assert "Traceback" not in said
    assert list(folder.glob("state-*.safetensors"))
    assert not (tmp_path / "r").exists()


@pytest.fixture
def interrupted(photos, tmp_path):
    """`r.training`, of a partial training that was stopped in the middle; a copy of it is `spare`."""
    process = start(command(photos, "partial", "r", epochs=300), tmp_path)
    while process.poll() is None and not list(tmp_path.glob("r.training/state-*")):
        time.sleep(0.02)
    process.terminate()
    process.communicate()
    folder = tmp_path / "r.training"
    assert list(folder.glob("state-*"))
    shutil.copytree(folder, tmp_path / "spare")
    return folder


def test_resuming_refuses_what_would_not_be_the_same(regraft, photos, interrupted):
    def refused(*words, told):
        said = regraft("train", *words)
        assert said.code == 2, said.err
        assert told in said.err, said.err

    refused("--resume", "r", "--lr", 1e-3, told="--lr: cannot change")
    refused(photos, "--strategy", "partial", "--run", "r", told="--resume r")
    for name in (".", "..", ""):
        refused("--resume", name, told="is no run")
    text = (interrupted / "train.yaml").read_text()
    (interrupted / "train.yaml").write_text(text.replace("smoothing: 0.1", "smoothing: 0.2"))
    refused("--resume", "r", told="the options in")
    (interrupted / "train.yaml").write_text(text)
    with filelock.FileLock(interrupted / ".lock"):
        refused("--resume", "r", told="another process is training there")
        refused(photos, "--strategy", "partial", *SMALL, "--run", "r", "--overwrite", told="another process")
    victim = next(photos.rglob("*.jpg"))
    kept = victim.read_bytes()
    victim.unlink()
    refused("--resume", "r", told="the images or labels of")
    victim.write_bytes(kept)


def test_damaged_states_are_told_and_never_lose_what_comes_after(regraft, interrupted, monkeypatch):
    text = (interrupted / "train.yaml").read_text()
    assert "epochs: 300" in text
    (interrupted / "train.yaml").write_text(text.replace("epochs: 300", "epochs: 2"))
    for path in interrupted.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    (interrupted / ".tmpAbC123").write_bytes(b"half")
    said = regraft("train", "--resume", "r")
    assert said.code == 0, said.err
    assert "no complete training state" in said.err
    assert "from the beginning" in said.err
    assert len(history(Path("r"))) == 2
    assert not interrupted.exists()


def test_overwriting_removes_what_a_kill_left(regraft, photos, interrupted):
    (interrupted / ".tmpAbC123").write_bytes(b"half")
    said = regraft("train", photos, "--strategy", "partial", *SMALL, "--run", "r", "--overwrite", "--force")
    assert said.code == 0, said.err
    (Path("other.training")).mkdir()
    (Path("other.training") / "thesis.txt").write_text("mine")
    said = regraft("train", photos, "--strategy", "partial", *SMALL, "--run", "other", "--overwrite")
    assert said.code == 2
    assert "no training left" in said.err


def test_resuming_works_from_another_folder(regraft, interrupted, tmp_path, monkeypatch):
    text = (interrupted / "train.yaml").read_text()
    for path in interrupted.glob("*.safetensors"):
        path.unlink()
    (interrupted / "train.yaml").write_text(text.replace("epochs: 300", "epochs: 1"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = regraft("train", "--resume", "../r")
    assert said.code == 0, said.err
    assert (tmp_path / "r" / "metrics.json").is_file()
    said = regraft("train", "--resume", "../r")
    assert said.code == 2
    assert "this run is finished" in said.err


@pytest.mark.nightly
def test_another_network_under_the_same_name_is_refused(photos, tmp_path):
    from torchvision import models

    for seed, name in ((0, "a.pth"), (1, "b.pth")):
        torch.manual_seed(seed)
        torch.save(models.resnet18().state_dict(), tmp_path / name)
    shutil.copy(tmp_path / "a.pth", tmp_path / "ck.pth")
    words = command(photos, "partial", "r", epochs=300)
    process = start([*words, "--backbone", "file:ck.pth@torchvision/resnet18"], tmp_path)
    while process.poll() is None and not list(tmp_path.glob("r.training/state-*")):
        time.sleep(0.02)
    process.terminate()
    process.communicate()
    shutil.copy(tmp_path / "b.pth", tmp_path / "ck.pth")
    process = start([*REGRAFT, "train", "--resume", "r"], tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "the weights of" in err.decode()


# Several processes.


def torchrun(words, tmp_path, processes):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*launch, "-m", "--", "regraft", *map(str, words)], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.nightly
def test_two_processes_train_as_one_does(photos, tmp_path):
    words = ["train", photos, "--strategy", "finetune", "--size", 64, "--epochs", 2, "--force", "--precision", "f32"]
    words += ["--augment", "light", "--batch", 8]
    done = torchrun([*words, "--run", "two"], tmp_path, 2)
    assert done.stderr.count("splits:") == 1, "one process speaks for all"
    finish(start([*REGRAFT, *map(str, words), "--run", "one"], tmp_path))
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    assert [row["step"] for row in one] == [row["step"] for row in two]
    # BatchNorm statistics are frozen on so few images, so each step has the same gradient but for rounding.
    for a, b in zip(one, two, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=2e-3)
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=2e-2)
    metrics = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two")]
    assert metrics[0]["accuracy"] == pytest.approx(metrics[1]["accuracy"], abs=0.17)


@pytest.mark.nightly
def test_evaluation_gives_the_same_on_one_and_on_two_processes(photos, tmp_path):
    words = ["train", photos, "--strategy", "lp-ft", "--size", 64, "--epochs", 1, "--force"]
    torchrun([*words, "--run", "two"], tmp_path, 2)
    finish(start([*REGRAFT, *map(str, words), "--run", "one"], tmp_path))
    # Before the first step the weights are the same.
    one, two = history(tmp_path / "one")[0], history(tmp_path / "two")[0]
    assert one["step"] == two["step"] == 0
    for name in ("val_accuracy", "val_balanced_accuracy", "val_macro_f1"):
        assert one[name] == two[name]
    assert one["val_loss"] == pytest.approx(two["val_loss"], abs=1e-6)
