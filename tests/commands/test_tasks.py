"""Several tasks on frozen features, `--label` repeated or with a kind, through train, predict and evaluate."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import regraft as package
from regraft.heads.tasks import TaskHeads
from regraft.inference.bundle import read_bundle

LABELS = ("species", "shade", "tags:multilabel", "attr_*:multilabel", "size:regression", "x,y:regression")
WORDS = [word for label in LABELS for word in ("--label", label)]
NAMES = ["species", "shade", "tags", "attr_*", "size", "x,y"]


def read_csv(path):
    with Path(path).open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def table(photos):
    """The photos with a column or more a task, some cells empty, and splits."""
    rows, generator = [], np.random.default_rng(0)
    for n, path in enumerate(sorted(photos.rglob("*.jpg"))):
        kind = int(path.parent.name[-1])
        rows.append(
            {
                "path": path.relative_to(photos.parent),
                "split": "train" if n % 14 < 8 else "val" if n % 14 < 11 else "test",
                "species": "" if n in {0, 12} else path.parent.name,
                "shade": "dark" if kind == 0 else "light",
                "tags": "" if n == 5 else "|".join(["striped", "round", "striped|round"][kind].split("|")),
                "attr_a": int(kind > 0),
                "attr_b": "" if n == 7 else int(kind == 1),
                "size": "" if n == 9 else f"{10 * kind + generator.normal():.3f}",
                "x": kind,
                "y": -kind,
            }
        )
    with Path("styles.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Path("styles.csv")


@pytest.fixture
def trained(regraft, table):
    said = regraft("train", table, *WORDS, "--strategy", "linear-probe", "--run", "run")
    assert said.code == 0, said.err
    assert "mean absolute error" in said.err
    assert "accuracy of the task alone: the same" in " ".join(said.err.split())
    return Path("run")


def test_a_run_tells_each_task(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert list(metrics["tasks"]) == NAMES
    assert metrics["split"] == "test"
    assert set(metrics["evaluations"]) == {"test", "val"}
    values = [max(0.0, task["value"]) for task in metrics["tasks"].values()]
    assert metrics["score"] == pytest.approx(np.mean(values))
    assert metrics["tasks"]["species"]["n"] == 8  # one test image has no species
    assert metrics["tasks"]["size"]["numbers"][0]["r2"] == metrics["tasks"]["size"]["alone"]
    assert {path.name for path in trained.iterdir()} == {
        "bundle",
        "config.json",
        "history.jsonl",
        "manifest.csv",
        "metrics.json",
        "predictions.csv",
        "rejected.csv",
        "report.html",
        "skipped.csv",
    }
    page = (trained / "report.html").read_text()
    for name in NAMES:
        assert f">{name}</h2>" in page
    assert "Labels, the weakest first" in page
    assert "Largest errors" in page
    assert page.lstrip().startswith("<!DOCTYPE html>")
    history = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
    assert {"species", "tags", "size"} <= {row["task"] for row in history}


def test_predictions_say_what_is_true_and_what_was_told(trained, table):
    rows = {row["path"]: row for row in read_csv(trained / "predictions.csv")}
    given = {str(Path(row["path"]).absolute()): row for row in read_csv(table)}
    assert {row["split"] for row in rows.values()} == {"val", "test"}
    for path, row in rows.items():
        truth = given[path]
        assert row["species"] == truth["species"]
        assert row["tags"].split("|") == sorted(truth["tags"].split("|"))
        assert row["attr_*"] == ("|".join(n for n in ("attr_a", "attr_b") if truth[n] == "1") or "|")
        assert (row["size"] == "") == (truth["size"] == "")
        assert float(row["x"]) == float(truth["x"])
        assert row["species_predicted"].startswith("kind_")
        assert abs(float(row["x_predicted"]) - float(truth["x"])) < 1.5
    metrics = json.loads((trained / "metrics.json").read_text())
    test = [row for row in rows.values() if row["split"] == "test" and row["species"]]
    accuracy = np.mean([row["species"] == row["species_predicted"] for row in test])
    assert accuracy == metrics["tasks"]["species"]["accuracy"]
    errors = [
        abs(float(row["size"]) - float(row["size_predicted"]))
        for row in rows.values()
        if row["split"] == "test" and row["size"]
    ]
    assert np.mean(errors) == pytest.approx(metrics["tasks"]["size"]["numbers"][0]["mae"], rel=1e-6)


def test_predict_gives_what_was_measured_in_every_form(regraft, trained, photos):
    broken = photos / "kind_0" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no image")
    for name in ("answers.csv", "answers.json", "answers.parquet"):
        said = regraft("predict", trained, photos, "-o", name)
        assert said.code == 1, said.err  # one image cannot be read
    answers = {str(Path(row["path"]).absolute()): row for row in read_csv("answers.csv")}
    assert answers[str(broken.absolute())]["species"] == ""
    assert answers[str(broken.absolute())]["error"]
    for row in read_csv(trained / "predictions.csv"):
        own = answers[row["path"]]
        assert own["species"] == row["species_predicted"]
        assert float(own["species_probability"]) == pytest.approx(float(row["species_probability"]), abs=1e-6)
        assert own["tags"] == row["tags_predicted"]
        assert float(own["size"]) == pytest.approx(float(row["size_predicted"]), rel=1e-6)
    nested = {str(Path(row["path"]).absolute()): row for row in json.loads(Path("answers.json").read_text())}
    assert nested[str(broken.absolute())]["tasks"] == {}
    for path, row in nested.items():
        if row["error"] is None:
            assert row["tasks"]["species"]["label"] == answers[path]["species"]
            assert sum(row["tasks"]["species"]["probabilities"].values()) == pytest.approx(1)
            assert row["tasks"]["x,y"]["numbers"].keys() == {"x", "y"}
    parquet = pytest.importorskip("pyarrow.parquet").read_table("answers.parquet").to_pylist()
    assert [row["species"] or "" for row in parquet] == [row["species"] for row in read_csv("answers.csv")]
    some = min(photos.rglob("kind_1/*.jpg"))
    said = regraft("predict", trained, some)
    assert f"{some}  species=kind_1 " in said.out
    assert "  tags=" in said.out
    assert "  x,y=" in said.out


def test_evaluate_gives_the_same_numbers_and_others_on_other_images(regraft, trained, table):
    said = regraft("evaluate", trained, "--run", "again")
    assert said.code == 0, said.err
    assert "species accuracy" in said.out
    first, again = (json.loads((run / "metrics.json").read_text()) for run in (trained, Path("again")))
    assert again["tasks"] == first["tasks"]
    said = regraft("evaluate", trained, table, "--split", "all", "--run", "whole")
    assert said.code == 0, said.err
    whole = json.loads(Path("whole/metrics.json").read_text())
    assert (whole["n"], whole["seen"]) == (42, 24)
    assert "24 of 42 images were in the model's training part" in said.err
    rows = read_csv("styles.csv")
    for row in rows:
        row["species"] = "new" if row["species"] == "kind_2" else row["species"]
    with Path("other.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    said = regraft("evaluate", trained, "other.csv", "--run", "other")
    assert said.code == 0, said.err
    assert "a class that is none of its own" in said.err
    assert json.loads(Path("other/metrics.json").read_text())["tasks"]["species"]["n"] == 5
    assert regraft("evaluate", trained, "--label", "species", "--run", "no").code == 2


@pytest.mark.parametrize("label", ["species", "shade"])
def test_on_a_frozen_backbone_each_task_is_the_model_that_it_would_be_alone(regraft, trained, table, label):
    said = regraft("train", table, "--label", label, "--strategy", "linear-probe", "--run", "alone")
    assert said.code == 0, said.err
    together, alone = read_bundle(trained).head, read_bundle(Path("alone")).head
    assert isinstance(together, TaskHeads)
    part = next(part for part in together.parts if part.name == label)
    assert part.head.settings() == alone.settings()
    assert part.head.arrays().keys() == alone.arrays().keys()
    for name, array in alone.arrays().items():
        assert np.array_equal(part.head.arrays()[name], array), name
    both = json.loads((trained / "metrics.json").read_text())["tasks"][label]
    single = json.loads(Path("alone/metrics.json").read_text())
    for name in ("accuracy", "log_loss", "macro_f1", "confusion", "intervals"):
        assert both[name] == single[name]


def test_tasks_do_not_change_each_other(regraft, trained, table):
    words = [word for label in reversed(LABELS[2:]) for word in ("--label", label)]
    assert regraft("train", table, *words, "--strategy", "linear-probe", "--run", "fewer").code == 0
    first, second = (read_bundle(run).head for run in (trained, Path("fewer")))
    ours = {part.name: part for part in second.parts}
    for part in first.parts[2:]:
        assert part.thresholds == ours[part.name].thresholds
        assert all(np.array_equal(array, ours[part.name].head.arrays()[n]) for n, array in part.head.arrays().items())


def test_the_bundle_serves_where_nothing_else_is(trained, photos, tmp_path):
    some = sorted(photos.rglob("*.jpg"))[::9]
    before = package.load(trained).predict(some)
    moved = shutil.move(str(trained / "bundle"), str(tmp_path / "elsewhere"))
    shutil.rmtree(trained)
    model = package.load(moved)
    after = model.predict(some)
    assert [answer.tasks for answer in before] == [answer.tasks for answer in after]
    assert list(after[0].tasks) == NAMES
    assert after[0].tasks["tags"].kind == "multilabel"
    assert model.classes[:4] == ("species=kind_0", "species=kind_1", "species=kind_2", "shade=dark")
    assert [part.name for part in model.tasks] == NAMES


def test_a_run_can_be_made_again_from_its_own_manifest(regraft, trained):
    said = regraft("train", trained / "manifest.csv", *WORDS, "--strategy", "linear-probe", "--run", "again")
    assert said.code == 0, said.err
    both = [load_file(run / "bundle" / "head.safetensors") for run in (trained, Path("again"))]
    assert all(np.array_equal(array, both[1][name]) for name, array in both[0].items())
    hashes = [json.loads((run / "config.json").read_text())["manifest_sha256"] for run in (trained, Path("again"))]
    assert hashes[0] == hashes[1]


def test_one_number_alone_is_a_task_and_splits_are_made(regraft, table):
    rows = [{"path": row["path"], "size": row["size"]} for row in read_csv(table)]
    with Path("sizes.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["path", "size"])
        writer.writeheader()
        writer.writerows(rows)
    said = regraft("train", "sizes.csv", "--label", "size:regression", "--strategy", "knn", "--run", "sizes")
    assert said.code == 0, said.err
    assert "strata by size of 'size'" in said.err
    assert "several" not in said.err
    whole = regraft("evaluate", "sizes", "--split", "all", "--run", "all")
    assert "size: mean absolute error" in whole.err
    assert max(map(len, (said.err + whole.err).splitlines())) < 200
    assert all(len(line) <= 100 for line in said.err.splitlines() if line.startswith(("test score", "size: ", "  ")))
    metrics = json.loads(Path("sizes/metrics.json").read_text())
    assert metrics["images"] == 41
    assert metrics["tasks"]["size"]["value"] > 0.5


def test_features_from_a_file_give_the_same_model(regraft, trained, table, photos):
    assert regraft("embed", photos, "-o", "features.npz").code == 0
    said = regraft(
        "train", table, *WORDS, "--features", "features.npz", "--strategy", "linear-probe", "--run", "from_file"
    )
    assert said.code == 0, said.err
    both = [load_file(run / "bundle" / "head.safetensors") for run in (trained, Path("from_file"))]
    assert all(np.array_equal(array, both[1][name]) for name, array in both[0].items())
    again = regraft("evaluate", "from_file", table, "--features", "features.npz", "--run", "again")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photos", "--label", "a", "--label", "b"], "photos is not a table"),
        (["styles.csv", *WORDS, "--strategy", "svm"], "svm tells classes only, and 'tags' is a multilabel task"),
        (["styles.csv", *WORDS, "--strategy", "knn"], "'tags' is a multilabel task: use linear-probe"),
        (["styles.csv", *WORDS, "--abstain-at", "0.9"], "--abstain-at is for a single column of classes"),
        (["styles.csv", "--label", "species", "--label", "colour"], "no column 'colour'"),
        (["styles.csv", "--label", "species:regression"], "is no number"),
        (["styles.csv", "--label", "size:number"], "no kind of task 'number'"),
        (["styles.csv", "--label", "species", "--label", "species"], "Name each task once"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_left(regraft, table, words, said):
    answer = regraft("train", *words, "--run", "nothing")
    assert answer.code == 2
    assert said in answer.err
    assert not Path("nothing").exists()


def test_tasks_that_nothing_can_be_learnt_of_are_refused(regraft, table):
    rows = table.read_text().splitlines()
    odd = [f"{row},{'same,number' if n == 0 else f'7,{n}'}" for n, row in enumerate(rows)]
    table.with_name("odd.csv").write_text("\n".join(odd) + "\n")
    for words, told in (
        (("--label", "same:regression"), "'same' has the same number in all 24 training images"),
        (("--label", "x,same:regression"), "'same' has the same number in all 24 training images"),
        (("--label", "number", "--label", "species"), "Say --label number:regression if they are numbers"),
    ):
        answer = regraft("train", "odd.csv", *words, "--run", "nothing")
        assert answer.code == 2, answer.err
        assert told in answer.err
        assert not Path("nothing").exists()


def test_every_task_of_classes_can_be_calibrated(regraft, table):
    said = regraft(
        "train", table, "--label", "species", "--label", "size:regression", "--calibrate", "isotonic", "--run", "steps"
    )
    assert said.code == 0, said.err
    assert "species: probabilities calibrated on" in said.err
    species, size = read_bundle(Path("steps")).head.parts
    assert species.head.name == "calibrated"
    assert size.head.name == "ridge"


def test_a_number_is_learnt_from_all_images_of_which_it_is_known(regraft, table):
    rows = read_csv(table)
    for n, row in enumerate(rows):
        row["x"], row["y"] = ("", row["y"]) if n % 3 == 0 else (row["x"], "" if n % 3 == 1 else row["y"])
    with Path("holes.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    said = regraft("train", "holes.csv", "--label", "x,y:regression", "--label", "x:regression", "--run", "holes")
    assert said.code == 0, said.err
    assert "not used" not in said.err
    tasks = json.loads(Path("holes/metrics.json").read_text())["tasks"]
    alone = tasks["x"]["numbers"][0]
    assert tasks["x,y"]["numbers"][0] == {
        **alone,
        **{k: pytest.approx(v) for k, v in alone.items() if k in {"mae", "rmse", "r2"}},
        "intervals": tasks["x,y"]["numbers"][0]["intervals"],
    }


def test_a_pattern_never_means_the_column_of_paths(regraft, table):
    answer = regraft("train", table, "--label", "p*:multilabel", "--run", "nothing")
    assert answer.code == 2
    assert "path" not in answer.err.split("Its columns")[0].replace("no path column", "WRONG")
