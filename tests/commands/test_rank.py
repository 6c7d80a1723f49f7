"""`rank` from the command line."""

import csv
import json
from pathlib import Path

import pytest

import regraft as package

PAIR = "efficientnet_lite0,efficientnet_lite1,efficientnet_lite0+efficientnet_lite1"


def test_rank_prints_a_table_and_a_recommendation(regraft, photos):
    said = regraft("rank", photos, "--backbones", f"{PAIR},file:absent.pth", "-o", "ranks.json")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "file:absent.pth" in said.out
    values = json.loads(Path("ranks.json").read_text())
    assert [row["rank"] for row in values["backbones"]] == [1, 2, 3]
    assert {row["name"] for row in values["backbones"]} == set(PAIR.split(","))
    assert values["recommended"] in PAIR.split(",")
    rows = {row["name"]: row for row in values["backbones"]}
    both = rows["efficientnet_lite0+efficientnet_lite1"]
    alone = rows["efficientnet_lite0"], rows["efficientnet_lite1"]
    assert both["dims"] == 2560
    assert both["seconds"] == pytest.approx(sum(row["seconds"] for row in alone))
    assert both["leep"] is None
    assert all(row["leep"] < 0 and row["nce"] <= 0 for row in alone)
    assert all(f"{row['log_loss']:.3f}" in said.out for row in rows.values())
    last = " ".join(lines[next(n for n, line in enumerate(lines) if line.startswith("Recommended")) :])
    assert last == values["sentence"]
    assert not Path("runs").exists()


def test_rank_writes_nothing_over_a_file_of_the_users(regraft, photos):
    Path("ranks.csv").write_text("mine")
    said = regraft("rank", photos, "--backbones", "efficientnet_lite0", "-o", "ranks.csv")
    assert said.code == 2
    assert "--overwrite" in said.err
    assert Path("ranks.csv").read_text() == "mine"
    assert regraft("rank", photos, "--backbones", "efficientnet_lite0", "-o", "ranks.csv", "--overwrite").code == 0
    with Path("ranks.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["efficientnet_lite0"]


def test_rank_says_what_is_wrong_in_a_line(regraft, photos):
    for words, expected in (
        (["--backbones", "efficientnet_lite0,nonsense"], "There is no backbone 'nonsense'"),
        (["--backbones", ","], "separated by commas"),
        (["-o", "ranks.txt"], ".csv or .json"),
        (["--seed", "-1"], "seed is -1"),
    ):
        said = regraft("rank", photos, *words)
        assert said.code == 2
        assert expected in said.err.splitlines()[-1]


def test_rank_is_public(photos):
    ranking = package.rank(photos, backbones=["efficientnet_lite0"])
    assert ranking.sentence.startswith("Recommended: efficientnet_lite0, the only one")
