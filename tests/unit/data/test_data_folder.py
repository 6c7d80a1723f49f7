# ruff: noqa: PTH100, PTH113, PTH118 - undecodable names and unresolved links are the subject here
import inspect
import os
import sys
import time
from pathlib import Path

import pytest

from regraft.data.folder import read_folder
from regraft.errors import DataError


def rows(manifest):
    """Items as (name below the root, label, split)."""
    root = os.path.abspath(manifest.source)
    return [(os.path.relpath(i.path, root).replace(os.sep, "/"), i.label, i.split) for i in manifest.items]


def reasons(manifest):
    root = os.path.abspath(manifest.source)
    return {os.path.relpath(s.path, root).replace(os.sep, "/"): s.reason for s in manifest.skipped}


def test_class_folders(tree):
    root = tree("cats/b.png", "cats/a.png", "dogs/deep/er/c.png")
    manifest = read_folder(root)
    assert rows(manifest) == [
        ("cats/a.png", "cats", None),
        ("cats/b.png", "cats", None),
        ("dogs/deep/er/c.png", "dogs", None),
    ]
    assert manifest.classes == ("cats", "dogs")
    assert manifest.skipped == ()
    assert all(Path(item.path).is_absolute() and item.key is None for item in manifest.items)


def test_split_folders_of_every_name(tree):
    root = tree("TRAIN/x/1.png", "Validation/x/2.png", "testing/y/3.png")
    manifest = read_folder(root)
    assert rows(manifest) == [
        ("TRAIN/x/1.png", "x", "train"),
        ("Validation/x/2.png", "x", "val"),
        ("testing/y/3.png", "y", "test"),
    ]
    assert manifest.classes == ("x", "y")
    assert manifest.split_note == "as given"


def test_two_folders_of_one_split_are_joined_and_it_is_said(tree):
    manifest = read_folder(tree("train/x/1.png", "dev/x/2.png", "valid/x/3.png"))
    assert manifest.split_sizes() == {"train": 1, "val": 2}
    assert manifest.split_note == "as given (val is dev and valid)"


def test_beside_split_folders_nothing_counts(tree):
    root = tree("train/x/1.png", "val/x/2.png", "extra/x/3.png", "4.png", "test/5.png", "train/6.png")
    manifest = read_folder(root)
    assert len(manifest) == 2
    assert reasons(manifest) == {
        "4.png": "lies beside the split folders",
        "extra": "folder beside the split folders",
        "train/6.png": "lies directly in a split folder, so its class is not known",
        "test/5.png": "lies directly in a split folder, so its class is not known",
    }


def test_a_class_called_test_is_a_class(tree):
    manifest = read_folder(tree("test/1.png", "bus/2.png"))
    assert manifest.classes == ("bus", "test")
    assert manifest.split_sizes() == {}


def test_flat_split_folders_give_splits_without_labels(tree):
    manifest = read_folder(tree("val/2.png", "train/1.png"))
    assert rows(manifest) == [("train/1.png", None, "train"), ("val/2.png", None, "val")]
    assert manifest.classes == ()


def test_a_flat_folder_has_no_labels(tree):
    manifest = read_folder(tree("10.png", "9.png"))
    assert rows(manifest) == [("9.png", None, None), ("10.png", None, None)]


def test_images_beside_class_folders_are_skipped(tree):
    manifest = read_folder(tree("cats/1.png", "2.png"))
    assert len(manifest) == 1
    assert reasons(manifest) == {"2.png": "lies beside the class folders, so its class is not known"}


def test_odd_entries_are_skipped_and_content_decides(tree, png):
    root = tree(
        "cats/a.png", ".git/b.png", "cats/.ipynb_checkpoints/c.png", "__MACOSX/cats/._a.png", "cats/._d.png",
        **{
            "cats/no_ending": png(1), "cats/wrong.txt": png(2), "cats/empty.jpg": b"", "cats/text.JPG": b"no",
            "cats/notes.txt": b"hello", "cats/Thumbs.db": b"\xd0\xcf", "cats/.DS_Store": b"", "labels.csv": b"path\n",
            "nothing/readme.md": b"#", "cats/void": b"",
        },
    )  # fmt: skip
    (root / "hollow" / "inside").mkdir(parents=True)
    manifest = read_folder(root)
    assert manifest.classes == ("cats",)
    assert [name for name, _, _ in rows(manifest)] == [
        "cats/a.png", "cats/empty.jpg", "cats/no_ending", "cats/text.JPG", "cats/wrong.txt",
    ]  # fmt: skip
    assert reasons(manifest) == {
        ".git": "hidden",
        "__MACOSX": "belongs to the operating system, not to the data",
        "cats/.DS_Store": "hidden",
        "cats/.ipynb_checkpoints": "hidden",
        "cats/._d.png": "hidden",
        "cats/Thumbs.db": "belongs to the operating system, not to the data",
        "cats/notes.txt": "not an image",
        "cats/void": "not an image (empty)",
        "hollow": "no images",
        "labels.csv": "not an image; to use this table, name it as the data",
        "nothing": "no images",
        "nothing/readme.md": "not an image",
    }


