"""`regraft compare`, end to end on tiny real files."""

import csv
import json
from pathlib import Path

import pytest

import regraft as package
from odd_images import simple_folder

CHEAP = "nearest-mean,naive-bayes,knn"


def rows_of(folder):
    with Path(folder, "leaderboard.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_comparison_leaves_a_run_with_a_leaderboard(regraft, photos):
    said = regraft("compare", photos, "--backbones", "efficientnet_lite0", "--strategies", CHEAP, "--folds", "3x2")
    assert said.code == 0, said.err
    (run,) = Path("runs").iterdir()
    assert run.name == "photos-compare"
    rows = rows_of(run)
    content = json.loads((run / "leaderboard.json").read_text())
    assert {row["strategy"] for row in rows} == set(CHEAP.split(","))
    means = [float(row["mean"]) for row in rows]
    assert means == sorted(means, reverse=True)
    (chosen,) = (row for row in rows if row["recommended"] == "True")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["strategy"] == chosen["strategy"]
    assert metrics["split"] == "test"
    assert content["recommended"] == chosen["name"]
    assert content["images"] == (run / "manifest.csv").read_text().count(",train,")
    lines = said.out.splitlines()
    assert max(map(len, lines[:-2])) <= 100
    assert " ".join(content["sentence"].split())[1:] in " ".join(said.out.split())
    assert str(run / "report.html") in said.out
    report = (run / "report.html").read_text()
    assert 'id="leaderboard"' in report
    assert package.load(run).predict([next(photos.rglob("*.jpg"))])


def test_the_same_comparison_gives_the_same_scores_and_the_winner_is_what_train_leaves(regraft, photos):
    words = ("--backbones", "efficientnet_lite0", "--strategies", "nearest-mean", "--folds", "3x1")
    for name in ("a", "b"):
        assert regraft("compare", photos, *words, "--run", name).code == 0
    splits = [[row[key] for key in row if key.startswith("split_")] for name in ("a", "b") for row in rows_of(name)]
    assert splits[0] == splits[1]
    assert regraft("train", photos, "--strategy", "nearest-mean", "--run", "t").code == 0
    assert Path("a/predictions.csv").read_bytes() == Path("t/predictions.csv").read_bytes()


@pytest.mark.nightly
def test_nested_budget_and_two_backbones_side_by_side(regraft, photos):
    words = ("--strategies", "nearest-mean,knn", "--folds", "3x1", "--nested", "--budget", "10m", "--run", "r")
    said = regraft("compare", photos, "--backbones", "efficientnet_lite0,efficientnet_lite0+efficientnet_lite1", *words)
    if "not installed" in said.err:
        pytest.skip("efficientnet_lite1 is not installed")
    assert said.code == 0, said.err
    assert {row["backbone"] for row in rows_of("r")} == {"efficientnet_lite0", "efficientnet_lite0+efficientnet_lite1"}
    nested = json.loads(Path("r/leaderboard.json").read_text())["optimism"]
    assert len(nested["chosen"]) == 3
    assert "Nested:" in said.out


def test_a_backbone_that_cannot_be_used_is_told_and_the_others_go_on(regraft, photos):
    words = ("--strategies", "nearest-mean", "--folds", "3x1", "--run", "r")
    said = regraft("compare", photos, "--backbones", "efficientnet_lite0,file:absent.pth", *words)
    assert said.code == 0, said.err
    assert "file:absent.pth" in said.out
    assert "file:absent.pth" in json.loads(Path("r/leaderboard.json").read_text())["failed"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--folds", "1x3"), "5x3"),
        (("--strategies", "magic"), "magic"),
        (("--strategies", "knn,,svm"), "separated by commas"),
        (("--backbones", "a,+"), "empty name"),
        (("--backbones", "efficientnet_lite0,no_such_network"), "no backbone 'no_such_network'"),
        (("--budget", "soon"), "90s"),
        (("--metric", "loss"), "loss"),
        (("--nested", "--strategies", "finetune"), "--nested"),
        (("--budget", "0.001s", "--backbones", "efficientnet_lite0"), "budget was over"),
    ],
)
def test_bad_options_are_told_in_a_sentence_and_leave_nothing(regraft, photos, words, told):
    said = regraft("compare", photos, *words)
    assert said.code == 2
    assert told in said.err + said.out
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def test_nothing_is_overwritten(regraft, photos):
    Path("mine").mkdir()
    said = regraft("compare", photos, "--run", "mine")
    assert said.code == 2
    assert "--overwrite" in said.err


@pytest.mark.nightly
def test_strategies_that_train_are_placed_beside_the_others(regraft, tmp_path):
    simple_folder(tmp_path / "few", classes=2, per_class=14)
    words = (
        "--backbones",
        "efficientnet_lite0",
        "--strategies",
        "nearest-mean,partial",
        "--folds",
        "3x3",
        "--run",
        "r",
    )
    said = regraft("compare", "few", *words)
    assert said.code == 0, said.err
    rows = {row["strategy"]: row for row in rows_of("r")}
    assert rows["partial"]["splits"] == "3"
    assert [n + 1 for n in range(9) if rows["partial"][f"split_{n + 1}"]] == [1, 4, 7]
    assert "3 seeds" in said.out
    assert not list(tmp_path.glob("*.training"))
