"""Words of --label, and cells as targets."""

import numpy as np
import pytest

from regraft.data.cells import open_table
from regraft.data.tasks import Task, known, learn_classes, means_tasks, parse_tasks, targets_of, task_from_json
from regraft.errors import DataError, OptionError


@pytest.fixture
def table(tmp_path):
    def make(header):
        path = tmp_path / "t.csv"
        path.write_text(header + "\n")
        return open_table(str(path))

    return make


HEADER = "path,gender,price,x,y,tags,attr_a,Attr_b,odd:regression"


@pytest.mark.parametrize(
    ("word", "name", "kind", "columns"),
    [
        ("gender", "gender", "classes", ("gender",)),
        ("Gender", "gender", "classes", ("gender",)),
        ("gender:classes", "gender", "classes", ("gender",)),
        ("price:regression", "price", "regression", ("price",)),
        ("x,y:regression", "x,y", "regression", ("x", "y")),
        ("tags:multilabel", "tags", "multilabel", ("tags",)),
        ("attr_a,Attr_b:multilabel", "attr_a,Attr_b", "multilabel", ("attr_a", "Attr_b")),
        ("attr_*:multilabel", "attr_*", "multilabel", ("attr_a", "Attr_b")),
        ("odd:regression", "odd:regression", "classes", ("odd:regression",)),
        ("odd:regression:regression", "odd:regression", "regression", ("odd:regression",)),
    ],
)
def test_words(table, word, name, kind, columns):
    (task,) = parse_tasks([word], table(HEADER))
    assert (task.name, task.kind, task.columns) == (name, kind, columns)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["price:regresion"], OptionError, "Did you mean price:regression"),
        (["gendr"], DataError, "Did you mean 'gender'"),
        (["gendr:regression"], DataError, "Did you mean 'gender'"),
        (["gender:what"], OptionError, "no kind of task 'what'"),
        (["x,y"], OptionError, "Say x,y:multilabel"),
        (["x,z:regression"], DataError, "no column 'z'"),
        (["b_*:multilabel"], DataError, "no column like 'b_\\*'"),
        (["x", "X"], OptionError, "names 'x' 2 times"),
        (["price", "price:regression"], OptionError, "names 'price' 2 times"),
    ],
)
def test_words_that_say_nothing(table, words, error, said):
    with pytest.raises(error, match=said) as caught:
        parse_tasks(words, table(HEADER))
    assert "\n" not in str(caught.value)


def test_one_plain_word_is_no_business_of_tasks():
    assert not means_tasks(["gender"])
    assert not means_tasks([])
    assert means_tasks(["a", "b"])
    assert means_tasks(["a:regression"])
    assert means_tasks(["a,b"])


def where(cells):
    return [f"t.csv, line {at + 2}" for at in range(len(cells))]


def learnt(task, cells):
    task = learn_classes(task, cells)
    return task, targets_of(task, cells, where(cells)).tolist()


def test_classes_in_natural_order_and_missing_ones():
    cells = [("b10",), ("b2",), ("",), ("b2",)]
    task, targets = learnt(Task("t", "classes", ("t",)), cells)
    assert task.classes == ("b2", "b10")
    assert targets == [1, 0, -1, 0]
    given = Task("t", "classes", ("t",), ("b2", "z"))
    assert targets_of(given, cells, where(cells)).tolist() == [-1, 0, -1, 0]


@pytest.mark.parametrize("cells", [[("",), ("",)], [("a",), ("a",), ("",)]])
def test_one_class_is_nothing_to_tell_apart(cells):
    with pytest.raises(DataError, match="needs two classes"):
        learn_classes(Task("t", "classes", ("t",)), cells)


@pytest.mark.parametrize("mark", ["|", ";", ","])
def test_lists(mark):
    cells = [(f"red{mark} blue",), ("blue",), ("",), (mark,), (f"red{mark}{mark}red",)]
    task, targets = learnt(Task("t", "multilabel", ("t",)), cells)
    assert (task.classes, task.separator) == (("blue", "red"), mark)
    assert targets == [[1, 1], [1, 0], [-1, -1], [0, 0], [0, 1]]
    fewer = Task("t", "multilabel", ("t",), ("red",), mark)
    assert targets_of(fewer, cells, where(cells)).tolist() == [[1], [0], [-1], [0], [1]]


def test_a_stronger_separator_leaves_commas_to_the_labels():
    task, targets = learnt(Task("t", "multilabel", ("t",)), [("a, b|c",), ("c",)])
    assert task.classes == ("a, b", "c")
    assert targets == [[1, 1], [0, 1]]


def test_columns_of_0_and_1():
    cells = [("1", "0"), ("0.0", ""), ("True", "false"), ("", "")]
    task, targets = learnt(Task("a,b", "multilabel", ("a", "b")), cells)
    assert task.classes == ("a", "b")
    assert targets == [[1, 0], [0, -1], [1, 0], [-1, -1]]
    one, targets = learnt(Task("a", "multilabel", ("a",)), [("1",), ("0",), ("",)])
    assert (one.classes, targets) == (("a",), [[1], [0], [-1]])


def test_other_values_than_0_and_1_are_named_with_their_place():
    with pytest.raises(DataError, match=r"t\.csv, line 3: '2' in column 'b' is neither 0 nor 1"):
        learnt(Task("a,b", "multilabel", ("a", "b")), [("1", "0"), ("0", "2")])


def test_numbers():
    cells = [("1.5", "-2e3"), ("", "7"), ("NA", "null")]
    task, targets = learnt(Task("x,y", "regression", ("x", "y"), ("x", "y")), cells)
    np.testing.assert_array_equal(targets, [[1.5, -2000], [np.nan, 7], [np.nan, np.nan]])
    assert task.classes == ("x", "y")
    assert known(np.array(targets)).tolist() == [True, True, False]


@pytest.mark.parametrize("cell", ["12,5", "abc", "inf", "1e999"])
def test_a_cell_that_is_no_number_is_named_with_its_place(cell):
    with pytest.raises(DataError, match=r"t\.csv, line 3: .* in column 'x' is no number") as caught:
        learnt(Task("x", "regression", ("x",), ("x",)), [("1",), (cell,)])
    assert repr(cell) in str(caught.value)


def test_a_task_survives_json():
    task = Task("t", "multilabel", ("t",), ("a", "b"), "|")
    assert task_from_json(task.to_json()) == task
