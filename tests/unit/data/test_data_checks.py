from regraft.data.checks import Conflict, drop_unlabelled, duplicate_conflicts, group_conflicts
from regraft.data.manifest import Item, Manifest, Skipped

ITEMS = (
    Item("/1", "b", "val", "g", "k1"),
    Item("/2", "a", "train", "g", "k2"),
    Item("/3", "a", "train", "h", "k1"),
    Item("/4", "a", "train", "h", "k3"),
    Item("/5", "b", "train", None, "k3"),
    Item("/6", "a", "train", None, None),
    Item("/7", "a", "test", None, None),
    Item("/8", "a", "test", None, "k4"),
    Item("/9", "a", "test", None, "k4"),
)


def test_groups_in_two_splits():
    manifest = Manifest(ITEMS, ("a", "b"), "x")
    assert group_conflicts(manifest) == (Conflict("g", ("/1", "/2"), ("train", "val"), ("a", "b")),)


def test_identical_files_that_are_told_apart():
    manifest = Manifest(ITEMS, ("a", "b"), "x")
    assert duplicate_conflicts(manifest) == (
        Conflict("k1", ("/1", "/3"), ("train", "val"), ("a", "b")),
        Conflict("k3", ("/4", "/5"), ("train",), ("a", "b")),
    )


def test_drop_unlabelled():
    manifest = Manifest((Item("/1", "a"), Item("/2")), ("a",), "x", (Skipped("/0", "hidden"),))
    dropped = drop_unlabelled(manifest)
    assert dropped.items == (Item("/1", "a"),)
    assert dropped.skipped == (Skipped("/0", "hidden"), Skipped("/2", "no label"))
    assert drop_unlabelled(dropped) is dropped
