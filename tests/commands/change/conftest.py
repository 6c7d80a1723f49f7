"""Tiny change pairs, and one model trained on them that many tests use."""

import shutil

import pytest

import regraft as package
from change_pairs import write_pairs


@pytest.fixture(autouse=True)
def _one(one_thread):
    pass


@pytest.fixture(scope="session")
def town(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("change") / "town")


@pytest.fixture
def pairs(town, tmp_path):
    """A copy of 12 pairs of 64x64 with lists: 8 to learn from, 4 to validate."""
    shutil.copytree(town, tmp_path / "town")
    return tmp_path / "town"


@pytest.fixture(scope="session")
def trained(town, tmp_path_factory):
    """The folder of a run: two epochs of bit on the pairs. Not to be changed."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
        run = package.train(town, size=64, epochs=2, batch=4, run=tmp_path_factory.mktemp("run") / "town-run")
    torch.set_num_threads(before)
    return run.folder
