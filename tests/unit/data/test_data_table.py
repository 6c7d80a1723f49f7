import csv
import os
import sys
from pathlib import Path

import pytest

from regraft.data.folder import read_folder
from regraft.data.manifest import Item, Manifest, hash_items
from regraft.data.splits import make_splits
from regraft.data.table import further_columns, read_table
from regraft.errors import DataError, MissingExtra, SplitError


@pytest.fixture
def table(tree):
    """Writes a table beside the images a.png, b.png and sub/c.png."""

    def make(text, name="t.csv", encoding="utf-8"):
        root = tree("a.png", "b.png", "sub/c.png")
        data = text if isinstance(text, bytes) else text.encode(encoding)
        (root / name).write_bytes(data)
        return root / name

    return make


def cells(manifest):
    return [(Path(i.path).name, i.label, i.split, i.group) for i in manifest.items]


def test_a_table_with_everything(table):
    manifest = read_table(table("path,label,split,group\na.png,cat,Train,g1\nb.png,dog,dev,\nsub/c.png,cat,TEST,g1\n"))
    assert cells(manifest) == [
        ("a.png", "cat", "train", "g1"),
        ("b.png", "dog", "val", None),
        ("c.png", "cat", "test", "g1"),
    ]
    assert manifest.classes == ("cat", "dog")
    assert all(Path(item.path).is_absolute() and Path(item.path).is_file() for item in manifest.items)


