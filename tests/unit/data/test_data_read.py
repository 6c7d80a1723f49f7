import sys

import pytest

from regraft.data.read import read_data
from regraft.errors import DataError, MissingExtra, OptionError


def test_each_layout_finds_its_reader(tree, png):
    folders = tree("c/1.png", "d/2.png", folder="folders")
    splits = tree("train/c/1.png", "val/c/2.png", folder="splits")
    flat = tree("1.png", "2.png", folder="flat")
    meta = tree(
        "1.png",
        folder="meta",
        **{"meta_train.txt": b"5|1.png\n", "cls_mapper.json": b'{"id2cls": {"5": "c"}, "cls2id": {"c": 5}}'},
    )
    stanford = tree(
        "JPEGImages/c_1.png",
        folder="stanford",
        **{"ImageSplits/actions.txt": b"n\tc\nc\t1\n", "ImageSplits/c_train.txt": b"c_1.png\n"},
    )
    table = tree("1.png", folder="table", **{"t.csv": b"path,label\n1.png,c\n", "t.txt": b"path\tlabel\n1.png\tc\n"})
    for source, labels, given in [
        (folders, ["c", "d"], {}),
        (splits, ["c", "c"], {"train": 1, "val": 1}),
        (flat, [None, None], {}),
        (meta, ["c"], {"train": 1}),
        (meta / "meta_train.txt", ["c"], {"train": 1}),
        (stanford, ["c"], {"train": 1}),
        (table / "t.csv", ["c"], {}),
        (table / "t.txt", ["c"], {}),
        (flat / "1.png", [None], {}),
    ]:
        manifest = read_data(str(source))
        assert [item.label for item in manifest.items] == labels, source
        assert manifest.split_sizes() == given, source
        assert manifest.source == str(source)
        assert manifest.split_note == ("as given" if given else "none given")
        assert read_data(source) == manifest


def test_take(tree):
    root = tree(*(f"c/{n}.png" for n in range(5)))
    assert read_data(root, take=(2, 1, 1)).split_sizes() == {"train": 2, "val": 1, "test": 1}
    images = tree(
        *(f"JPEGImages/c_{n}.png" for n in range(5)), folder="stanford", **{"ImageSplits/actions.txt": b"c\t5\n"}
    )
    assert read_data(images, take=(1, 1, 3)).split_sizes() == {"train": 1, "val": 1, "test": 3}
    with pytest.raises(DataError, match="--take"):
        read_data(images)


def test_what_is_not_there(tree, tmp_path):
    tree("cats/1.png", folder="animals")
    with pytest.raises(DataError, match=r"animal does not exist: there is no 'animal'.* has 'animals'\."):
        read_data(tmp_path / "animal")
    with pytest.raises(DataError, match=r"there is no 'anymals' in .* has 'animals'\."):
        read_data(tmp_path / "anymals" / "cats" / "more")
    with pytest.raises(DataError, match="Expected a folder"):
        read_data(tmp_path / "zzz")
    with pytest.raises(DataError, match="No data is named"):
        read_data("")
    with pytest.raises(DataError, match="does not exist"):
        read_data("a\0b")
    with pytest.raises(DataError, match="does not exist"):
        read_data("x" * 5000)


def test_a_closed_folder(tree, monkeypatch):
    root = tree("c/1.png")

    def closed(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", closed)
    monkeypatch.setattr("os.listdir", closed)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        read_data(root)


def test_a_file_of_no_form(tree):
    root = tree(**{"notes.txt": b"hello", "data.xlsx": b"PK\x03\x04"})
    for name in ("notes.txt", "data.xlsx"):
        with pytest.raises(DataError, match="file of no form"):
            read_data(root / name)


def test_options_that_a_source_has_no_use_for(tree):
    root = tree("c/1.png")
    with pytest.raises(OptionError, match=r"no use for --label and --path-column\. Leave them out"):
        read_data(root, label_column="x", path_column="y")
    with pytest.raises(OptionError, match=r"no use for --root\. Leave it out"):
        read_data(root, root=root)
    with pytest.raises(OptionError, match="--root and --split-column and --group-column"):
        read_data(root, root=root, split_column="x", group_column="")
    lists = tree(
        "1.png",
        folder="lists",
        **{"meta_train.txt": b"5|1.png\n", "cls_mapper.json": b'{"id2cls": {"5": "c"}, "cls2id": {"c": 5}}'},
    )
    assert len(read_data(lists, root=lists)) == 1
    with pytest.raises(OptionError, match="--label"):
        read_data(lists, root=lists, label_column="x")


def test_hints_come_through(tree):
    nested = tree("insects/ants/1.png", "insects/bees/2.png")
    assert len(read_data(nested).hints) == len(read_data(nested, take=(1, 0, 0)).hints) == 1


def test_sample():
    pytest.importorskip("conformal_clip_data")
    manifest = read_data("sample:textile")
    assert manifest.class_sizes() == {"global": 500, "local": 500, "nominal": 1000}
    assert manifest.skipped == ()
    assert manifest.source == "sample:textile"


def test_samples_that_are_not_there(monkeypatch):
    with pytest.raises(DataError, match=r"no sample 'silk'.*sample:textile"):
        read_data("sample:silk")
    monkeypatch.setitem(sys.modules, "conformal_clip_data", None)
    with pytest.raises(MissingExtra, match=r"regraft\[samples\]"):
        read_data("sample:textile")
