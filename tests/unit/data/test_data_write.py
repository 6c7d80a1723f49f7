import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from regraft.data.manifest import Item, Manifest, hash_items
from regraft.data.read import read_data
from regraft.data.splits import make_splits
from regraft.data.write import write_manifest
from regraft.errors import CannotWrite, DataError, MissingExtra, OptionError, RunExists, SplitError


def content(manifest):
    """What must survive: label, split and bytes of every image."""
    items, lost = hash_items(manifest.items)
    assert lost == []
    return Counter((item.label, item.split, item.key) for item in items)


@pytest.fixture
def data(tree):
    """Two classes of eight images with the same names in both, in splits."""
    root = tree(*(f"{c}/deep{n % 2}/{n // 2}.png" for c in ("x y", "ünï") for n in range(8)))
    return make_splits(read_data(root))


def test_round_trip_through_every_form(data, tmp_path):
    before = content(data)
    files = {item.path: Path(item.path).stat() for item in data.items}
    here = data
    for name, form in [
        ("1.csv", None), ("meta", "meta"), ("links", "folders"), ("2.csv", None), ("3.tsv", None),
        ("copies", "folders"), ("4.parquet", None), ("5.CSV", None),
    ]:  # fmt: skip
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
        write_manifest(here, tmp_path / "out" / name, form=form, copy=name == "copies")
        here = read_data(tmp_path / "out" / name)
        assert content(here) == before
        assert set(here.classes) == set(data.classes)
        assert here.skipped == ()
    assert {path: Path(path).stat() for path in files} == files
    assert not list((tmp_path / "out").glob(".regraft*"))


def test_names_that_are_not_unicode_survive(tmp_path, png):
    root = tmp_path / "data" / os.fsdecode(b"caf\xe9")
    try:
        root.mkdir(parents=True)
        for number in range(4):
            (root / os.fsdecode(b"\xff%d\r\n.png" % number)).write_bytes(png(number))
    except OSError:
        pytest.skip("this file system takes only names in Unicode")
    manifest = make_splits(read_data(tmp_path / "data"))
    before = content(manifest)
    for name, form in [("m.csv", None), ("m.tsv", None), ("folders", "folders")]:
        write_manifest(manifest, tmp_path / name, form=form)
        assert content(read_data(tmp_path / name)) == before
    copies = tuple(replace(item, path=item.path.replace("\r\n", "")) for item in manifest.items)
    for old, new in zip(manifest.items, copies, strict=True):
        Path(new.path).write_bytes(Path(old.path).read_bytes())
    write_manifest(replace(manifest, items=copies), tmp_path / "lists", form="meta")
    assert content(read_data(tmp_path / "lists")) == before


def test_tables_name_files_below_them_relatively(data, tmp_path):
    write_manifest(data, tmp_path / "data" / "m.csv")
    write_manifest(data, tmp_path / "far" / "m.csv")
    near = (tmp_path / "data" / "m.csv").read_text("utf-8")
    far = (tmp_path / "far" / "m.csv").read_text("utf-8")
    assert str(tmp_path) not in near
    assert "\nx y/deep0/0.png," in near
    assert far.count(f"\n{tmp_path}") == len(data)
    (tmp_path / "data").rename(tmp_path / "moved")
    assert content(read_data(tmp_path / "moved" / "m.csv")).total() == len(data)


def test_a_folder_whose_name_only_begins_the_same_is_not_below(tree, tmp_path):
    manifest = read_data(tree("c/1.png", folder="data2"))
    (tmp_path / "data").mkdir()
    write_manifest(manifest, tmp_path / "data" / "m.csv")
    assert read_data(tmp_path / "data" / "m.csv").items[0].path == manifest.items[0].path


def test_groups_survive_in_tables(tree, tmp_path):
    root = tree("1.png", "2.png")
    items = (Item(str(root / "1.png"), "a", None, "g;1"), Item(str(root / "2.png"), "a"))
    for ending in ("csv", "tsv"):
        write_manifest(Manifest(items, ("a",), "x"), tmp_path / f"m.{ending}")
        assert read_data(tmp_path / f"m.{ending}").items == items


def test_same_names_in_one_class_are_told_apart(tree, tmp_path):
    root = tree("p/1.png", "q/1.png", "r/1.PNG", "s/1-2.png", "t/.hidden.png", "u/noending", "v/noending")
    items = tuple(Item(str(path), "a") for path in sorted(root.rglob("*")) if path.is_file())
    manifest = Manifest(items, ("a",), "x")
    write_manifest(manifest, tmp_path / "out", form="folders")
    assert sorted(path.name for path in (tmp_path / "out" / "a").iterdir()) == [
        "1-2-2.png", "1-2.png", "1-3.PNG", "1.png", "image_.hidden.png", "noending", "noending-2",
    ]  # fmt: skip
    assert content(read_data(tmp_path / "out")) == content(manifest)


def test_links_lead_to_the_users_files_and_copies_do_not(data, tmp_path):
    write_manifest(data, tmp_path / "links", form="folders")
    write_manifest(data, tmp_path / "copies", form="folders", copy=True)
    links = list((tmp_path / "links").rglob("*.png"))
    assert len(links) == len(data)
    assert {str(path.readlink()) for path in links} == {item.path for item in data.items}
    assert not any(path.is_symlink() for path in (tmp_path / "copies").rglob("*"))


