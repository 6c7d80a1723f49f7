import json
import os
from pathlib import Path

import pytest

from regraft.data.manifest import Item, Manifest, hash_items
from regraft.data.metalist import read_meta_lists, write_meta_lists
from regraft.errors import DataError, RunExists, SplitError

MAPPER = {"id2cls": {"0": "zebra", "10": "ant", "2": "bee"}, "cls2id": {"zebra": 0, "ant": 10, "bee": 2}}


@pytest.fixture
def lists(tree):
    """Writes meta lists beside the images img/1.png to img/4.png."""

    def make(mapper=MAPPER, **texts):
        root = tree("img/1.png", "img/2.png", "img/3.png", "img/4.png")
        if mapper is not None:
            text = mapper if isinstance(mapper, str) else json.dumps(mapper)
            (root / "cls_mapper.json").write_text(text)
        for name, text in texts.items():
            (root / f"meta_{name}.txt").write_text(text)
        return root

    return make


def test_reading(lists):
    root = lists(test="2|img/4.png\n", train="0|img/1.png\n\n10|img/2.png\r\n", dev=" 2 |img/3.png", other="x")
    manifest = read_meta_lists(root)
    assert [(os.path.relpath(i.path, root), i.label, i.split) for i in manifest.items] == [
        ("img/1.png", "zebra", "train"),
        ("img/2.png", "ant", "train"),
        ("img/3.png", "bee", "val"),
        ("img/4.png", "bee", "test"),
    ]
    assert manifest.classes == ("zebra", "bee", "ant")
    assert [(Path(s.path).name, s.reason) for s in manifest.skipped] == [("meta_other.txt", "its name says no split")]


def test_one_list(lists):
    root = lists(train="0|img/1.png\n", val="2|img/2.png\n", all="0|img/1.png\n2|img/2.png\n")
    assert read_meta_lists(root / "meta_val.txt").split_sizes() == {"val": 1}
    everything = read_meta_lists(root / "meta_all.txt")
    assert len(everything) == 2
    assert everything.split_sizes() == {}


def test_root_and_missing_files(lists, tmp_path):
    root = lists(train="0|1.png\n2|9.png\n")
    manifest = read_meta_lists(root, root=root / "img")
    assert [item.path for item in manifest.items] == [str(root / "img" / "1.png"), str(root / "img" / "9.png")]
    assert manifest.skipped == ()
    kept, lost = hash_items(manifest.items)
    assert len(kept) == 1
    assert [(Path(s.path).name, s.reason) for s in lost] == [("9.png", "file not found")]
    with pytest.raises(DataError, match="--root"):
        read_meta_lists(root, root=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 img/1.png", r"meta_train\.txt, line 2: expected id\|path"),
        ("zebra|img/1.png", r"meta_train\.txt, line 2: expected id\|path"),
        ("-1|img/1.png", r"meta_train\.txt, line 2: expected id\|path"),
        ("0|  ", r"meta_train\.txt, line 2: expected id\|path"),
        ("7|img/1.png", r"meta_train\.txt, line 2: the class id 7 is not in cls_mapper\.json, which has 3 classes"),
    ],
)
def test_bad_lines(lists, line, message):
    with pytest.raises(DataError, match=message):
        read_meta_lists(lists(train=f"0|img/2.png\n{line}\n"))


@pytest.mark.parametrize(
    ("mapper", "message"),
    [
        (None, r"cls_mapper\.json is missing"),
        ("{\n", r"cls_mapper\.json, line 2: not JSON"),
        ("[]", "expected"),
        ({"id2cls": {"0": "a"}}, "expected"),
        ({"id2cls": {"0": "a"}, "cls2id": {"a": 1}}, "id2cls says that 0 is 'a', but cls2id says 1"),
        ({"id2cls": {"0": "a"}, "cls2id": {"a": 0, "b": 1}}, "cls2id gives 'b' the id 1"),
        ({"id2cls": {"0": "a", "1": "a"}, "cls2id": {"a": 0}}, "id2cls says that 1 is 'a'"),
        ({"id2cls": {"x": "a"}, "cls2id": {"a": 0}}, "'x' in id2cls is not a whole number"),
        ({"id2cls": {"0": 5}, "cls2id": {"5": 0}}, "5 in id2cls is not a text"),
        ({"id2cls": {"0": "\ud800"}, "cls2id": {"\ud800": 0}}, "not valid Unicode"),
        ({"id2cls": {"0": "a"}, "cls2id": {"a": "0"}}, "id2cls says that 0 is 'a', but cls2id says '0'"),
        ({"id2cls": {"0": "a"}, "cls2id": {"a": 0, "b": [1]}}, "cls2id gives 'b'"),
    ],
)
def test_bad_mappers(lists, mapper, message):
    with pytest.raises(DataError, match=message):
        read_meta_lists(lists(mapper, train="0|img/1.png\n"))


def test_an_image_in_two_splits(lists):
    with pytest.raises(SplitError, match=r"'train' .* and 'test'"):
        read_meta_lists(lists(train="0|img/1.png\n", test="0|img/1.png\n"))


def test_an_empty_list(lists):
    with pytest.raises(DataError, match="lists no images"):
        read_meta_lists(lists(train="\n"))


def test_a_folder_without_lists(tmp_path):
    with pytest.raises(DataError, match="holds no meta list"):
        read_meta_lists(tmp_path)


def test_a_round_trip_keeps_classes_and_their_order(tree, tmp_path):
    root = tree("1.png", "2.png", "a|b.png")
    items = (
        Item(str(root / "1.png"), "zebra", "train"),
        Item(str(root / "2.png"), "ant", "val"),
        Item(str(root / "a|b.png"), "ant", "train"),
    )
    manifest = Manifest(items, ("zebra", "ant", "nobody"), "x")
    write_meta_lists(manifest, tmp_path / "lists")
    again = read_meta_lists(tmp_path / "lists")
    assert again.classes == manifest.classes
    assert set(again.items) == set(items)
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == [
        "cls_mapper.json",
        "meta_dev.txt",
        "meta_train.txt",
    ]
    mapper = json.loads((tmp_path / "lists" / "cls_mapper.json").read_text())
    assert mapper == {
        "id2cls": {"0": "zebra", "1": "ant", "2": "nobody"},
        "cls2id": {"zebra": 0, "ant": 1, "nobody": 2},
    }


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (Item("/a.png", "x"), SplitError),
        (Item("/a.png", None, "train"), DataError),
        (Item("/a\nb.png", "x", "train"), DataError),
    ],
)
def test_what_cannot_be_written(tmp_path, item, error):
    with pytest.raises(error):
        write_meta_lists(Manifest((item,), ("x",), "s"), tmp_path / "lists")
    assert not (tmp_path / "lists").exists()


def test_an_existing_folder_is_kept(tmp_path):
    manifest = Manifest((Item("/a.png", "x", "train"),), ("x",), "s")
    target = tmp_path / "lists"
    write_meta_lists(manifest, target)
    with pytest.raises(RunExists, match="--overwrite"):
        write_meta_lists(manifest, target)
    write_meta_lists(manifest, target, overwrite=True)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(RunExists, match="notes"):
        write_meta_lists(manifest, target, overwrite=True)
    assert (target / "notes.txt").read_text() == "mine"
