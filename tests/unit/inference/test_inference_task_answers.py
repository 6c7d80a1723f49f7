"""Outputs of several tasks as answers and as columns."""

from types import SimpleNamespace

import numpy as np
import pytest

from regraft.inference.task_answers import (
    answer,
    distinct,
    labels_apply,
    output_names,
    sigmoid,
    task_cells,
    task_columns,
)


def part(name, kind, classes, thresholds=()):
    return SimpleNamespace(name=name, kind=kind, classes=classes, thresholds=thresholds)


PARTS = (
    part("gender", "classes", ("men", "women")),
    part("tags", "multilabel", ("red", "round"), (0.0, 1.0)),
    part("price", "regression", ("price",)),
    part("x,y", "regression", ("x", "y")),
)


def test_a_class_is_the_most_probable_one():
    (one,) = answer(PARTS[0], np.log([[0.2, 0.8]]))
    assert one.label == "women"
    assert one.probability == pytest.approx(0.8)
    assert one.probabilities == {"men": pytest.approx(0.2), "women": pytest.approx(0.8)}
    assert str(one) == "women 0.80"
    shifted = answer(PARTS[0], np.log([[0.2, 0.8]]) + 7)[0]
    assert shifted.probability == pytest.approx(one.probability)


def test_labels_apply_from_their_threshold_on():
    outputs = np.array([[0.0, 1.0], [-0.1, 0.9], [5.0, -5.0]])
    assert labels_apply(PARTS[1], outputs).tolist() == [[True, True], [False, False], [True, False]]
    both, none, one = answer(PARTS[1], outputs)
    assert (str(both), str(none), str(one)) == ("red|round", "-", "red")
    assert one.labels == ("red",)
    assert both.probabilities["round"] == pytest.approx(1 / (1 + np.exp(-1)))
    without = part("tags", "multilabel", ("red", "round"))
    assert labels_apply(without, outputs).tolist() == (outputs >= 0).tolist()


def test_the_sigmoid_is_exact_far_out():
    with np.errstate(all="raise", under="ignore"):
        far = sigmoid(np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0]))
    assert far == pytest.approx([0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 1])
    assert far + far[::-1] == pytest.approx(np.ones(5))


def test_cells_stand_below_their_columns():
    answers = {
        "gender": answer(PARTS[0], np.array([[1.0, 0.0]]))[0],
        "tags": answer(PARTS[1], np.array([[-3.0, -3.0]]))[0],
        "price": answer(PARTS[2], np.array([[12.25]]))[0],
        "x,y": answer(PARTS[3], np.array([[1.0, -2.0]]))[0],
    }
    columns = [name for name, _ in task_columns(PARTS)]
    assert columns == ["gender", "gender_probability", "tags", "p_red", "p_round", "price", "x", "y"]
    cells = dict(zip(columns, task_cells(PARTS, answers), strict=True))
    assert cells["gender"] == "men"
    assert cells["tags"] == "|"  # no label applies; an empty cell is not known
    assert (cells["price"], cells["x"], cells["y"]) == (12.25, 1.0, -2.0)
    assert str(answers["x,y"]) == "1,-2"
    assert task_cells(PARTS, {}) == [None] * len(columns)
    texts = {name for name, text in task_columns(PARTS) if text}
    assert texts == {"gender", "tags"}


def test_names_of_outputs_are_distinct():
    names = output_names(PARTS)
    assert names == ("gender=men", "gender=women", "tags=red", "tags=round", "price", "x,y=x", "x,y=y")
    alike = (part("a", "classes", ("b=c", "d")), part("a=b", "classes", ("c", "e")))
    assert output_names(alike) == ("a=b=c", "a=d", "a=b=c_", "a=b=e")
    assert distinct(["path", "error", "path", "path_"]) == ("path", "error", "path_", "path__")
