"""Run verbs as a user does, in a folder of their own."""

import shutil
import sys
from dataclasses import dataclass

import pytest

from odd_images import simple_folder
from regraft.cli.main import main


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REGRAFT_DEBUG", raising=False)


@pytest.fixture
def regraft(capsys, monkeypatch):
    """Call the command line: `regraft("train", folder)` gives exit code, output and errors."""

    def call(*words):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["regraft", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert "bug in Regraft" not in captured.err
        return Said(int(stopped.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def _photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "photos"
    simple_folder(folder, classes=3, per_class=14)
    return folder


@pytest.fixture
def photos(_photos, tmp_path):
    """42 small images in three classes that are easy to tell apart; without splits."""
    shutil.copytree(_photos, tmp_path / "photos")
    return tmp_path / "photos"
