from pathlib import Path

import pytest

from regraft.data.manifest import hash_items
from regraft.data.stanford import is_stanford, read_stanford
from regraft.errors import DataError, SplitError


@pytest.fixture
def stanford(tree):
    """A small Stanford-40 folder: two actions with three images each; texts replace the list files."""

    def make(actions="name\tcount\nriding_a_bike\t3\njumping\t\t  3\n", **lists):
        names = [f"{action}_{n:03d}.jpg" for action in ("jumping", "riding_a_bike") for n in (1, 2, 3)]
        files = {
            "jumping_train": "jumping_001.jpg\n",
            "jumping_dev": "jumping_002.jpg\n",
            "jumping_test": "jumping_003.jpg\n\n",
            "riding_a_bike_train": "riding_a_bike_003.jpg\r\n",
            "riding_a_bike_test": "riding_a_bike_001.jpg\nriding_a_bike_002.jpg\n",
        } | lists
        return tree(
            *(f"JPEGImages/{name}" for name in names),
            **{"ImageSplits/actions.txt": actions.encode()},
            **{f"ImageSplits/{name}.txt": text.encode() for name, text in files.items() if text is not None},
        )

    return make


def cells(manifest):
    return [(Path(i.path).name, i.label, i.split) for i in manifest.items]


def test_lists(stanford):
    root = stanford()
    assert is_stanford(root)
    manifest = read_stanford(root)
    assert cells(manifest) == [
        ("riding_a_bike_003.jpg", "riding_a_bike", "train"),
        ("jumping_001.jpg", "jumping", "train"),
        ("jumping_002.jpg", "jumping", "val"),
        ("riding_a_bike_001.jpg", "riding_a_bike", "test"),
        ("riding_a_bike_002.jpg", "riding_a_bike", "test"),
        ("jumping_003.jpg", "jumping", "test"),
    ]
    assert manifest.classes == ("riding_a_bike", "jumping")
    assert manifest.skipped == ()


def test_actions_parted_by_blanks_and_without_header(stanford):
    manifest = read_stanford(stanford(actions="riding_a_bike      3\r\njumping 3"))
    assert manifest.classes == ("riding_a_bike", "jumping")


def test_missing_images_are_items_and_unlisted_ones_are_skipped(stanford):
    root = stanford(jumping_dev="jumping_009.jpg\n")
    (root / "JPEGImages" / ".hidden").write_bytes(b"")
    (root / "JPEGImages" / "readme").write_bytes(b"text")
    manifest = read_stanford(root)
    assert [name for name, _, split in cells(manifest) if split == "val"] == ["jumping_009.jpg"]
    assert [(Path(s.path).name, s.reason) for s in hash_items(manifest.items)[1]] == [
        ("jumping_009.jpg", "file not found")
    ]
    assert {(Path(s.path).name, s.reason) for s in manifest.skipped} == {
        ("jumping_002.jpg", "in no list of ImageSplits"),
        (".hidden", "hidden"),
        ("readme", "not an image"),
    }


def test_actions_without_lists_are_named_unless_taken_by_number(stanford):
    root = stanford(actions="n\tc\njumping\t3\nriding_a_bike\t3\nflying\t0\nswimming\t0\n")
    with pytest.raises(DataError, match=r"2 actions .*: flying, swimming\. .*--take"):
        read_stanford(root)
    manifest = read_stanford(root, by_number=True)
    assert len(manifest) == 6
    assert manifest.classes == ("jumping", "riding_a_bike")
    assert manifest.split_sizes() == {}
    assert [(s.path, s.reason) for s in manifest.skipped] == [
        ("flying", "action without images"),
        ("swimming", "action without images"),
    ]


def test_by_number_takes_only_names_of_actions(stanford, png):
    root = stanford(actions="n\tc\njumping\t3\n")
    (root / "JPEGImages" / "jumping_high.jpg").write_bytes(png())
    manifest = read_stanford(root, by_number=True)
    assert [name for name, _, _ in cells(manifest)] == [f"jumping_00{n}.jpg" for n in (1, 2, 3)]
    assert {s.reason for s in manifest.skipped} == {"belongs to no action of actions.txt"}
    assert len(manifest.skipped) == 4


def test_of_many_actions_without_lists_ten_are_named(stanford):
    actions = "".join(f"a{n}\t3\n" for n in range(37))
    with pytest.raises(DataError, match=r"37 actions .*: a0, a1, .*, a9 and 27 more\. Expected a0_train\.txt"):
        read_stanford(stanford(actions=actions))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("n\tc\njumping\n", r"actions\.txt, line 2: expected a name, a tab and a number"),
        ("n\tc\njumping\t3\njumping\t3\n", r"actions\.txt, line 3: the action 'jumping' is there twice"),
        ("n\tc\n", "names no action"),
    ],
)
def test_bad_actions(stanford, actions, message):
    with pytest.raises(DataError, match=message):
        read_stanford(stanford(actions=actions))


def test_an_image_in_two_lists(stanford):
    with pytest.raises(SplitError, match="two splits"):
        read_stanford(stanford(jumping_dev="jumping_001.jpg\n"))


def test_no_images(stanford, tmp_path):
    root = stanford()
    (root / "JPEGImages").rename(tmp_path / "moved")
    with pytest.raises(DataError, match="JPEGImages cannot be read"):
        read_stanford(root)
