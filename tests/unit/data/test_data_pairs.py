"""Change pairs: the layouts that are read, what is refused, and splits that keep scenes together."""

import csv

import pytest

from regraft.data.pair_splits import scenes_of, shared_scenes, split_pairs
from regraft.data.pairs import is_pairs, pair_key, read_pairs
from regraft.errors import DataError, OptionError, SplitError
from regraft.recipes.change_findings import leaks


def pair_files(*stems, dates=("A", "B"), label="label", under=""):
    """Names of the files of pairs."""
    return [f"{under}{folder}/{stem}.png" for folder in (*dates, *([label] if label else [])) for stem in stems]


def write_list(root, name, text):
    (root / "list").mkdir(exist_ok=True)
    (root / "list" / name).write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("dates", "label"),
    [
        (("A", "B"), "label"),
        (("a", "b"), "Labels"),
        (("before", "after"), "mask"),
        (("T1", "T2"), "GT"),
        (("im1", "im2"), "masks"),
        (("time1", "time2"), "gt"),
    ],
)
def test_usual_names_of_dates_and_labels(tree, dates, label):
    root = tree(*pair_files("x10", "x9", dates=dates, label=label))
    assert is_pairs(root)
    pairs = read_pairs(root)
    assert [item.name for item in pairs.items] == ["x9.png", "x10.png"]
    assert pairs.items[0].before == str(root / dates[0] / "x9.png")
    assert pairs.items[0].after == str(root / dates[1] / "x9.png")
    assert pairs.items[0].label == str(root / label / "x9.png")
    assert pairs.split_note == "none given"
    assert pairs.split_sizes() == {}


def test_endings_may_differ_and_housekeeping_is_passed_over(tree):
    root = tree(
        "A/x.v1.png", "B/x.v1.JPG", "label/x.v1.TIF",
        "A/.hidden.png", "A/Thumbs.db", "A/x.v1.png.aux.xml", "A/x.v1.tfw", "A/x.v1.tif.ovr", "A/notes.txt", "B/y.gif",
    )  # fmt: skip
    pairs = read_pairs(root)
    assert [(item.name, item.after[-4:], item.label[-4:]) for item in pairs.items] == [("x.v1.png", ".JPG", ".TIF")]
    assert [(one.path[-9:], one.reason[:12]) for one in pairs.skipped] == [
        ("notes.txt", "not an image"),
        ("a/B/y.gif"[-9:], "an image of "),
    ]


def test_lists_give_splits_and_leave_the_rest_out(tree):
    root = tree(*pair_files("a", "b", "c", "d"), "A/alone.png")
    write_list(root, "train.txt", b"\xef\xbb\xbfa.png\r\n\r\n  c \r\na.png\r\n")
    write_list(root, "validation.txt", "b\n")
    write_list(root, "readme.txt", "x\n")
    pairs = read_pairs(root)
    assert {item.name: item.split for item in pairs.items} == {"a.png": "train", "b.png": "val", "c.png": "train"}
    assert pairs.split_sizes() == {"train": 2, "val": 1}
    assert pairs.split_note == "as given (list/train.txt, list/validation.txt)"
    reasons = {one.path.rpartition("/")[2]: one.reason for one in pairs.skipped}
    assert reasons["d.png"] == reasons["alone.png"] == "in no list"
    assert "list" in reasons["readme.txt"]
    assert len(pairs.split("val")) == 1


def test_a_name_in_two_lists_is_refused_naming_both(tree):
    root = tree(*pair_files("a", "b"))
    write_list(root, "train.txt", "a.png\nb.png\n")
    write_list(root, "val.txt", "b\n")
    with pytest.raises(SplitError, match=r"b is in two lists, .*train\.txt and .*val\.txt"):
        read_pairs(root)


def test_a_name_without_files_is_refused_naming_the_list(tree):
    root = tree(*pair_files("a", "b"))
    write_list(root, "train.txt", "a\nzz.png\n")
    with pytest.raises(SplitError, match=r"train\.txt names zz, which is not in .*A"):
        read_pairs(root)


def test_empty_lists_are_refused(tree):
    root = tree(*pair_files("a"))
    write_list(root, "train.txt", "\n")
    with pytest.raises(SplitError, match="name no pair"):
        read_pairs(root)


