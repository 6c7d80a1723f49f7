import random

import pytest

from regraft.data.names import housekeeping, natural_key, natural_sort, split_of


def test_numbers_sort_as_numbers():
    assert natural_sort({"class10", "class2", "class1"}) == ("class1", "class2", "class10")
    assert natural_sort({"b", "A", "a", "B"}) == ("A", "a", "B", "b")
    assert natural_sort({"1.10", "1.9", "x", "2", "10"}) == ("1.9", "1.10", "2", "10", "x")


def test_the_order_is_total_and_knows_no_largest_number():
    names = ["a1", "a01", "a001", "A1", "", "1", "01", "²", "٣", "9" * 5000, "1" + "0" * 5000, "\udcff", "ä", "a 1"]
    wanted = sorted(names, key=natural_key)
    for seed in range(20):
        shuffled = random.Random(seed).sample(names, len(names))
        assert sorted(shuffled, key=natural_key) == wanted
    assert len({natural_key(name) for name in names}) == len(names)
    assert wanted.index("9" * 5000) < wanted.index("1" + "0" * 5000)


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("train", "train"), ("Training", "train"), ("val", "val"), ("VALID", "val"), ("validation", "val"),
        ("dev", "val"), (" test ", "test"), ("testing", "test"), ("trainer", None), ("", None), ("fold1", None),
    ],
)  # fmt: skip
def test_split_words(word, split):
    assert split_of(word) == split


def test_housekeeping():
    assert housekeeping(".ipynb_checkpoints") == "hidden"
    assert housekeeping(".DS_Store") == "hidden"
    assert housekeeping("Thumbs.db") == housekeeping("__MACOSX") == "belongs to the operating system, not to the data"
    assert housekeeping("cats") is None
