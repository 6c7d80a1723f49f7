"""Several tasks' heads side by side are the heads that each task alone would have."""

import json

import numpy as np
import pytest

from regraft import heads
from regraft.errors import BundleError, OptionError
from regraft.heads import multilabel, ridge
from regraft.heads.tasks import TaskHeads, TaskPart, fit_task


@pytest.fixture
def data(three):
    generator = np.random.default_rng(0)
    kinds = three.y.copy()
    kinds[::7] = -1
    tags = (three.X[:, :2] > 0).astype(np.int8)
    tags[3] = -1
    prices = three.X[:, :1].astype(np.float64) + generator.standard_normal((90, 1))
    prices[5:20] = np.nan
    return three.X, kinds, tags, prices


def fit_all(data, groups=None):
    features, kinds, tags, prices = data
    parts = []
    for name, kind, classes, targets in (
        ("kind", "classes", ("a", "b", "c"), kinds),
        ("tags", "multilabel", ("u", "v"), tags),
        ("price", "regression", ("price",), prices),
    ):
        fitted = fit_task(kind, "linear-probe", features, targets, len(classes), groups=groups, names=classes)
        parts.append(TaskPart(name, kind, classes, fitted.head, (0.5, -1.0) if kind == "multilabel" else ()))
    return TaskHeads(tuple(parts))


@pytest.mark.parametrize("grouped", [False, True])
def test_each_task_equals_its_own_head_exactly(data, grouped):
    features, kinds, tags, prices = data
    groups = np.array([f"g{at // 2}" for at in range(90)]) if grouped else None
    together = fit_all(data, groups)
    logits, places = together.logits(features), together.slices()
    assert places == {"kind": slice(0, 3), "tags": slice(3, 5), "price": slice(5, 6)}
    own = lambda rows: None if groups is None else groups[rows]  # noqa: E731
    rows = np.flatnonzero(kinds >= 0)
    alone = heads.fit("linear-probe", features[rows], kinds[rows], 3, groups=own(rows)).head
    np.testing.assert_array_equal(logits[:, places["kind"]], alone.logits(features))
    rows = np.flatnonzero(tags[:, 0] >= 0)
    alone = multilabel.fit(features[rows], tags[rows], 2, groups=own(rows)).head
    np.testing.assert_array_equal(logits[:, places["tags"]], alone.logits(features))
    rows = np.flatnonzero(np.isfinite(prices[:, 0]))
    alone = ridge.fit(features[rows], prices[rows], 1, groups=own(rows)).head
    np.testing.assert_array_equal(logits[:, places["price"]], alone.logits(features))


def test_saved_and_loaded_it_is_the_same(data):
    together = fit_all(data)
    settings = json.loads(json.dumps(together.settings()))
    again = heads.load("tasks", together.arrays(), settings)
    np.testing.assert_array_equal(again.logits(data[0]), together.logits(data[0]))
    assert again.slices() == together.slices()
    assert [part.thresholds for part in again.parts] == [(), (0.5, -1.0), ()]
    assert [part.kind for part in again.parts] == ["classes", "multilabel", "regression"]
    with pytest.raises(BundleError, match="parts"):
        heads.load("tasks", {"0.bias": np.zeros(1)}, settings)


def test_more_than_ten_tasks_are_not_mixed_up(data):
    features, kinds, _, _ = data
    one = fit_task("classes", "nearest-mean" if "nearest-mean" in heads.NAMES else "knn", features, kinds, 3).head
    two = fit_task("classes", "linear-probe", features, kinds, 3).head
    parts = [TaskPart(f"t{at}", "classes", ("a", "b", "c"), two if at == 1 else one) for at in range(12)]
    together = TaskHeads(tuple(parts))
    again = heads.load("tasks", together.arrays(), together.settings())
    np.testing.assert_array_equal(again.logits(features), together.logits(features))


def test_new_thresholds(data):
    changed = fit_all(data).with_thresholds({"tags": np.array([1.0, 2.0])})
    assert [part.thresholds for part in changed.parts] == [(), (1.0, 2.0), ()]


@pytest.mark.parametrize("strategy", ["knn", "svm-linear"])
def test_any_head_serves_classes(data, strategy):
    assert fit_task("classes", strategy, data[0], data[1], 3).head.name == strategy


def test_neighbours_tell_numbers(data):
    assert fit_task("regression", "knn", data[0], data[3], 1).head.name == "knn-regression"


@pytest.mark.parametrize(
    ("kind", "said"), [("multilabel", "linear-probe does"), ("regression", "linear-probe and knn do")]
)
def test_heads_that_do_not_serve_say_which_do(data, kind, said):
    with pytest.raises(OptionError, match=f"mlp does not serve a {kind} task; {said}"):
        fit_task(kind, "mlp", data[0], data[2] if kind == "multilabel" else data[3], 2)


def test_several_tasks_are_no_strategy():
    assert not {"tasks", "ridge", "multilabel"} & set(heads.NAMES)
    assert "tasks" in heads.LOADED