@pytest.mark.parametrize("path", ["Path", "IMAGE", "image_path", "filename", "file", "filepath", "file_name", "img"])
@pytest.mark.parametrize("label", ["label", "Class", "target", "category", "label_name", "Y"])
def test_usual_column_names(table, path, label):
    assert cells(read_table(table(f"{label}, {path} ,subset,Patient\ncat,a.png,val,7\n"))) == [
        ("a.png", "cat", "val", "7")
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_of_csv(table, delimiter):
    manifest = read_table(table(delimiter.join(["path", "label"]) + "\n" + delimiter.join(["a.png", '"c,;d"']) + "\n"))
    assert cells(manifest) == [("a.png", "c,;d", None, None)]


@pytest.mark.parametrize("name", ["t.tsv", "t.txt", "T.TSV"])
def test_tabs(table, name):
    assert cells(read_table(table("path\tlabel\na.png\tx, y\n", name))) == [("a.png", "x, y", None, None)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(table, encoding):
    assert read_table(table("path,label\r\na.png,größe\r\n", encoding=encoding)).classes == ("größe",)


def test_bytes_that_are_not_utf8_survive(table):
    assert read_table(table(b"path,label\na.png,gr\xf6\xdfe\n")).classes == (os.fsdecode(b"gr\xf6\xdfe"),)


def test_a_label_is_text_and_sorted_as_people_count(table):
    manifest = read_table(table("path,label\na.png,10\nb.png,3\nsub/c.png,03\n"))
    assert manifest.classes == ("03", "3", "10")
    assert [item.label for item in manifest.items] == ["10", "3", "03"]


def test_empty_labels_stay_without(table):
    manifest = read_table(table("path,label\na.png,\nb.png,  \nsub/c.png,x\n"))
    assert [item.label for item in manifest.items] == [None, None, "x"]
    assert manifest.classes == ("x",)


def test_paths_relative_absolute_and_from_windows(table):
    path = table("path,label\n")
    path.write_text(f"path,label\n{path.parent / 'a.png'},x\nsub\\c.png,y\n ./sub/../b.png ,z\n")
    assert [item.path for item in read_table(path).items] == [
        str(path.parent / name) for name in ("a.png", "sub/c.png", "b.png")
    ]


def test_root(table, tmp_path):
    path = table("path,label\na.png,x\n")
    moved = tmp_path / "elsewhere.csv"
    moved.write_bytes(path.read_bytes())
    assert read_table(moved, root=path.parent).items[0].path == str(path.parent / "a.png")
    with pytest.raises(DataError, match=r"No file that elsewhere\.csv names is there \(1 missing\)") as error:
        read_table(moved)
    assert str(tmp_path / "a.png") in str(error.value)
    assert "--root" in str(error.value)


def test_ids(tree):
    root = tree("images/12.png", "images/13.JPG", "images/14.tiff")
    (root / "styles.csv").write_text("id,gender,season\n12,Men,Fall\n13,Women,Fall\n14,Men,Fall\n15,Men,Fall\n")
    manifest = read_table(root / "styles.csv", root=root / "images", label_column="gender", path_column="id")
    assert cells(manifest) == [
        ("12.png", "Men", None, None),
        ("13.JPG", "Women", None, None),
        ("14.tiff", "Men", None, None),
        ("15", "Men", None, None),
    ]
    assert [(Path(s.path).name, s.reason) for s in hash_items(manifest.items)[1]] == [("15", "file not found")]
    assert cells(read_table(root / "styles.csv", root=root / "images", label_column="gender")) == cells(manifest)
    with pytest.raises(DataError, match="no path column"):
        read_table(root / "styles.csv", label_column="gender")


def test_missing_files_stay_items_and_are_lost_when_read(table):
    manifest = read_table(table("path,label\na.png,x\nz.png,y\nb.png,x\nz.png,x\n"))
    assert cells(manifest) == [("a.png", "x", None, None), ("z.png", "y", None, None), ("b.png", "x", None, None)]
    assert manifest.classes == ("x", "y")
    assert [s.reason for s in manifest.skipped] == ["listed twice (t.csv, line 5)"]
    kept, lost = hash_items(manifest.items)
    assert [Path(item.path).name for item in kept] == ["a.png", "b.png"]
    assert [(Path(s.path).name, s.reason) for s in lost] == [("z.png", "file not found")]


def test_all_files_missing_is_an_error_whatever_else_is_wrong(table):
    with pytest.raises(DataError, match=r"No file that t\.csv names is there \(2 missing\)"):
        read_table(table("path,label\ny.png,x\nz.png,x\nz.png,y\n"))


def test_a_null_byte_in_a_path_is_a_missing_file(table):
    manifest = read_table(table("path,label\n" + "a.png,x\n" * 700 + "b\0.png,y\n"))
    reasons = [s.reason for s in (*hash_items(manifest.items)[1], *manifest.skipped) if "listed" not in s.reason]
    assert len(reasons) == 1
    assert "null byte" in reasons[0] or "NUL" in reasons[0]


def test_what_pandas_writes_for_nothing_is_no_label_but_other_words_are(table):
    words = ["NaN", "nan", "", "None", "NULL", "N/A", "NA", "NAN"]
    rows = "".join(f"{n}.png,{word},{word}\n" for n, word in enumerate(words))
    manifest = read_table(table(f"path,label,patient\na.png,x, nan \n{rows}"))
    assert [item.label for item in manifest.items] == ["x", None, None, None, *words[3:]]
    assert [item.group for item in manifest.items] == [None, None, None, None, *words[3:]]
    split = read_table(table("path,label,split\na.png,x,train\nb.png,x,NaN\n"))
    assert [item.split for item in split.items] == ["train", None]


def test_a_class_named_nan_survives_in_a_written_manifest(tree):
    root = tree("nan/1.png", "b/2.png")
    read_folder(root).write(root / "m.csv")
    assert read_table(root / "m.csv").classes == ("b", "nan")


def test_labels_that_look_like_no_classes_are_hinted_at(table):
    many = "".join(f"{n}.png,{n % 950}\n" for n in range(999))
    manifest = read_table(table(f"path,price\na.png,0\n{many}"), label_column="price")
    assert manifest.hints == (
        (
            "column 'price' has 950 different values in 1,000 rows: it looks like numbers or names, not classes;"
            " name another column with --label"
        ),
    )
    for classes, count in ((20, 20), (30, 60)):
        rows = "".join(f"{n}.png,{n % classes}\n" for n in range(count - 1))
        assert read_table(table(f"path,label\na.png,0\n{rows}")).hints == ()


def test_of_many_columns_some_are_named(table):
    with pytest.raises(DataError, match=r"'c29' and 70 more\."):
        read_table(table(",".join(f"c{n}" for n in range(100)) + "\n"))


def test_rows_that_do_not_fit_the_header_are_skipped(table):
    manifest = read_table(table('path,label\na.png,x,y\n\nb.png\n,z\nsub/c.png,w,,\n"a.png"b,x\n'))
    assert cells(manifest) == [("c.png", "w", None, None)]
    assert [(s.path, s.reason.split(" (")[0]) for s in manifest.skipped] == [
        ("t.csv, line 2", "3 cells where the header has 2; a cell that holds the delimiter needs quotes"),
        ("t.csv, line 4", "1 cells where the header has 2"),
        ("t.csv, line 5", "no path in this row"),
        ("t.csv, line 7", "malformed row"),
    ]


def test_an_open_quote_does_not_swallow_the_rest(table):
    with pytest.raises(DataError, match=r"t\.csv, line 3.*quote that is never closed"):
        read_table(table('path,label\na.png,x\nb.png,"5 inch\nsub/c.png,y\n'))


def test_cells_with_line_breaks(table):
    manifest = read_table(table('path,label\na.png,"two\nlines"\nb.png,x\nz.png,x\n'))
    assert manifest.classes == ("two\nlines", "x")
    assert len(manifest) == 3
    with pytest.raises(SplitError, match="line 5: 'odd' is no split"):
        read_table(table('path,label,split\na.png,"two\n\nlines",test\nb.png,x,odd\n'))


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("name,label", "a.png,x", ["no path column", "'name', 'label'", "--path-column"]),
        ("path,kind", "a.png,x", ["no label column", "'path', 'kind'", "--label"]),
        ("path,File,label", "a.png,a.png,x", ["several columns could be the path: 'path', 'File'", "--path-column"]),
        ("path,label,class", "a.png,x,y", ["several columns could be the label", "--label"]),
        ("path,label,split,set", "a.png,x,,", ["several columns could be the split", "--split-column"]),
        ("path,label,group,patient", "a.png,x,,", ["several columns could be the group", "--group-column"]),
    ],
)
def test_columns_that_are_missing_or_could_be_several(table, header, row, words):
    with pytest.raises(DataError) as error:
        read_table(table(f"{header}\n{row}\n"))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_named_columns(table):
    path = table("set,path,label,class,Kind,kind\nval,a.png,x,y,A,b\n")
    assert read_table(path, label_column="kind").classes == ("b",)
    assert read_table(path, label_column="CLASS").classes == ("y",)
    assert cells(read_table(path, label_column="set")) == [("a.png", "val", None, None)]
    assert cells(read_table(path, label_column="", split_column="")) == [("a.png", None, None, None)]
    with pytest.raises(DataError, match="2 columns named 'KIND'"):
        read_table(path, label_column="KIND")
    with pytest.raises(DataError, match=r"no column 'labl' \(--label\).*Did you mean 'label'"):
        read_table(path, label_column="labl")


