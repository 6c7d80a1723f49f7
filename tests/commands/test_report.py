"""`regraft report`: the numbers of a run and its page, for any kind of run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from regraft.errors import BundleError, OptionError, RunExists
from regraft.recipes.report import report

REGRAFT = Path(sys.executable).parent / "regraft"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    numbers = {"f1": 0.81, "recall": None, "intervals": {"f1": [0.7, 0.9], "recall": [None, None]}}
    (folder / "metrics.json").write_text(json.dumps(numbers), "utf-8")
    (folder / "report.html").write_text("<p>page</p>", "utf-8")
    return folder


def test_numbers_and_page_are_told(run):
    said = subprocess.run([REGRAFT, "report", run], capture_output=True, text=True, check=True).stdout
    assert "f1                   0.8100  (95 % interval 0.7000 to 0.9000)" in said
    assert "recall" not in said
    assert said.splitlines()[-1] == f"report  {run / 'report.html'}"


def test_a_copy_of_the_page(run, tmp_path):
    target = tmp_path / "page.html"
    assert report(run, output=target).page == target
    assert target.read_text("utf-8") == "<p>page</p>"
    with pytest.raises(RunExists, match="--overwrite"):
        report(run, output=target)
    report(run, output=target, overwrite=True)
    with pytest.raises(OptionError, match=r"\.html"):
        report(run, output=tmp_path / "page.pdf")


def test_what_is_no_run(run, tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        report(tmp_path / "none")
    with pytest.raises(BundleError, match="is no run"):
        report(tmp_path)
    (tmp_path / "half.training").mkdir()
    with pytest.raises(BundleError, match="--resume"):
        report(tmp_path / "half")
    (run / "metrics.json").write_text("{", "utf-8")
    with pytest.raises(BundleError, match="cannot be read"):
        report(run)
    told = subprocess.run([REGRAFT, "report", tmp_path / "none"], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