def test_split_folders_and_the_same_names_in_them(tree):
    names = [name for split in ("train", "Valid", "test") for name in pair_files("a", "b", under=f"{split}/")]
    root = tree(*names, "other/x.png")
    assert is_pairs(root)
    pairs = read_pairs(root)
    assert [(item.name, item.split) for item in pairs.items][:3] == [
        ("train/a.png", "train"),
        ("train/b.png", "train"),
        ("Valid/a.png", "val"),
    ]
    assert pairs.split_sizes() == {"train": 2, "val": 2, "test": 2}
    assert pairs.split_note == "as given (folders)"


def test_split_folders_below_the_dates(tree):
    root = tree(*pair_files("train/a", "val/a"))
    assert [(item.name, item.split) for item in read_pairs(root).items] == [
        ("train/a.png", "train"),
        ("val/a.png", "val"),
    ]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("extra", "missing"), [("A/z.png", "B"), ("B/z.png", "A")])
def test_an_image_without_partner_is_refused(tree, extra, missing, labelled):
    root = tree(*pair_files("a"), extra)
    with pytest.raises(DataError, match=rf"1 file in .* without a partner of the same name in .*/{missing}: z\. "):
        read_pairs(root, labelled=labelled)


def test_missing_labels_matter_for_training_only(tree):
    root = tree(*pair_files("a", "b", "c", "d", "e"), "label/q.png")
    for name in "bcde":
        (root / "label" / f"{name}.png").unlink()
    with pytest.raises(DataError, match=r"4 files of pairs without a label .*label: b, c, d and 1 more\."):
        read_pairs(root)
    pairs = read_pairs(root, labelled=False)
    assert [item.label is None for item in pairs.items] == [False, True, True, True, True]
    assert [one.reason for one in pairs.skipped] == ["a label without images"]


def test_no_folder_of_labels(tree):
    root = tree(*pair_files("a", "b", label=None))
    assert not is_pairs(root)  # may be two classes; a folder of lists beside them tells
    with pytest.raises(DataError, match="no folder of labels beside A and B"):
        read_pairs(root)
    assert len(read_pairs(root, labelled=False)) == 2


def test_for_prediction_lists_leave_nothing_out(tree):
    root = tree(*pair_files("a", "b"))
    write_list(root, "train.txt", "a\n")
    assert [item.split for item in read_pairs(root, labelled=False).items] == ["train", None]


def test_two_files_for_one_name_are_refused(tree):
    root = tree(*pair_files("a"), "A/a.tif")
    with pytest.raises(DataError, match=r"a\.png and .*a\.tif have one name but for the ending"):
        read_pairs(root)


@pytest.mark.parametrize("names", [("cats/1.png", "dogs/1.png"), ("A/1.png", "B/1.png", "C/1.png"), ("x.png",)])
def test_other_folders_are_no_pairs(tree, names):
    assert not is_pairs(tree(*names))


def test_letters_as_classes_are_no_pairs(tree):
    assert not is_pairs(tree("A/1.png", "A/2.png", "A/3.png", "B/3.png", "B/4.png", "B/5.png"))


