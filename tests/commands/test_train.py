"""`regraft train`, end to end on tiny real files."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss

import regraft as package
from odd_images import make_odd_folder, simple_folder

FILES = {
    "bundle",
    "config.json",
    "history.jsonl",
    "leaderboard.csv",
    "leaderboard.json",
    "manifest.csv",
    "metrics.json",
    "predictions.csv",
    "rejected.csv",
    "report.html",
    "skipped.csv",
}
STRATEGIES = ["linear-probe", "lda", "nearest-mean", "svm", "svm-linear", "svm-rbf", "naive-bayes", "knn", "mlp-head"]


def read_csv(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_folder_of_images_becomes_a_run(regraft, photos):
    said = regraft("train", photos)
    assert said.code == 0, said.err
    (run,) = Path("runs").iterdir()
    assert run.name == "photos-efficientnet_lite0-auto"
    assert {p.name for p in run.iterdir()} == FILES
    assert str(run / "report.html") in said.out
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["accuracy"] >= 0.8
    assert metrics["split"] == "test"
    assert set(metrics["evaluations"]) == {"test", "val"}
    low, high = metrics["intervals"]["accuracy"]
    assert low <= metrics["accuracy"] <= high
    manifest = read_csv(run / "manifest.csv")
    assert len(manifest) == 42
    assert {row["split"] for row in manifest} == {"train", "val", "test"}
    assert all(len(row["sha256"]) == 64 for row in manifest)
    config = json.loads((run / "config.json").read_text())
    assert config["options"]["strategy"] == config["asked_strategy"] == "auto"
    board = json.loads((run / "leaderboard.json").read_text())
    assert len(board["candidates"]) == 9
    (best,) = (row for row in board["candidates"] if row["recommended"])
    assert config["strategy"] == metrics["strategy"] == best["strategy"]
    assert config["command"].startswith("regraft train ")


def test_the_numbers_are_those_of_the_predictions(regraft, photos):
    """metrics.json against scikit-learn on predictions.csv."""
    regraft("train", photos, "--run", "r")
    metrics = json.loads(Path("r/metrics.json").read_text())
    rows = [row for row in read_csv(Path("r/predictions.csv")) if row["split"] == "test"]
    truth = [row["label"] for row in rows]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, [row["predicted"] for row in rows]))
    classes = sorted(set(truth))
    probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert metrics["log_loss"] == pytest.approx(log_loss(truth, probabilities, labels=classes), abs=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_predicts_the_same_after_loading(regraft, photos, strategy):
    said = regraft("train", photos, "--strategy", strategy, "--run", "r")
    assert said.code == 0, said.err
    rows = {row["path"]: row for row in read_csv(Path("r/predictions.csv"))}
    answers = package.load("r").predict(list(rows))
    for answer in answers:
        row = rows[answer.path]
        assert answer.label == row["predicted"]
        told = [row[f"p_{name}"] for name in answer.probabilities]
        assert [f"{p:.6f}" for p in answer.probabilities.values()] == told


def test_python_and_command_line_agree(regraft, photos):
    regraft("train", photos, "--run", "a", "--strategy", "naive-bayes")
    run = package.train(photos, run="b", strategy="naive-bayes")
    told = json.loads(Path("a/metrics.json").read_text())
    assert run.metrics["accuracy"] == told["accuracy"]
    assert run.metrics["log_loss"] == told["log_loss"]
    assert Path("a/predictions.csv").read_bytes() == Path("b/predictions.csv").read_bytes()


def test_training_twice_gives_the_same_numbers(regraft, photos):
    for name in ("a", "b"):
        regraft("train", photos, "--run", name)
    assert Path("a/predictions.csv").read_bytes() == Path("b/predictions.csv").read_bytes()
    assert Path("a/manifest.csv").read_bytes() == Path("b/manifest.csv").read_bytes()


def test_a_run_is_never_overwritten_silently(regraft, photos):
    assert regraft("train", photos).code == 0
    assert regraft("train", photos).code == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == [
        "photos-efficientnet_lite0-auto",
        "photos-efficientnet_lite0-auto-2",
    ]
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    said = regraft("train", photos, "--run", "mine")
    assert said.code == 2
    assert "--overwrite" in said.err
    assert Path("mine/thesis.txt").read_text() == "years of work"
    assert regraft("train", photos, "--run", "r").code == 0
    assert regraft("train", photos, "--run", "r", "--strategy", "knn", "--overwrite").code == 0
    assert json.loads(Path("r/metrics.json").read_text())["strategy"] == "knn"


def test_overwrite_replaces_runs_and_nothing_else(regraft, photos, tmp_path):
    before = sorted(p.name for p in photos.rglob("*"))
    (tmp_path / "table.csv").write_text("path,label\n")
    for target in ("photos", ".", "table.csv", ".."):
        said = regraft("train", photos, "--run", target, "--overwrite")
        assert said.code == 2, target
        assert "is not a run" in said.err
    assert sorted(p.name for p in photos.rglob("*")) == before
    assert regraft("train", photos, "--run", "r").code == 0
    assert regraft("evaluate", "r", "--run", "r", "--overwrite").code == 2
    Path("r/notes.txt").write_text("mine")
    assert regraft("train", photos, "--run", "r", "--overwrite").code == 2
    assert Path("r/notes.txt").exists()


def test_places_that_cannot_be_written_are_refused_at_once(regraft, photos, tmp_path, monkeypatch):
    said = regraft("train", photos, "--run", "/proc/run")
    assert said.code == 2
    assert "/proc/run cannot be written" in said.err
    (tmp_path / "file").write_text("")
    said = regraft("train", photos, "--run", "file/run")
    assert "not a folder" in said.err
    monkeypatch.setenv("REGRAFT_CACHE_DIR", str(tmp_path / "file"))
    said = regraft("train", photos)
    assert said.code == 2
    assert "REGRAFT_CACHE_DIR" in said.err


def test_missing_files_count_as_rejected(regraft, photos, tmp_path):
    images = sorted(photos.rglob("*.jpg"))
    rows = [f"{path},{path.parent.name}" for path in images] + [f"gone{n}.jpg,x" for n in range(5)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    said = regraft("train", "t.csv", "--run", "r")
    assert said.code == 2
    assert "gone0.jpg" in said.err


def test_given_splits_are_used_and_called_what_they_are(regraft, tmp_path):
    simple_folder(tmp_path / "d", classes=2, splits={"train": 8, "val": 6})
    said = regraft("train", "d", "--run", "r")
    metrics = json.loads(Path("r/metrics.json").read_text())
    assert metrics["split"] == "val"
    assert metrics["n"] == 12
    assert "validation accuracy" in said.err
    assert "optimistic" in said.err
    assert "optimistic" in Path("r/report.html").read_text()


def test_a_folder_of_odd_files_trains_and_reports_each(regraft, tmp_path):
    expected = make_odd_folder(tmp_path / "odd")
    said = regraft("train", tmp_path / "odd", "--run", "r", "--max-rejected", "0.5")
    assert said.code == 0, said.err
    told = {
        name: {row["path"] for row in read_csv(Path(f"r/{name}.csv"))} for name in ("rejected", "skipped", "manifest")
    }
    for relative, fate in expected.items():
        path = str(tmp_path / "odd" / relative)
        assert (path in told["rejected"]) == (fate == "rejected"), relative
        assert (path in told["manifest"]) == (fate in {"ok", "noted"}), relative
        if fate == "skipped":
            assert any(path == other or path.startswith(other + os.sep) for other in told["skipped"]), relative
    reasons = {row["path"]: row["reason"] for row in read_csv(Path("r/rejected.csv"))}
    assert all(reason and "Traceback" not in reason for reason in reasons.values())
    assert {row["label"] for row in read_csv(Path("r/manifest.csv"))} == {"a", "b"}
    report = Path("r/report.html").read_text(errors="surrogateescape")
    assert all(reason.split(":")[0][:20] in report for reason in reasons.values())


def test_too_many_bad_files_stop_training_and_leave_nothing(regraft, photos):
    for n in range(4):
        (photos / f"class{n}.jpg").unlink(missing_ok=True)
        next(iter(sorted(p for p in photos.iterdir() if p.is_dir()))).joinpath(f"bad{n}.jpg").write_bytes(b"no")
    said = regraft("train", photos, "--run", "r")
    assert said.code == 2
    assert "4 of 46 images cannot be read" in said.err
    assert "--max-rejected" in said.err
    assert not Path("r").exists()
    assert regraft("train", photos, "--run", "r", "--max-rejected", "0.1").code == 0


def test_flip_uses_both_views(regraft, photos):
    assert regraft("train", photos, "--run", "plain").code == 0
    assert regraft("train", photos, "--run", "flip", "--views", "flip").code == 0
    assert json.loads(Path("flip/bundle/bundle.json").read_text())["views"] == "flip"
    assert Path("plain/predictions.csv").read_text() != Path("flip/predictions.csv").read_text()
    answers = package.load("flip").predict([row["path"] for row in read_csv(Path("flip/predictions.csv"))])
    for answer, row in zip(answers, read_csv(Path("flip/predictions.csv")), strict=True):
        assert f"{answer.probability:.6f}" == row["probability"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere"),
        (["photos", "--strategy", "svn"], "Did you mean svm?"),
        (["photos", "--backbone", "efficientnet_lite9"], "efficientnet_lite0"),
        (["photos", "--views", "many"], "many"),
        (["photos", "--max-rejected", "7"], "max-rejected"),
        (["photos", "--root", "x"], "root"),
        (["photos", "--seed", "-1"], "seed is -1"),
        (["photos", "--max-pixels", "0"], "max-pixels is 0"),
        (["--features", "f.npz", "--views", "flip"], "--views has no effect"),
        (["sample:mnist"], "textile"),
        ([], "--features"),
        (["--features", "none.npz"], "none.npz"),
    ],
)
def test_careless_words_get_a_sentence(regraft, photos, words, told):
    said = regraft("train", *words)
    assert said.code == 2
    assert told in said.err + said.out
    assert not Path("runs").exists()


def test_data_that_cannot_be_trained_on(regraft, tmp_path):
    def picture(path, number):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (10 * number, 1, 2)).save(path)

    for n in range(5):
        picture(tmp_path / "one" / "cat" / f"{n}.png", n)
        picture(tmp_path / "flat" / f"{n}.png", n)
        picture(tmp_path / "tiny" / "cat" / f"{n}.png", n)
    for n in range(2):
        picture(tmp_path / "tiny" / "dog" / f"{n}.png", 10 + n)
    (tmp_path / "empty").mkdir()
    for folder, told in [("one", "two classes"), ("flat", "label"), ("tiny", "dog"), ("empty", "No images found")]:
        said = regraft("train", folder)
        assert said.code == 2, folder
        assert told in said.err, (folder, said.err)


def test_class_names_cannot_inject_html(regraft, tmp_path):
    names = ["<script>alert(1)<", "图像 & co"]
    simple_folder(tmp_path / "d", classes=2, per_class=12)
    for folder, name in zip(sorted((tmp_path / "d").iterdir()), names, strict=True):
        folder.rename(folder.with_name(name))
    assert regraft("train", "d", "--run", "r").code == 0
    report = Path("r/report.html").read_text("utf-8")
    assert "<script>alert(1)" not in report
    assert "图像 &amp; co" in report


def test_leaks_are_told(regraft, tmp_path):
    simple_folder(tmp_path / "d", classes=2, splits={"train": 6, "val": 4})
    train, val = (min((tmp_path / "d" / split).rglob("*.jpg")) for split in ("train", "val"))
    val.write_bytes(train.read_bytes())
    said = regraft("train", "d", "--run", "r")
    assert "more than one split" in said.err
    assert "more than one split" in Path("r/report.html").read_text()


WARM = """
import sys
from regraft.cli.main import app
code = app(sys.argv[1:], result_action="return_value")
heavy = {"torch", "timm", "torchvision"} & set(sys.modules)
print("heavy", sorted(heavy))
"""


def test_no_torch_when_everything_is_in_the_store(regraft, photos):
    assert regraft("train", photos, "--run", "a").code == 0
    assert regraft("embed", photos, "-o", "a.npz").code == 0
    for words in (["train", photos, "--run", "b"], ["evaluate", "a", "--run", "c"], ["predict", "a", photos]):
        done = subprocess.run(
            [sys.executable, "-c", WARM, *map(str, words)], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "heavy []", words


@pytest.mark.parametrize("count", [6, pytest.param(60, marks=pytest.mark.nightly)])
def test_killing_leaves_a_whole_run_or_none(regraft, photos, tmp_path, count):
    """Killed at moments spread over the whole command; the next command then works as if nothing had been."""
    words = ["train", str(photos), "--strategy", "linear-probe", "--run"]
    command = [sys.executable, "-m", "regraft", *words, str(tmp_path / "runs" / "r")]
    environment = dict(os.environ) | {"REGRAFT_CACHE_DIR": str(tmp_path / "own_cache")}
    subprocess.run(command, env=environment, check=True, capture_output=True)  # converts the backbone
    reference = (tmp_path / "runs" / "r" / "predictions.csv").read_bytes()

    def empty_the_store():
        for path in (tmp_path / "own_cache" / "features").rglob("*.safetensors"):
            path.unlink()

    began = time.perf_counter()
    empty_the_store()
    subprocess.run([*command[:-1], str(tmp_path / "runs" / "timed")], env=environment, check=True, capture_output=True)
    whole = time.perf_counter() - began
    generator = np.random.default_rng(count)
    finished = 0
    for n in range(count):
        run = tmp_path / "runs" / f"r{n}"
        if n % 2:  # half of them with nothing in the store
            empty_the_store()
        process = subprocess.Popen(
            [*command[:-1], str(run)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(generator.uniform(0.3, 1.0) * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished += run.exists()
        if run.exists():
            assert {p.name for p in run.iterdir()} == FILES - {"leaderboard.csv", "leaderboard.json"}
            assert (run / "predictions.csv").read_bytes() == reference
    assert finished < count, "no process was killed before it had finished"
    subprocess.run([*command[:-1], str(tmp_path / "runs" / "last")], env=environment, check=True, capture_output=True)
    assert (tmp_path / "runs" / "last" / "predictions.csv").read_bytes() == reference
    assert [p.name for p in (tmp_path / "runs").iterdir() if p.name.startswith(".")] == []


@pytest.mark.shared
def test_hymenoptera_reaches_what_the_tutorial_reaches(regraft, shared_data):
    said = regraft("train", shared_data / "hymenoptera", "--run", "r")
    assert said.code == 0, said.err
    metrics = json.loads(Path("r/metrics.json").read_text())
    assert metrics["n"] == 153
    assert metrics["accuracy"] >= 0.945