@pytest.mark.parametrize("label", ["a/b", "..", ".", ".hidden", "x\0y", "ä" * 200, "__MACOSX"])
def test_classes_that_are_no_folder_names(label, tmp_path, tree):
    root = tree("1.png")
    manifest = Manifest((Item(str(root / "1.png"), label),), (label,), "x")
    with pytest.raises(DataError, match="cannot be the name of a folder"):
        write_manifest(manifest, tmp_path / "out", form="folders")
    assert sorted(path.name for path in (tmp_path).iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("items", "error"),
    [
        ((Item("/1.png", "a", "train"), Item("/2.png", "a")), SplitError),
        ((Item("/1.png", None),), DataError),
    ],
)
def test_what_folders_cannot_hold(items, error, tmp_path):
    with pytest.raises(error):
        write_manifest(Manifest(items, ("a",), "x"), tmp_path / "out", form="folders")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_fails_leaves_nothing(tmp_path):
    manifest = Manifest((Item(str(tmp_path / "gone.png"), "a"),), ("a",), "x")
    with pytest.raises(DataError, match="cannot be placed"):
        write_manifest(manifest, tmp_path / "out", form="folders", copy=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.csv", "m.tsv"])
def test_an_existing_table_is_kept_unless_asked(data, tmp_path, name):
    target = tmp_path / name
    target.write_text("mine")
    with pytest.raises(RunExists, match="--overwrite"):
        write_manifest(data, target)
    assert target.read_text() == "mine"
    write_manifest(data, target, overwrite=True)
    assert content(read_data(target)) == content(data)


def test_a_link_to_nothing_is_kept_too(data, tmp_path):
    (tmp_path / "m.csv").symlink_to("nowhere")
    with pytest.raises(RunExists):
        write_manifest(data, tmp_path / "m.csv")
    assert str((tmp_path / "m.csv").readlink()) == "nowhere"


def test_a_folder_named_like_a_table(data, tmp_path):
    (tmp_path / "m.csv").mkdir()
    with pytest.raises(RunExists, match="is a folder"):
        write_manifest(data, tmp_path / "m.csv", overwrite=True)


@pytest.mark.parametrize("form", ["meta", "folders"])
def test_no_folder_of_the_users_is_ever_replaced(data, tmp_path, form):
    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    for overwrite in (False, True):
        with pytest.raises(RunExists):
            write_manifest(data, tmp_path / "data", form=form, overwrite=overwrite)
    assert {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()} == before


def test_links_are_replaced_when_asked_and_copies_never(data, tmp_path):
    write_manifest(data, tmp_path / "links", form="folders")
    write_manifest(data.split("val"), tmp_path / "links", form="folders", overwrite=True)
    assert len(read_data(tmp_path / "links")) == len(data.split("val"))
    write_manifest(data, tmp_path / "copies", form="folders", copy=True)
    with pytest.raises(RunExists, match="only copy"):
        write_manifest(data, tmp_path / "copies", form="folders", copy=True, overwrite=True)
    (tmp_path / "alias").symlink_to(tmp_path / "links")
    with pytest.raises(RunExists, match="not a folder"):
        write_manifest(data, tmp_path / "alias", form="folders", overwrite=True)


@pytest.mark.parametrize(
    ("name", "form", "copy"),
    [("m", None, False), ("m.xlsx", None, False), ("meta", None, False), ("m", "excel", False), ("m.csv", None, True)],
)
def test_forms_that_there_are_not(data, tmp_path, name, form, copy):
    with pytest.raises(OptionError):
        write_manifest(data, tmp_path / name, form=form, copy=copy)
    assert not (tmp_path / name).exists()


def test_the_form_may_be_said(data, tmp_path):
    write_manifest(data, tmp_path / "m.list", form="csv")
    assert (tmp_path / "m.list").read_text("utf-8").startswith("path,label,split,group,sha256\n")


def test_parquet_without_pyarrow(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="parquet"):
        write_manifest(data, tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


def test_parquet_cannot_hold_every_name(tmp_path):
    pytest.importorskip("pyarrow")
    manifest = Manifest((Item("/" + os.fsdecode(b"\xff.png"), "a"),), ("a",), "x")
    with pytest.raises(DataError, match="Write CSV"):
        write_manifest(manifest, tmp_path / "m.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_manifest(tmp_path):
    pytest.importorskip("pyarrow")
    for ending in ("csv", "parquet"):
        write_manifest(Manifest((), (), "x"), tmp_path / f"m.{ending}")
        with pytest.raises(DataError, match="no usable row"):
            read_data(tmp_path / f"m.{ending}")


@pytest.mark.parametrize(("name", "form"), [("m.csv", None), ("m", "meta"), ("m", "folders")])
def test_a_place_where_nothing_can_be_written(data, tmp_path, name, form):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CannotWrite, match="cannot be written"):
        write_manifest(data, tmp_path / "file" / name, form=form)
    assert (tmp_path / "file").read_text() == "mine"
