"""Stopped anywhere, the same call goes on and ends with the same bytes."""

import contextlib
import signal
import subprocess
import sys
import textwrap

import filelock
import numpy as np
import pytest

from regraft.errors import CannotWrite, DataError, OptionError, RunExists
from regraft.inference.change import products, work
from regraft.inference.change.scene import predict_scene

rasterio = pytest.importorskip("rasterio")
OPTIONS = {"identity": "a network", "tile": 32, "overlap": 12, "batch": 3}


@pytest.fixture
def scene(geotiff, noise):
    return [geotiff(f"{name}.tif", noise(2, 200, 90, seed=seed)) for seed, name in enumerate("ab")]


def smooth(pairs):
    """A network whose answers depend on where in the tile a pixel lies, so that blending is not trivial."""
    rows, columns = np.mgrid[:32, :32].astype(np.float32) / 31
    level = np.abs(pairs[:, 0].astype(np.float32) - pairs[:, 1]).mean(axis=-1) / 250
    changed = (level + rows + columns) / 3
    return np.stack([1 - changed, changed], axis=1)


def stopping(after):
    """The same network, which is interrupted after so many batches."""
    left = iter(range(after))

    def ask(pairs):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return smooth(pairs)

    return ask


@contextlib.contextmanager
def largest_file(size):
    """Let no file grow above a number of bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder, name="c"):
    return [(folder / f"{name}{kind}.tif").read_bytes() for kind in ("", "-probability")]


@pytest.mark.parametrize("batches", [1, 3, 9, 19])
def test_an_interrupted_scene_goes_on_to_the_same_bytes(scene, tmp_path, batches):
    predict_scene(*scene, tmp_path / "whole.tif", smooth, **OPTIONS)
    told, done = [], []
    with pytest.raises(KeyboardInterrupt):
        predict_scene(*scene, tmp_path / "c.tif", stopping(batches), **OPTIONS, say=told.append)
    kept = (tmp_path / "c.tif.regraft-part").exists()
    assert kept == (batches >= 2)  # where no row was done, nothing is kept
    assert any("the same command goes on" in line for line in told) == kept
    assert not (tmp_path / "c.tif").exists()
    predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS, say=told.append, progress=lambda *at: done.append(at))
    assert any("going on after" in line for line in told) == kept
    assert (done[0][0] > 0) == kept
    assert done[-1][0] == done[-1][1]
    assert contents(tmp_path) == contents(tmp_path, "whole")
    assert not (tmp_path / "c.tif.regraft-part").exists()


def test_a_killed_process_goes_on_to_the_same_bytes(scene, tmp_path):
    predict_scene(*scene, tmp_path / "whole.tif", smooth, **OPTIONS)
    code = f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(tmp_path)!r})
        from network import smooth
        from regraft.inference.change.scene import predict_scene
        asked = 0
        def ask(pairs):
            global asked
            asked += 1
            if asked == 11:
                os.kill(os.getpid(), signal.SIGKILL)
            return smooth(pairs)
        predict_scene({str(scene[0])!r}, {str(scene[1])!r}, Path({str(tmp_path / "c.tif")!r}), ask, **{OPTIONS!r})
    """
    source = textwrap.dedent(__import__("inspect").getsource(smooth))
    (tmp_path / "network.py").write_text(f"import numpy as np\n{source}")
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert killed.returncode == -signal.SIGKILL
    told = []
    predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS, say=told.append)
    assert any("going on after" in line for line in told)
    assert contents(tmp_path) == contents(tmp_path, "whole")


@pytest.mark.parametrize("number", range(12))
def test_stopped_between_any_two_files_it_goes_on_to_the_same_bytes(scene, tmp_path, monkeypatch, number):
    """A stop just before any of the renames that make a file complete."""
    predict_scene(*scene, tmp_path / "whole.tif", smooth, **OPTIONS)
    real, count = work.atomic_file, iter(range(number))

    @contextlib.contextmanager
    def failing(target):
        with real(target) as temporary:
            yield temporary
            if next(count, None) is None:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work, "atomic_file", failing)
        with pytest.raises(KeyboardInterrupt):
            predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS)
    predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS)
    assert contents(tmp_path) == contents(tmp_path, "whole")


