"""Change pairs from a table."""

from pathlib import Path

import pytest

from regraft.data.pair_table import is_pair_table, read_pair_table
from regraft.data.pairs import read_pairs
from regraft.errors import DataError


@pytest.fixture
def table(tmp_path):
    """Write a table beside three pairs of files; the files need no content, as only their names are looked at."""
    for kind in ("a", "b", "m"):
        (tmp_path / kind).mkdir()
        for number in range(3):
            (tmp_path / kind / f"{number}.png").write_bytes(b"x")

    def write(*lines, name="pairs.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    return write


HEADER = "before,after,label,split,name"


def row(number, split="train", name=""):
    return f"a/{number}.png,b/{number}.png,m/{number}.png,{split},{name}"


def refusal(path, **how):
    with pytest.raises(DataError) as caught:
        read_pair_table(path, **how)
    return str(caught.value)


def test_every_column(table, tmp_path):
    path = table(HEADER, row(0), row(1, "validation", "second"), row(2, " Test "))
    pairs = read_pair_table(path)
    assert [item.name for item in pairs.items] == ["0.png", "second", "2.png"]
    assert [item.split for item in pairs.items] == ["train", "val", "test"]
    for number, item in enumerate(pairs.items):
        found = [item.before, item.after, item.label]
        assert found == [str(tmp_path / kind / f"{number}.png") for kind in ("a", "b", "m")]
    assert (pairs.source, pairs.split_note) == (str(path), "as given (pairs.csv)")
    assert pairs.split_sizes() == {"train": 1, "val": 1, "test": 1}


def test_columns_in_any_order_and_case_and_more_of_them(table):
    path = table("id,After,BEFORE,cloud,Label", "7,b/0.png,a/0.png,0.3,m/0.png", "8,b/1.png,a/1.png,0.1,m/1.png")
    pairs = read_pair_table(path)
    assert [Path(item.before).parent.name for item in pairs.items] == ["a", "a"]
    assert {item.split for item in pairs.items} == {None}
    assert pairs.split_note == "none given"


def test_without_labels_where_none_are_needed(table):
    path = table("before,after", "a/0.png,b/0.png")
    assert read_pair_table(path, labelled=False).items[0].label is None
    assert "no column 'label'" in refusal(path)
    path = table("before,after,label", "a/0.png,b/0.png,", "a/1.png,b/1.png,m/1.png")
    assert [item.label is None for item in read_pair_table(path, labelled=False).items] == [True, False]
    assert "has no label" in refusal(path)


def test_absolute_paths_and_other_separators(table, tmp_path):
    path = table("before\tafter\tlabel", f"{tmp_path / 'a' / '1.png'}\tb/1.png\tm/1.png", name="pairs.tsv")
    assert is_pair_table(path)
    assert read_pair_table(path).items[0].before == str(tmp_path / "a" / "1.png")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("before,label", "a/0.png,m/0.png"), "no column 'after'; its columns: before, label"),
        ((HEADER, row(0), row(1, "holdout")), "split 'holdout' is unknown"),
        ((HEADER, row(0), "a/1.png,,m/1.png,,"), "has no after"),
        ((HEADER, row(0), row(9)), "'a/9.png' of before is not there"),
        ((HEADER, row(0), row(0, "val")), "the pair '0.png' stands in"),
        ((HEADER, row(0, "train", "x"), row(1, "val", "x")), "the pair 'x' stands in"),
        ((HEADER,), "no rows"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(table, lines, told):
    path = table(*lines)
    message = refusal(path)
    assert told in message
    assert "pairs.csv" in message


def test_the_line_is_named(table):
    assert ":3" in refusal(table(HEADER, row(0), row(1, "holdout"))) or "line 3" in refusal(
        table(HEADER, row(0), row(1, "holdout"))
    )


def test_which_files_are_tables_of_pairs(table, tmp_path):
    assert is_pair_table(table(HEADER, row(0)))
    assert is_pair_table(str(table(" Before ,AFTER", "a,b")))
    assert not is_pair_table(table("image,label", "a/0.png,cat", name="images.csv"))
    assert not is_pair_table(table(HEADER, row(0), name="pairs.txt.bak"))
    assert not is_pair_table(tmp_path)
    assert not is_pair_table(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert not is_pair_table(tmp_path / "empty.csv")
    (tmp_path / "odd.csv").write_bytes(bytes(range(256)))
    assert not is_pair_table(tmp_path / "odd.csv")


def test_the_manifest_of_pairs_is_a_table_of_them(table, tmp_path):
    for kind, name in (("A", "a"), ("B", "b"), ("label", "m")):
        (tmp_path / name).rename(tmp_path / kind)
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "train.txt").write_text("0.png\n2.png\n")
    (tmp_path / "list" / "val.txt").write_text("1.png\n")
    pairs = read_pairs(tmp_path)
    pairs.write(tmp_path / "manifest.csv")
    again = read_pair_table(tmp_path / "manifest.csv")
    assert again.items == pairs.items
    assert again.sha256() == pairs.sha256()
