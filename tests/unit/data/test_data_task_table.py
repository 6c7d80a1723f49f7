"""Tables of several tasks: read, divided, written and read again."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from regraft.data.manifest import hash_items
from regraft.data.task_table import read_tasks, split_tasks
from regraft.errors import DataError


@pytest.fixture
def table(tree):
    """Writes a table of as many images as there are rows; each row is the cells after the path."""

    def make(header, rows, name="t.csv"):
        root = tree(*(f"i{at}.png" for at in range(len(rows))))
        lines = [f"path,{header}", *(f"i{at}.png,{row}" for at, row in enumerate(rows))]
        (root / name).write_text("\n".join(lines) + "\n")
        return root / name

    return make


def test_targets_of_every_kind(table):
    path = table("kind,tags,price", ["cat,a|b,1.5", "dog,,", ",b,2", ",,", "cat,|,NA"])
    data = read_tasks(path, ["kind", "tags:multilabel", "price:regression"])
    assert [task.classes for task in data.tasks] == [("cat", "dog"), ("a", "b"), ("price",)]
    assert data.targets[0].tolist() == [0, 1, -1, 0]
    assert data.targets[1].tolist() == [[1, 1], [-1, -1], [0, 1], [0, 0]]
    np.testing.assert_array_equal(data.targets[2][:, 0], [1.5, np.nan, 2, np.nan])
    assert [skip.reason for skip in data.manifest.skipped] == ["no label"]
    assert {item.label for item in data.manifest.items} == {None}


def test_labels_of_a_model_keep_their_classes(table):
    first = read_tasks(table("kind", ["cat", "dog"]), ["kind"])
    again = read_tasks(table("kind", ["dog", "cow", "cat"], "u.csv"), first.tasks)
    assert again.tasks == first.tasks
    assert again.targets[0].tolist() == [1, 0]
    assert "1 images have a class that is none of its own" in again.manifest.hints[0]


def test_a_column_that_is_a_task_is_no_group(table):
    data = read_tasks(table("patient,x", ["a,1", "b,2", "a,3"]), ["patient", "x:regression"])
    assert [item.group for item in data.manifest.items] == [None] * 3
    assert data.targets[0].tolist() == [0, 1, 0]


def test_a_file_with_two_targets_is_refused(table):
    path = table("kind", ["cat", "dog"])
    path.write_text("path,kind\ni0.png,cat\ni1.png,dog\ni0.png,dog\n")
    with pytest.raises(DataError, match=r"two labels: 'cat' \(t.csv, line 2\) and 'dog' \(t.csv, line 4\)"):
        read_tasks(path, ["kind"])


def test_no_label_at_all(table):
    with pytest.raises(DataError, match="no image has a label"):
        read_tasks(table("x", ["", "NA"]), ["x:regression"])


def test_hints_at_another_kind(table):
    rows = [f"{at}.5,name{at}" for at in range(30)]
    hints = read_tasks(table("price,name", rows), ["price", "name", "name:multilabel"][:2]).manifest.hints
    assert "say price:regression" in hints[0]
    assert "leave it out" in hints[1]
    assert "looks like classes" in read_tasks(table("t", ["a", "b"]), ["t:multilabel"]).manifest.hints[0]


def test_written_and_read_again(table):
    rows = [f"{'ab'[at % 2]},u|v,{at}.25,g{at // 2},{'train' if at < 6 else 'val'}" for at in range(10)]
    words = ["split", "tags:multilabel", "x:regression"]
    path = table("split,tags,x,group,set", rows)
    data = read_tasks(path, words, split_column="set")
    data = data.of(replace(data.manifest, items=tuple(hash_items(data.manifest.items)[0])))
    text = data.to_csv()
    assert text.splitlines()[0] == "path,set,group,sha256,split,tags,x"
    (path.parent / "w.csv").write_text(text)
    again = read_tasks(path.parent / "w.csv", words)
    assert again.tasks == data.tasks
    assert [replace(i, key=None) for i in data.manifest.items] == list(again.manifest.items)
    for one, other in zip(again.targets, data.targets, strict=True):
        np.testing.assert_array_equal(one, other)


def test_some_of_the_images_in_another_order(table):
    data = read_tasks(table("kind", list("abcab")), ["kind"])
    some = data.of(replace(data.manifest, items=data.manifest.items[3:0:-2]))
    assert some.targets[0].tolist() == [0, 1]
    assert some.cells == ((("a",),), (("b",),))


def shares(data, values):
    """Images of each value in each split."""
    counts = {name: Counter() for name in ("train", "val", "test")}
    for item, value in zip(data.manifest.items, values, strict=True):
        counts[item.split][value] += 1
    return counts


def test_splits_are_stratified_by_the_classes_that_can_be_divided(table):
    fine = [f"f{at % 4}" for at in range(79)] + ["rare"]
    rows = [f"{kind},{f'c{at}' if at % 3 else ''}" for at, kind in enumerate(fine)]
    data = split_tasks(read_tasks(table("fine,odd", rows), ["odd", "fine"]))
    assert "strata by 'fine'" in data.manifest.split_note
    counts = shares(data, fine)
    assert all(counts["val"][f"f{number}"] == 3 for number in range(4))
    assert sum(counts["val"].values()) == sum(counts["test"].values())


def test_numbers_alone_are_divided_by_size(table):
    numbers = np.random.default_rng(0).permutation(200)
    data = split_tasks(read_tasks(table("x", [str(n) for n in numbers]), ["x:regression"]))
    for split in ("train", "val", "test"):
        mean = np.mean([n for n, i in zip(numbers, data.manifest.items, strict=True) if i.split == split])
        assert mean == pytest.approx(99.5, abs=12)


def test_labels_are_divided_by_the_rarest(table):
    rows = ["all|rare" if at % 10 == 0 else "all" for at in range(100)]
    data = split_tasks(read_tasks(table("t", rows), ["t:multilabel"]))
    counts = shares(data, rows)
    assert counts["val"]["all|rare"] == counts["test"]["all|rare"] == 2


def test_groups_stay_together_and_the_impossible_is_still_divided(table):
    rows = [f"{'ab'[at % 2]},g{at // 10}" for at in range(60)]
    data = split_tasks(read_tasks(table("kind,group", rows), ["kind"]))
    where = {}
    for item in data.manifest.items:
        where.setdefault(item.group, set()).add(item.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert {item.split for item in data.manifest.items} == {"train", "val", "test"}


def test_given_splits_stay(table):
    rows = [f"{'ab'[at % 2]},{'train' if at < 8 else 'test'}" for at in range(12)]
    data = split_tasks(read_tasks(table("kind,split", rows), ["kind"]))
    assert data.manifest.split_sizes() == {"train": 8, "test": 4}
    assert "strata" not in data.manifest.split_note


def test_the_order_of_the_rows_does_not_matter(table):
    rows = [f"{'abc'[at % 3]},{at % 7}" for at in range(60)]
    path = table("kind,x", rows)
    lines = path.read_text().splitlines()
    (path.parent / "u.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    one, other = (split_tasks(read_tasks(path.parent / n, ["kind", "x:regression"])) for n in ("t.csv", "u.csv"))
    assert {i.path: i.split for i in one.manifest.items} == {i.path: i.split for i in other.manifest.items}
