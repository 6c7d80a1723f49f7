import os
from pathlib import Path

import pytest

from regraft.data import folder_hints
from regraft.data.folder import read_folder


def test_plain_folders_have_no_hints(tree):
    assert read_folder(tree("ants/1.png", "bees/deep/er/2.png", "bees/3.png", folder="classes")).hints == ()
    assert read_folder(tree("train/ants/1.png", "val/ants/2.png", folder="splits")).hints == ()
    assert read_folder(tree("1.png", folder="flat")).hints == ()


@pytest.mark.parametrize("between", ["", "photos/all/"])
def test_the_only_class_folder_holds_the_classes(tree, between):
    root = tree(f"insects/{between}ants/1.png", f"insects/{between}bees/2.png")
    manifest = read_folder(root)
    assert manifest.classes == ("insects",)
    below = root / "insects" / between
    assert manifest.hints == (
        f"the only class folder, 'insects', holds 2 folders of images (ants, bees): did you mean {below}?",
    )
    assert read_folder(below).classes == ("ants", "bees")


def test_class_folders_that_hold_folders_of_images(tree, monkeypatch):
    root = tree(*(f"{name}/{digit}/{n}.png" for name in ("mnist", "usps") for digit in range(10) for n in range(2)))
    monkeypatch.chdir(root.parent)
    assert read_folder("data").hints == (
        (
            "class folder 'mnist' holds 10 folders of images (0, 1, 2, ...), which count as one class (likewise"
            f" 'usps'); if they are the classes, name {Path('data', 'mnist')} instead"
        ),
    )


def test_one_folder_of_images_beside_images_is_no_nesting(tree):
    assert read_folder(tree("ants/1.png", "ants/more/2.png", "bees/3.png")).hints == ()
    (hint,) = read_folder(tree("ants/other/4.png")).hints
    assert hint.startswith("class folder 'ants' holds 2 folders of images (more, other)")


def test_nesting_within_splits_is_said_once(tree):
    root = tree(*(f"{split}/insects/{kind}/1.png" for split in ("train", "val") for kind in ("ants", "bees")))
    assert read_folder(root).hints == (
        (
            "class folder 'insects' in train holds 2 folders of images (ants, bees), which count as one class; if they"
            " are the classes, put them directly into train"
        ),
    )


def test_class_folders_without_images(tree):
    root = tree("ants/1.png")
    (root / "wasps").mkdir()
    assert read_folder(root).hints == ("class folder 'wasps' has no images",)
    for n in range(14):
        (root / f"x{n}").mkdir()
    (hint,) = read_folder(root).hints
    assert hint.startswith("class folders 'wasps', 'x0', ")
    assert hint.endswith("'x8' and 5 more have no images")


def test_split_folders_and_classes_in_them_without_images(tree):
    root = tree("train/ants/1.png", "train/bees/2.png", "dev/ants/3.png")
    (root / "dev" / "bees").mkdir(parents=True)
    (root / "val" / "ants").mkdir(parents=True)
    (root / "test").mkdir()
    assert set(read_folder(root).hints) == {
        "class folder 'dev/bees' has no images",
        "the split folder 'test' has no images",
        "the split folder 'val' has no images",
    }


def test_folders_beside_the_split_folders(tree, monkeypatch):
    root = tree("train/x/1.png", "val/x/2.png", "extra/x/3.png", "extra/4.png", "notes/x.txt")
    assert read_folder(root).hints == (
        "folder 'extra' (2 images) beside the split folders is not used; only train, val and test count",
    )
    tree("unused/5.png")
    (root / "unused" / "loop").symlink_to(root)
    assert read_folder(root).hints == (
        (
            "folders 'extra' (2 images), 'unused' (1 image) beside the split folders are not used; only train, val and"
            " test count"
        ),
    )
    tree(*(f"many/{n // 10}/{n}.png" for n in range(60)))
    monkeypatch.setattr(folder_hints, "_ENTRIES", 30)
    (hint,) = read_folder(root).hints
    assert "or more images), 'unused' (1 image)" in hint


def test_a_table_beside_the_only_class_folder(tree):
    root = tree("images/1.png", **{"styles.csv": b"id,kind\n1,x\n"})
    assert read_folder(root).hints == (
        f"there is a table styles.csv; did you mean regraft train {root / 'styles.csv'}?",
    )
    tree("others/2.png")
    assert read_folder(root).hints == ()
    split = tree("train/images/1.png", "val/images/2.png", folder="split", **{"labels.TSV": b"path\tlabel\n"})
    assert read_folder(split).hints == (
        f"there is a table labels.TSV; did you mean regraft train {split / 'labels.TSV'}?",
    )


def test_names_of_any_bytes(tmp_path, png):
    try:
        for name in (b"a\xff", b"b\nc"):
            folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/data/in\xfe/" + name))
            folder.mkdir(parents=True)
            (folder / "1.png").write_bytes(png())
    except OSError:
        pytest.skip("this file system takes only names in Unicode")
    (hint,) = read_folder(tmp_path / "data").hints
    assert "('a\\udcff', 'b\\nc')" in hint