def test_empty_split_and_class_folders(tree):
    root = tree("train/x/1.png")
    (root / "val" / "x").mkdir(parents=True)
    (root / "test").mkdir()
    manifest = read_folder(root)
    assert len(manifest) == 1
    assert reasons(manifest) == {"val": "no images", "val/x": "no images", "test": "no images"}


def test_natural_order_whatever_the_file_system_says(tree, monkeypatch):
    root = tree(*(f"class{c}/{i}.png" for c in (10, 2, 1) for i in (11, 9, 100)))
    wanted = rows(read_folder(root))
    assert read_folder(root).classes == ("class1", "class2", "class10")
    assert [name for name, _, _ in wanted[:3]] == ["class1/9.png", "class1/11.png", "class1/100.png"]
    real = os.scandir

    class Backwards:
        def __init__(self, path):
            with real(path) as entries:
                self._entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self._entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert rows(read_folder(root)) == wanted


def test_links(tree):
    root = tree("cats/a.png", "dogs/b.png")
    elsewhere = tree("c.png", folder="elsewhere")
    (root / "cats" / "loop").symlink_to(root)
    (root / "cats" / "own").symlink_to(root / "cats")
    (root / "cats" / "self").symlink_to("self")
    (root / "cats" / "gone.png").symlink_to("nowhere.png")
    (root / "cats" / "linked.png").symlink_to(elsewhere / "c.png")
    (root / "owls").symlink_to(elsewhere)
    started = time.monotonic()
    manifest = read_folder(root)
    assert time.monotonic() - started < 5
    assert [name for name, _, _ in rows(manifest)] == ["cats/a.png", "cats/linked.png", "dogs/b.png", "owls/c.png"]
    found = reasons(manifest)
    assert found["cats/loop"] == found["cats/own"] == "a link to a folder that is read already"
    assert found["cats/gone.png"] == "a link to nothing"
    assert "cats/self" in found


def test_folders_that_link_to_each_other_end(tree):
    names = [f"n{i}" for i in range(12)]
    root = tree(*(f"cats/{name}/{name}.png" for name in names))
    for name in names:
        for other in names:
            if other != name:
                (root / "cats" / name / f"to_{other}").symlink_to(root / "cats" / other)
    started = time.monotonic()
    manifest = read_folder(root)
    assert time.monotonic() - started < 5
    assert len({os.path.realpath(item.path) for item in manifest.items}) == len(manifest) == 12


def test_an_unreadable_folder_is_skipped(tree, monkeypatch):
    root = tree("cats/a.png", "locked/b.png")
    real = os.scandir

    def scandir(path="."):
        # What is open already is asked for by its number, as shutil.rmtree does.
        if not isinstance(path, int) and Path(os.fsdecode(path)).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        manifest = read_folder(root)
    assert manifest.classes == ("cats",)
    assert ("locked", "folder cannot be read (Permission denied)") in [
        (Path(s.path).name, s.reason) for s in manifest.skipped
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_opened(tree):
    root = tree("cats/a.png")
    os.mkfifo(root / "cats" / "pipe")
    assert reasons(read_folder(root)) == {"cats/pipe": "not a regular file"}


def test_names_of_any_bytes(tmp_path, png):
    folder = os.path.join(os.fsencode(tmp_path), b"data", b"caf\xe9 \n\xff")
    try:
        Path(os.fsdecode(folder)).mkdir(parents=True)
        for name in (b"\xff.png", "日本 🐈.png".encode(), b"a\nb.png"):
            Path(os.fsdecode(os.path.join(folder, name))).write_bytes(png())
    except OSError:
        pytest.skip("this file system takes only names in Unicode")
    manifest = read_folder(tmp_path / "data")
    assert manifest.classes == (os.fsdecode(b"caf\xe9 \n\xff"),)
    assert sum(os.path.isfile(item.path) for item in manifest.items) == 3


def test_very_deep_folders(tree):
    root = tree("cats/a.png", f"cats/{'d/' * 300}b.png")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 120)
    try:
        manifest = read_folder(root)
    finally:
        sys.setrecursionlimit(limit)
    assert len(manifest) == 2


def test_no_folder(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png())
    with pytest.raises(DataError, match="is not a folder"):
        read_folder(tmp_path / "a.png")


def test_the_path_is_absolute_but_links_stay(tree, tmp_path, monkeypatch):
    tree("cats/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert read_folder("link").items[0].path == str(tmp_path / "link" / "cats" / "a.png")
    assert read_folder("link").source == "link"
