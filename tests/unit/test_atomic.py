"""Complete or absent: files and folders, also when the writer dies."""

import os
import signal
import subprocess
import sys
import time

import pytest

from regraft.atomic import atomic_file, atomic_folder, remove_leftovers, write_text
from regraft.errors import RunExists


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    write_text(target, "one\n")
    assert target.read_bytes() == b"one\n"
    with pytest.raises(ValueError, match="stop"), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise ValueError("stop")
    assert target.read_bytes() == b"one\n"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_temporary_files_keep_the_ending(tmp_path):
    with atomic_file(tmp_path / "x.parquet") as temporary:
        assert temporary.suffix == ".parquet"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"")


def test_text_of_any_bytes(tmp_path):
    write_text(tmp_path / "t", os.fsdecode(b"\xff\xe5\x9b\xbe"))
    assert (tmp_path / "t").read_bytes() == b"\xff\xe5\x9b\xbe"


def test_folders_are_never_replaced_unasked(tmp_path):
    target = tmp_path / "run"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(RunExists, match="--overwrite"), atomic_folder(target):
        pytest.fail("must not begin")
    with atomic_folder(target, overwrite=True) as folder:
        (folder / "b").write_text("2")
    assert [p.name for p in target.iterdir()] == ["b"]
    with pytest.raises(ValueError, match="stop"), atomic_folder(target, overwrite=True):
        raise ValueError("stop")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path):
    target = tmp_path / "run"
    with pytest.raises(RunExists), atomic_folder(target) as folder:
        (folder / "mine").write_text("1")
        target.mkdir()
        (target / "theirs").write_text("2")
    assert [p.name for p in target.iterdir()] == ["theirs"]


def test_leftovers_of_living_and_foreign_processes_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with atomic_file(tmp_path / "x") as living:
        living.write_text("")
        foreign = tmp_path / f".regraft-tmp~elsewhere~{dead.pid}~0~x"
        foreign.write_text("")
        gone = tmp_path / living.name.replace(f"~{os.getpid()}~", f"~{dead.pid}~")
        gone.mkdir()
        assert remove_leftovers(tmp_path) == [gone]
        assert living.exists()
    assert foreign.exists()


WRITER = """
import sys
from pathlib import Path
from regraft.atomic import atomic_folder
for n in range(100_000):
    with atomic_folder(Path(sys.argv[1]) / "run", overwrite=n > 0) as folder:
        for name in "abcdef":
            (folder / name).write_text(str(n) * 2000)
    print(n, flush=True)
"""


def test_killed_writers_leave_whole_folders(tmp_path):
    """Twelve kills at random moments of overwriting: a folder is whole, or (between two renames) absent."""
    for n in range(12):
        place = tmp_path / str(n)
        place.mkdir()
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(place)], stdout=subprocess.PIPE, text=True)
        writer.stdout.readline()
        time.sleep(0.003 * n)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        if (place / "run").exists():
            contents = {p.name: p.read_text() for p in (place / "run").iterdir()}
            assert sorted(contents) == list("abcdef")
            assert len(set(contents.values())) == 1
        with atomic_folder(place / "run", overwrite=True):
            pass
        assert [p.name for p in place.iterdir()] == ["run"]