@pytest.mark.parametrize("moved", [0, 1])
def test_stopped_while_files_are_moved_it_only_moves_the_rest(scene, tmp_path, monkeypatch, moved):
    real, count = work.move, iter(range(moved))

    def failing(source, target):
        if next(count, None) is None:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(products.work, "move", failing)
        with pytest.raises(KeyboardInterrupt):
            predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS)
    assert not (tmp_path / "c.tif").exists()  # the mask comes last
    result = predict_scene(*scene, tmp_path / "c.tif", None, **OPTIONS)  # there is nothing to ask a network
    assert all(path.exists() for path in result.paths)
    assert 0 < result.changed < 1


@pytest.mark.parametrize(
    ("change", "told"), [({"identity": "another"}, "model"), ({"tile": 40}, "tile"), ({}, "after")]
)
def test_work_on_something_else_is_begun_anew(scene, tmp_path, noise, geotiff, change, told, segment):
    with pytest.raises(KeyboardInterrupt):
        predict_scene(*scene, tmp_path / "c.tif", stopping(9), **OPTIONS)
    if not change:
        geotiff("b.tif", noise(2, 200, 90, seed=7))
    lines = []
    predict_scene(*scene, tmp_path / "c.tif", segment, **{**OPTIONS, **change}, say=lines.append)
    assert any(line.endswith(f"is of another {told}: starting anew") for line in lines)
    predict_scene(*scene, tmp_path / "whole.tif", segment, **{**OPTIONS, **change})
    assert contents(tmp_path) == contents(tmp_path, "whole")


def test_unfinished_work_survives_a_call_that_may_not_write(scene, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict_scene(*scene, tmp_path / "c.tif", stopping(9), **OPTIONS)
    (tmp_path / "c.tif").write_text("mine")
    with pytest.raises(RunExists, match="exists already"):
        predict_scene(*scene, tmp_path / "c.tif", smooth, **{**OPTIONS, "identity": "another"})
    assert (tmp_path / "c.tif").read_text() == "mine"
    assert (tmp_path / "c.tif.regraft-part" / "stripe-00002.npz").exists()


def test_two_processes_do_not_work_on_one_scene(scene, tmp_path):
    folder = tmp_path / "c.tif.regraft-part"
    folder.mkdir()
    with filelock.FileLock(folder / ".lock"), pytest.raises(RunExists, match="is in use: another process"):
        predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS)


def test_what_regraft_did_not_write_is_left_alone(scene, tmp_path):
    folder = tmp_path / "c.tif.regraft-part"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"holds thesis\.txt"):
        predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_damaged_work_is_told(scene, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict_scene(*scene, tmp_path / "c.tif", stopping(9), **OPTIONS)
    next((tmp_path / "c.tif.regraft-part").glob("carry-*.npz")).write_bytes(b"PK broken")
    with pytest.raises(DataError, match=r"carry-00003\.npz is damaged: remove the folder"):
        predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS)


def test_a_full_disk_is_a_sentence_and_nothing_is_lost(scene, tmp_path):
    predict_scene(*scene, tmp_path / "whole.tif", smooth, **OPTIONS)
    # Rows fit in, the map of probabilities does not.
    with largest_file(45_000), pytest.raises(CannotWrite, match=r"out-probability\.tif cannot be written"):
        predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS)
    assert not list(tmp_path.glob("c*.tif"))
    told = []
    predict_scene(*scene, tmp_path / "c.tif", smooth, **OPTIONS, say=told.append)
    assert contents(tmp_path) == contents(tmp_path, "whole")
    assert any("going on after" in line for line in told)
