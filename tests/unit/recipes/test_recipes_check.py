"""What becomes of images that show the same picture, and what is said of them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from regraft.data.manifest import Item, Manifest, Skipped
from regraft.errors import OptionError, RunExists
from regraft.evaluation.label_errors import LabelErrors
from regraft.recipes.check_findings import classes, identical, labels, straddling
from regraft.recipes.cleaned import Remark, check_clean_target, cleaned, write_cleaned


def manifest(*rows):
    """Items from (name, label, split, key) and perhaps a group."""
    items = tuple(Item(f"/d/{r[0]}", r[1], r[2], r[4] if len(r) > 4 else None, r[3]) for r in rows)
    return Manifest(items, tuple(sorted({r[1] for r in rows if r[1]})), "d")


def left(result):
    return [Path(item.path).name for item in result.items]


def test_of_identical_files_the_test_copy_stays():
    data = manifest(("a", "x", "train", "1"), ("b", "x", "val", "1"), ("c", "x", "test", "1"), ("d", "x", "train", "2"))
    kept, remarks = cleaned(data, [], [Skipped("/d/broken", "truncated JPEG")])
    assert left(kept) == ["c", "d"]
    assert [(Path(r.path).name, r.why) for r in remarks] == [
        ("broken", "truncated JPEG"),
        ("a", "identical to /d/c"),
        ("b", "identical to /d/c"),
    ]


def test_identical_files_with_different_labels_all_go():
    data = manifest(("a", "x", "train", "1"), ("b", "y", "train", "1"), ("c", "y", "train", "2"))
    kept, remarks = cleaned(data, [], [])
    assert left(kept) == ["c"]
    assert {r.why for r in remarks} == {"identical files have the labels x and y"}


def test_near_duplicates_leave_the_training_part_only_across_splits():
    data = manifest(*[(n, "x", s, n) for n, s in zip("abcde", ("train", "test", "train", "train", "val"), strict=True)])
    kept, remarks = cleaned(data, [(0, 1), (2, 3)], [])
    assert left(kept) == ["b", "c", "d", "e"]
    assert remarks == [Remark("/d/a", "x", "left out", "a near-duplicate of /d/b, which is in test")]
    assert [item.group for item in kept.items] == [None] * 4


def test_near_duplicates_share_a_group_where_there_are_no_splits():
    data = manifest(*[(n, "x", None, n) for n in "abcd"], ("e", "x", None, "e", "g"))
    kept, remarks = cleaned(data, [(0, 2), (3, 4)], [])
    assert remarks == []
    groups = [item.group for item in kept.items]
    assert groups[0] == groups[2] is not None
    assert groups[1] is groups[3] is None
    assert groups[4] == "g"


def test_nothing_is_left_out_of_sound_data():
    data = manifest(*[(n, "x", "train", n) for n in "abc"])
    assert cleaned(data, [], []) == (data, [])


def test_cleaned_is_written_beside_its_remarks(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    data = Manifest((Item(str(tmp_path / "a.jpg"), "x", "train", None, "1"),), ("x",), "d")
    target = tmp_path / "clean.csv"
    table = tmp_path / "table.csv"
    table.write_text("path,label\n")
    with pytest.raises(OptionError, match="replace the data themselves"):
        check_clean_target(table, table, overwrite=True)
    check_clean_target(target, table, overwrite=False)
    write_cleaned(
        data, [Remark(str(tmp_path / "b.jpg"), None, "left out", 'a "reason", with a comma')], target, overwrite=False
    )
    assert [row["path"] for row in csv.DictReader(target.read_text().splitlines())] == ["a.jpg"]
    rows = list(csv.DictReader((tmp_path / "clean.remarks.csv").read_text().splitlines()))
    assert rows == [{"path": "b.jpg", "label": "", "what": "left out", "why": 'a "reason", with a comma'}]
    with pytest.raises(RunExists):
        check_clean_target(target, table, overwrite=False)
    with pytest.raises(OptionError, match=r"ends in \.csv"):
        check_clean_target(tmp_path / "clean.xlsx", table, overwrite=False)


def test_identical_files_are_told_apart_by_what_they_do():
    data = manifest(
        *[("a", "x", "train", "1"), ("b", "x", "test", "1")],
        *[("c", "x", "train", "2"), ("d", "y", "train", "2")],
        *[("e", "x", "train", "3"), ("f", "x", "train", "3"), ("g", "x", "train", "3")],
    )
    found = {finding.kind: finding for finding in identical(data)}
    assert [f.matters for f in found.values()] == [True, True, False]
    shown = {kind: [[s.file for s in group] for group in f.groups] for kind, f in found.items()}
    assert shown == {
        "identical-across-splits": [["a", "b"]],
        "identical-labelled-differently": [["c", "d"]],
        "identical": [["e", "f", "g"]],
    }
    assert "(2 copies)" in found["identical"].sentence


def test_groups_and_guesses():
    rows = [(f"v1_f{n}.jpg", "x", "train" if n < 3 else "test", str(n)) for n in range(5)]
    (guess,) = straddling(manifest(*rows))
    assert (guess.kind, guess.matters) == ("guessed-videos", False)
    assert "guess" in guess.sentence
    (group,) = straddling(manifest(*[(*row, "walk") for row in rows]))
    assert (group.kind, group.matters) == ("groups-across-splits", True)


def test_classes_named_like_splits_matter():
    data = manifest(("a", "train", None, "1"), ("b", "test", None, "2"))
    first = next(classes(data, ()))
    assert (first.kind, first.matters) == ("classes-named-like-splits", True)
    alike = manifest(*[(str(n), ("dog", "Dogs")[n % 2], None, str(n)) for n in range(20)])
    kinds = {f.kind: f.sentence for f in classes(alike, ((0, 1, 0.52),))}
    assert "cannot tell them apart either" in kinds["classes-named-alike"]
    assert "(0.52)" in kinds["classes-alike"]


@pytest.mark.parametrize("pairs", [1, 2])
def test_sentences_agree_with_their_numbers(pairs):
    rows = [(f"{n}{side}", "x", side, str(n)) for n in range(pairs) for side in ("train", "test")]
    (finding,) = identical(manifest(*rows))
    expected = ("1 image stands in several", "by it") if pairs == 1 else ("2 images stand in several", "by them")
    assert finding.sentence.startswith(expected[0])
    assert finding.sentence.endswith(expected[1])


def test_a_share_that_rounds_to_nothing_is_not_told_as_none():
    data = manifest(("a", "x", None, "1"), ("b", "y", None, "2"))
    errors = LabelErrors(np.array([0]), np.array([1]), np.array([-0.5]), np.diag([0.5, 0.5]))
    (finding,) = labels(data, errors)
    assert finding.sentence.startswith("1 image looks more like another class to models that had not seen it")
    assert "below 0.1 %" in finding.sentence