def test_what_is_no_folder_of_pairs_is_told(tree, tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        read_pairs(tmp_path / "none")
    with pytest.raises(DataError, match="no folders of two dates"):
        read_pairs(tree("cats/1.png"))
    root = tree("A/x.txt", "B/x.txt", "label/x.txt", folder="empty")
    with pytest.raises(DataError, match="has no images"):
        read_pairs(root)


def test_the_table_can_be_read_back(tree, tmp_path):
    pairs = read_pairs(tree(*pair_files("a,b", 'c"d')))
    pairs.write(tmp_path / "pairs.csv")
    with (tmp_path / "pairs.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["name"] for row in rows] == [item.name for item in pairs.items]
    assert [row["after"] for row in rows] == [item.after for item in pairs.items]


def test_the_hash_depends_on_content_and_splits_but_not_on_the_place(tree):
    one, two = tree(*pair_files("a", "b"), folder="one"), tree(folder="two")
    for path in one.rglob("*.png"):
        target = two / path.relative_to(one)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    first, second = read_pairs(one), read_pairs(two)
    assert first.sha256() == second.sha256()
    assert split_pairs(first, seed=0, val=0.5).sha256() != first.sha256()
    keys = [pair_key(item) for item in first.items]
    assert keys == [pair_key(item) for item in second.items]
    assert len(set(keys)) == 2
    (two / "label" / "a.png").write_bytes(b"other")
    assert pair_key(second.items[0]) != keys[0]


@pytest.mark.parametrize(
    ("names", "scene"),
    [
        ([f"scene{s}_{x}_{y}.png" for s in range(6) for x in (0, 256) for y in (0, 256)], "scene0"),
        ([f"train_{s}_{tile}.png" for s in range(8) for tile in range(4)], "train_0"),
        ([f"s{s}-r{x}-c{y}.tif" for s in range(6) for x in (0, 1) for y in (0, 1)], "s0"),
    ],
)
def test_names_tell_scenes(names, scene):
    assert scenes_of(names)[names[0]] == scene


@pytest.mark.parametrize(
    "names",
    [
        [f"img_{n}.png" for n in range(20)],
        [f"{n}.png" for n in range(20)],
        [f"scene{s}_0_{y}.png" for s in range(2) for y in range(10)],
    ],
)
def test_names_that_do_not_tell_scenes(names):
    assert scenes_of(names) is None


def test_scenes_stay_together_whatever_the_seed(tree):
    root = tree(*pair_files(*[f"city_{s}_{x}_{y}" for s in range(8) for x in (0, 256) for y in (0, 256)]))
    pairs = read_pairs(root)
    seen = set()
    for seed in range(6):
        divided = split_pairs(pairs, seed=seed, val=0.25, test=0.125)
        assert divided.split_sizes() == {"train": 20, "val": 8, "test": 4}
        assert shared_scenes(divided) == 0
        assert "tiles of a scene kept together (8 scenes" in divided.split_note
        seen.add(tuple(item.split for item in divided.items))
        turned = split_pairs(type(pairs)(pairs.items[::-1], "x"), seed=seed, val=0.25, test=0.125)
        assert [item.split for item in turned.items[::-1]] == [item.split for item in divided.items]
    assert len(seen) > 1


def test_scenes_in_several_splits_are_told(tree):
    tiles = [f"city_{s}_{x}_{y}" for s in range(8) for x in (0, 256) for y in (0, 256)]
    root = tree(*pair_files(*tiles))
    write_list(root, "train.txt", "\n".join(tiles[:22]))
    write_list(root, "val.txt", "\n".join(tiles[22:]))
    (hint,) = leaks(read_pairs(root))
    assert "tiles of 1 scene are in more than one split" in hint
    write_list(root, "train.txt", "\n".join(tiles[:20]))
    write_list(root, "val.txt", "\n".join(tiles[20:]))
    assert not leaks(read_pairs(root))


def test_without_scenes_tiles_are_divided(tree):
    pairs = read_pairs(tree(*pair_files(*[f"img_{n}" for n in range(20)])))
    divided = split_pairs(pairs, seed=1)
    assert divided.split_sizes() == {"train": 17, "val": 3}
    assert "neighbouring tiles may be in different splits" in divided.split_note
    assert shared_scenes(divided) == 0


def test_given_splits_stay_and_val_is_never_made_of_test(tree):
    root = tree(*[n for split in ("train", "test") for n in pair_files(*"abcdefgh", under=f"{split}/")])
    divided = split_pairs(read_pairs(root), seed=0, val=0.25)
    assert divided.split_sizes() == {"train": 6, "val": 2, "test": 8}
    assert {item.split for item in divided.items if item.name.startswith("test/")} == {"test"}
    assert "val was made of train" in divided.split_note
    assert split_pairs(divided, seed=5) is divided
    assert split_pairs(divided, seed=5, val=0.25, resplit=True).split_sizes() == {"train": 12, "val": 4}


def test_impossible_splits_are_refused(tree):
    pairs = read_pairs(tree(*pair_files("a"), folder="one"))
    with pytest.raises(SplitError, match="has 1 pairs to divide"):
        split_pairs(pairs, seed=0)
    with pytest.raises(OptionError, match="sum below 1"):
        split_pairs(pairs, seed=0, val=0.6, test=0.4)
    only = read_pairs(tree(*pair_files("a", "b", under="test/"), folder="two"))
    with pytest.raises(SplitError, match="no train split"):
        split_pairs(only, seed=0)
    two = split_pairs(read_pairs(tree(*pair_files("a", "b"), folder="three")), seed=0)
    assert two.split_sizes() == {"train": 1, "val": 1}


@pytest.mark.shared
def test_levir_mini(shared_data):
    pairs = read_pairs(shared_data / "levir_mini")
    assert pairs.split_sizes() == {"train": 170, "val": 40}
    assert shared_scenes(pairs) == 0
    assert not pairs.skipped
    assert not is_pairs(shared_data / "hymenoptera")
