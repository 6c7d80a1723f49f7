"""Pairs of two dates given to the other verbs: a table of them, or a refusal that says what is for pairs."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REGRAFT = Path(sys.executable).parent / "regraft"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pairs"
    random = np.random.default_rng(0)
    for part in ("A", "B", "label"):
        (folder / part).mkdir(parents=True)
    for number in range(8):
        mask = np.zeros((32, 32), np.uint8)
        mask[8:16, 8:16] = 255
        for part in ("A", "B"):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / f"p{number}.png")
        Image.fromarray(mask).save(folder / "label" / f"p{number}.png")
    return folder


def run(*words):
    return subprocess.run([REGRAFT, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["check", "compare", "rank", "lr-find", "embed"])
def test_verbs_that_look_at_one_image_refuse_pairs(pairs, tmp_path, verb):
    more = ["-o", tmp_path / "features.npz"] if verb == "embed" else []
    done = run(verb, pairs, *more)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{verb} looks at one image at a time" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_table_of_pairs(pairs, tmp_path):
    target = tmp_path / "pairs.csv"
    done = run("manifest", pairs, "-o", target, "--split")
    assert done.returncode == 0, done.stderr
    assert "8 pairs, train 7, val 1" in done.stdout
    with target.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["name"] for row in rows] == [f"p{number}.png" for number in range(8)]
    assert all(Path(row[column]).is_file() for row in rows for column in ("before", "after", "label"))
    again = run("manifest", pairs, "-o", target)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert run("manifest", pairs, "-o", tmp_path / "pairs.tsv").returncode == 2
    assert "--take" in run("manifest", pairs, "-o", tmp_path / "x.csv", "--take", "1,1,1").stderr


def test_two_classes_called_a_and_b_are_no_pairs(tmp_path):
    random = np.random.default_rng(1)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    done = run("manifest", tmp_path / "data", "-o", tmp_path / "out.csv")
    assert "6 images, 2 classes" in done.stdout, done.stderr
