import random
from pathlib import Path

import pytest

from regraft.data.manifest import Item, Manifest
from regraft.data.take import take_by_number
from regraft.errors import OptionError, SplitError


def manifest_of(**counts):
    items = [Item(f"/data/{label}/{n}.png", label) for label, count in counts.items() for n in range(1, count + 1)]
    return Manifest(tuple(items), tuple(counts), "x")


def test_the_first_by_number():
    manifest = manifest_of(b=12, a=11)
    items = random.Random(0).sample(manifest.items, len(manifest))
    taken = take_by_number(Manifest(tuple(items), manifest.classes, "x"), 8, 2, 1)
    numbers = {}
    for item in taken.items:
        numbers.setdefault((item.split, item.label), []).append(int(Path(item.path).stem))
    assert numbers == {
        ("train", "b"): list(range(1, 9)), ("train", "a"): list(range(1, 9)),
        ("val", "b"): [9, 10], ("val", "a"): [9, 10],
        ("test", "b"): [11], ("test", "a"): [11],
    }  # fmt: skip
    assert [(s.path, s.reason) for s in taken.skipped] == [("/data/b/12.png", "not taken")]
    assert taken.split_note == "taken by number: 8 train, 2 val and 1 test images a class, by order of file names"


def test_given_splits_are_not_used_and_it_is_said():
    items = tuple(Item(f"/{n}.png", "a", "test") for n in range(3))
    taken = take_by_number(Manifest(items, ("a",), "x"), 2, 0, 1)
    assert taken.split_sizes() == {"train": 2, "test": 1}
    assert taken.split_note.endswith("the splits that were given are not used")


def test_images_without_label():
    manifest = Manifest((Item("/1.png", "a"), Item("/2.png")), ("a",), "x")
    assert [s.reason for s in take_by_number(manifest, 1, 0, 0).skipped] == ["no label"]


def test_classes_with_too_few_are_named():
    with pytest.raises(SplitError, match=r"needs 5 of each; 2 have fewer: 'a' \(4\), 'c' \(0\)"):
        take_by_number(manifest_of(a=4, b=5, c=0), 3, 1, 1)
    with pytest.raises(
        SplitError, match=r"30 have fewer: .*'c9' \(1\) and 20 more\. Take fewer, or remove the folders"
    ):
        take_by_number(manifest_of(**{f"c{n}": 1 for n in range(30)}), 3, 1, 1)


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_impossible_numbers(numbers):
    with pytest.raises(OptionError):
        take_by_number(manifest_of(a=4), *numbers)