def test_a_table_of_nothing_but_paths_has_no_labels(table):
    assert cells(read_table(table("path,split\na.png,test\n"))) == [("a.png", None, "test", None)]


def test_an_unknown_split_word_names_value_and_row(table):
    with pytest.raises(SplitError, match=r"t\.csv, line 3: 'holdout' is no split"):
        read_table(table("path,label,split\na.png,x,train\nb.png,x,holdout\n"))


def test_splits_given_for_some_rows_only(table):
    manifest = read_table(table("path,label,split\na.png,x,train\nb.png,x,\nsub/c.png,x,val\n"))
    with pytest.raises(SplitError, match=r"1 of 3 images have no split.*train 1, val 1.*--resplit"):
        make_splits(manifest)


def test_one_file_listed_twice(table):
    manifest = read_table(table("path,label\na.png,x\n./a.png,x\nb.png,y\n"))
    assert len(manifest) == 2
    assert [s.reason for s in manifest.skipped] == ["listed twice (t.csv, line 3)"]
    with pytest.raises(DataError, match=r"a\.png is listed with two labels: 'x' \(t\.csv, line 2\) and 'y'"):
        read_table(table("path,label\na.png,x\na.png,y\n"))
    with pytest.raises(DataError, match=r"'x' .* and none"):
        read_table(table("path,label\na.png,x\na.png,\n"))
    with pytest.raises(SplitError, match=r"two splits: 'train' .* and 'test'"):
        read_table(table("path,label,split\na.png,x,train\na.png,x,test\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no header"),
        (b"\n\n", "has no header"),
        (b"x" * 140_000, "has no header"),
        (b'"path', "has no header"),
        (b"path,label\n", "no usable row"),
        (b"\x00\x01\x02path", "not a text file"),
    ],
)
def test_files_that_are_no_table(table, content, message):
    with pytest.raises(DataError, match=message):
        read_table(table(content))


