"""What names and counts say."""

import time

import pytest

from regraft.data.class_names import named_alike, named_like_splits
from regraft.data.clips import guess_clips
from regraft.data.manifest import Item, Manifest
from regraft.data.quick_check import quick_check


def manifest(names, *, labels=None, splits=None, groups=None):
    labels = labels or ["a"] * len(names)
    splits = splits or [None] * len(names)
    groups = groups or [None] * len(names)
    items = [Item(f"/d/{n}", la, s, g) for n, la, s, g in zip(names, labels, splits, groups, strict=True)]
    return Manifest(tuple(items), tuple(dict.fromkeys(labels)), "d")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("dog", "Dogs"),
        ("berry", "Berries"),
        ("box", "boxes"),
        ("traffic light", "Traffic_Light"),
        ("german shepherd", "German_Shephrd"),
        ("butterfly", "buterfly"),
        ("butterfly", "buttrefly"),
        ("butterfly", "butterfli"),
        ("glass", "glasses"),
    ],
)
def test_names_alike(first, second):
    assert named_alike(["horse", first, "zebra", second]) == ((first, second),)
    assert named_alike([second, first]) == ((second, first),)


@pytest.mark.parametrize(
    "names",
    [
        ("Shirts", "Tshirts"),
        ("car", "cat"),
        ("type1", "type2"),
        ("class10", "class1"),
        ("sunflower01", "sunflower02"),
        ("bus", "bud"),
        ("ants", "bees"),
    ],
)
def test_names_not_alike(names):
    assert named_alike(names) == ()


def test_names_of_splits():
    assert named_like_splits(["cat", "Test", "validation", "tests"]) == ("Test", "validation")


@pytest.mark.parametrize(
    "pattern", ["v{v}_f{n:03d}.jpg", "walk{v}-{n:04d}.png", "{v}clip-{n:04d}.png", "bob_{v}_{n}.jpg"]
)
def test_frames_of_videos_are_guessed(pattern):
    names = [pattern.format(v=v, n=n) for n in range(4) for v in range(3)]
    found = guess_clips(manifest(names, splits=["train", "train", "test"] * 2 + ["test"] * 6))
    assert [len(clip.rows) for clip in found] == [4, 4, 4]
    assert [clip.splits for clip in found] == [("train", "test"), ("train", "test"), ("test",)]
    numbers = [names[row] for row in found[0].rows]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    "pattern", ["IMG_{n:04d}.jpg", "{n}.jpg", "a.{n}.jpg", "textile_{n:04d}.jpg", "DSC{n}.jpg", "{n}000.jpg"]
)
def test_ordinary_numbering_is_no_video(pattern):
    assert guess_clips(manifest([pattern.format(n=n) for n in range(9)])) == ()


def test_no_video_without_need():
    names = [f"v{v}_f{n}.jpg" for v in range(2) for n in range(5)]
    assert guess_clips(manifest(names, groups=["g"] * 10)) == ()
    assert guess_clips(manifest([f"v1_f{n}.jpg" for n in (1, 2, 400)])) == ()
    assert guess_clips(manifest(["v1_f1.jpg", "v1_f2.jpg"])) == ()
    assert guess_clips(manifest([f"{n}_e22b7e1065.jpg" for n in (5650366, 6240329, 16838648)])) == ()


def test_nothing_to_say_of_sound_data():
    names = [f"{n}.jpg" for n in range(40)]
    assert quick_check(manifest(names, labels=["a", "b"] * 20, splits=["train"] * 30 + ["test"] * 10)) == ()


def test_sentences():
    labels = ["dog"] * 40 + ["Dogs"] * 3 + ["test"] * 10
    names = [f"walk1_f{n}.jpg" for n in range(53)]
    said = quick_check(manifest(names, labels=labels, splits=["train", "val"] + ["train"] * 51))
    assert len(said) == 5
    assert "fewer than 5 training images: 'Dogs' (3)" in said[0]
    assert "13 times" in said[1]
    assert "--class-weights" in said[1]
    assert "'test'" in said[2]
    assert "'dog' and 'Dogs'" in said[3]
    assert "guess" in said[4]
    assert "walk1_f#" in said[4]


def test_ten_thousand_images_are_quick():
    names = [f"v{n // 50}_f{n % 50:03d}.jpg" for n in range(10_000)]
    many = manifest(names, labels=["a", "b"] * 5000, splits=["train", "train", "test", "val"] * 2500)
    began = time.process_time()
    assert len(quick_check(many)) == 1
    assert time.process_time() - began < 0.25  # 0.05 on an idle machine
