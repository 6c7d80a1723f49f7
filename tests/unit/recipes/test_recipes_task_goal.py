"""One linear map over all tasks' outputs against the heads of the tasks."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, r2_score

from regraft.data.tasks import Task
from regraft.heads.tasks import TaskHeads, TaskPart, fit_task
from regraft.models.heads import make_head, to_head
from regraft.recipes.task_goal import Columns, apart, mean_score, task_score, together

N, WIDTH = 90, 12
KIND = Task("kind", "classes", ("kind",), ("a", "b", "c", "never"))
TAGS = Task("tags", "multilabel", ("x", "y"), ("x", "y"))
SIZES = Task("sizes", "regression", ("w", "h"), ("w", "h"))


@pytest.fixture(scope="module")
def material():
    generator = np.random.default_rng(0)
    features = (generator.gamma(2, size=(N, WIDTH)) * generator.uniform(0.1, 3, WIDTH)).astype(np.float32)
    kind = np.digitize(features[:, 0], np.quantile(features[:, 0], [0.33, 0.66])).astype(np.int64)
    kind[::9] = -1
    tags = (features[:, 1:3] > np.median(features[:, 1:3], axis=0)).astype(np.int8)
    tags[::7, 1] = -1
    sizes = np.stack([1000 + 50 * features[:, 3], features[:, 4] / 100], axis=1)
    sizes[::5] = np.nan
    targets = (kind, tags, sizes)
    columns = (
        Columns(KIND, slice(0, 4), np.arange(3), np.zeros(4), np.ones(4)),
        Columns(TAGS, slice(4, 6), np.arange(2), np.zeros(2), np.ones(2)),
        Columns(SIZES, slice(6, 8), np.arange(2), np.nanmean(sizes, axis=0), np.nanstd(sizes, axis=0)),
    )
    parts = []
    for column, own in zip(columns, targets, strict=True):
        task = column.task
        fitted = fit_task(task.kind, "linear-probe", features, own, len(task.classes))
        parts.append(TaskPart(task.name, task.kind, task.classes, fitted.head))
    return features, targets, columns, TaskHeads(tuple(parts))


def test_heads_of_tasks_become_one_linear_head_and_come_back(material):
    features, _, columns, heads = material
    module = make_head("linear", WIDTH, 8, probe=together(heads, columns), seed=0)
    back = apart(to_head(module, 8, np.arange(8)), columns)
    assert [type(part.head) for part in back.parts] == [type(part.head) for part in heads.parts]
    for part, own in zip(heads.parts, back.parts, strict=True):
        expected, found = part.head.logits(features), own.head.logits(features)
        if part.kind == "classes":
            expected, found = (one - one[:, :1] for one in (expected[:, :3], found[:, :3]))
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_trained_outputs_of_numbers_are_standardised(material):
    features, (_, _, sizes), columns, heads = material
    module = make_head("linear", WIDTH, 8, probe=together(heads, columns), seed=0)
    with torch.no_grad():
        told = module(torch.from_numpy(features)).numpy()[:, 6:]
    known = np.isfinite(sizes).all(axis=1)
    np.testing.assert_allclose(told[known].mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(told[known].std(axis=0), 1, atol=0.1)


def test_a_shared_hidden_layer_comes_apart_too(material):
    features, _, columns, _ = material
    module = make_head("mlp", WIDTH, 8, seed=0)
    torch.manual_seed(0)
    torch.nn.init.normal_(module[-1].weight)
    torch.nn.init.normal_(module[-1].bias)
    with torch.no_grad():
        raw = module(torch.from_numpy(features)).numpy().astype(np.float64)
    heads = apart(to_head(module, 8, np.arange(8)), columns)
    told = heads.logits(features)
    np.testing.assert_allclose(told[:, :3], raw[:, :3], atol=1e-4)
    np.testing.assert_allclose(told[:, 4:6], raw[:, 4:6], atol=1e-4)
    expected = raw[:, 6:] * columns[2].spread + columns[2].mean
    np.testing.assert_allclose(told[:, 6:], expected, rtol=1e-4, atol=1e-2)  # float32, numbers in the hundreds
    assert (told[:, 3] < told[:, :3].min(axis=1)).all(), "a class without an image is never first"


def test_temperatures_divide_the_logits_of_their_task_alone(material):
    features, _, columns, heads = material
    shared = to_head(make_head("linear", WIDTH, 8, probe=together(heads, columns), seed=0), 8, np.arange(8))
    plain, warm = apart(shared, columns).logits(features), apart(shared, columns, {"kind": 2.0}).logits(features)
    np.testing.assert_allclose(warm[:, :3], plain[:, :3] / 2)
    np.testing.assert_array_equal(warm[:, 4:], plain[:, 4:])


def test_scores_are_those_of_scikit_learn_on_what_is_known(material):
    features, (kind, tags, sizes), _, heads = material
    told, slices = heads.logits(features), heads.slices()
    known = kind >= 0
    assert task_score(KIND, told[:, slices["kind"]], kind) == pytest.approx(
        accuracy_score(kind[known], told[known, :4].argmax(1))
    )
    there = tags[:, 1] >= 0
    expected = np.mean(
        [average_precision_score(tags[:, 0], told[:, 4]), average_precision_score(tags[there, 1], told[there, 5])]
    )
    assert task_score(TAGS, told[:, 4:6], tags) == pytest.approx(expected)
    numbers = np.isfinite(sizes).all(axis=1)
    assert task_score(SIZES, told[:, 6:], sizes) == pytest.approx(r2_score(sizes[numbers], told[numbers, 6:]))


def test_what_cannot_be_scored_is_none():
    assert task_score(KIND, np.zeros((2, 4)), np.array([-1, -1])) is None
    assert task_score(TAGS, np.zeros((2, 2)), np.zeros((2, 2), np.int8)) is None
    assert task_score(SIZES, np.zeros((2, 2)), np.full((2, 2), np.nan)) is None
    assert task_score(SIZES, np.zeros((3, 2)), np.ones((3, 2))) is None


def test_the_mean_takes_a_score_below_zero_as_zero():
    assert mean_score({"a": 0.5, "b": -3.0}) == 0.25
    assert np.isnan(mean_score({}))