def test_a_cell_too_large(table):
    path = table("path,label\na.png," + "x" * (csv.field_size_limit() + 1) + "\nb.png,y\n")
    manifest = read_table(path)
    assert cells(manifest) == [("b.png", "y", None, None)]
    assert "field larger" in manifest.skipped[0].reason


def test_a_written_manifest_comes_back(tree, png):
    odd = (
        "plain.png",
        " spaces .png",
        "new\nline.png",
        "return\r.png",
        'quo"te,.png',
        "日本.png",
        os.fsdecode(b"\xff.png"),
    )
    root = tree()
    try:
        for name in odd:
            (root / name).write_bytes(png())
    except OSError:
        pytest.skip("this file system does not take every name")
    labels = [" a", "b\r", 'c"', "d,;\t", "e\n", "ü", os.fsdecode(b"\xfe")]
    items = tuple(
        Item(str(root / name), label, split, group, "0" * 64)
        for name, label, split, group in zip(odd, labels, ["train", "val", "test"] * 3, ["g", None] * 4, strict=False)
    )
    target = root.parent / "manifest.csv"
    Manifest(items, tuple(labels), "x").write(target)
    again = read_table(target)
    assert [(i.path, i.label, i.split, i.group) for i in again.items] == [
        (i.path, i.label, i.split, i.group) for i in items
    ]
    assert set(again.classes) == set(labels)
    assert all(item.key is None for item in again.items)


def parquet(path, /, **columns):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def test_parquet(tree):
    root = tree("a.png", "b.png")
    path = parquet(
        root / "t.parquet", image=["a.png", "b.png", None, "z.png"], label=[3, None, 1, 2], blob=[[1], [2], [3], [4]]
    )
    manifest = read_table(path)
    assert cells(manifest) == [("a.png", "3", None, None), ("b.png", None, None, None), ("z.png", "2", None, None)]
    assert [(s.path, s.reason) for s in manifest.skipped] == [("t.parquet, row 3", "no path in this row")]
    with pytest.raises(DataError, match="column 'blob' holds list"):
        read_table(path, label_column="blob")


def test_parquet_categories_and_missing_numbers(tree):
    pa = pytest.importorskip("pyarrow")
    root = tree("a.png", "b.png")
    labels = pa.array(["cat", "dog"]).dictionary_encode()
    path = parquet(root / "t.parquet", path=["a.png", "b.png"], label=labels, group=[float("nan"), 1.0])
    assert cells(read_table(path)) == [("a.png", "cat", None, None), ("b.png", "dog", None, "1.0")]


def test_broken_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        read_table(tmp_path / "t.parquet")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"regraft\[parquet\]"):
        read_table(tmp_path / "t.parquet")


def test_further_columns_are_those_that_a_manifest_does_not_hold(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "t.csv").write_text("path,kind,Class, ,group,x,X_\na.jpg,k,c,q,g, 1 ,2\nb.jpg,k,c\n")
    wanted = {"path": None, "label": "kind", "split": None, "group": None}
    found = further_columns(tmp_path / "t.csv", wanted)
    assert found.columns == ("kind", "Class_", "x", "X_")
    assert found.cells == {str(tmp_path / "a.jpg"): ("k", "c", " 1 ", "2")}
