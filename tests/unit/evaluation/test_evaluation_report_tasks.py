"""The report of several tasks: every number that it shows is one that was measured."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from regraft.data.manifest import Item
from regraft.evaluation.report import scatter
from regraft.evaluation.report.tasks import TaskReport, render_tasks
from regraft.evaluation.task_scores import TaskOutputs, evaluate_tasks

N = 60


@pytest.fixture
def report():
    generator = np.random.default_rng(0)
    items = tuple(Item(f"/photos/{n}.jpg", key=f"{n:03}") for n in range(N))
    outputs = []
    for number in range(8):
        kind = generator.integers(0, 12, N)
        told = np.eye(12)[kind] * 2 + generator.normal(size=(N, 12))
        outputs.append(
            TaskOutputs(f"task <{number}>", "classes", tuple(f"c{n}" for n in range(12)), (), told, kind, kind)
        )
    labels = generator.integers(0, 2, (N, 3)).astype(np.int8)
    told = labels + generator.normal(size=(N, 3))
    outputs.append(TaskOutputs("tags", "multilabel", ("l", "m", "n"), (0.1, 0.2, 0.3), told, labels, labels))
    numbers = generator.normal(size=(N, 2)) * 5
    numbers[3] = np.nan
    outputs.append(
        TaskOutputs(
            "x,y",
            "regression",
            ("x", "y"),
            (),
            np.nan_to_num(numbers) + generator.normal(size=(N, 2)),
            numbers,
            numbers,
        )
    )
    return TaskReport("ten tasks", "regraft train", evaluate_tasks(outputs, items, split="test"), tuple(outputs), items)


def grey(_path):
    return Image.new("RGB", (200, 150), (120, 120, 120))


def test_every_task_has_a_row_and_a_section(report):
    page = render_tasks(report, grey)
    assert page.lstrip().startswith("<!DOCTYPE html>")
    assert f"{report.scores.mean:.3f}" in page
    rows = re.findall(r'<th scope="row"><a href="#(task-\d+)">(.*?)</a></th>', page)
    assert [anchor for anchor, _ in rows] == [f"task-{n}" for n in (*range(1, 11), 10)]  # x and y share a section
    assert rows[0][1] == "task &lt;0&gt;"
    assert all(page.count(f'id="task-{n}"') == 1 for n in range(1, 11))
    for task in report.scores.tasks:
        for value in (task.score[1],):
            assert f"{value:.3f}" in page or task.kind == "regression"
    assert page.count("Confusion matrix: rows what the images show") == 8
    assert len(page) < 1_500_000
    assert page == render_tasks(report, grey)


def test_the_scatter_shows_each_known_number_where_it_is(report):
    own = report.outputs[-1]
    drawn = scatter.describe(report.items, own.targets[:, 0], own.outputs[:, 0])
    assert len(drawn.points) == N - 1
    left, right, top, bottom = scatter.PLACES
    assert all(left <= x <= right and top <= y <= bottom for x, y in drawn.points)
    known = np.isfinite(own.targets[:, 0])
    xs, ys = np.array(drawn.points).T
    across = np.polyfit(own.targets[known, 0], xs, 1)
    up = np.polyfit(own.outputs[known, 0], ys, 1)
    assert np.polyval(across, own.targets[known, 0]) == pytest.approx(xs, abs=0.1)
    assert np.polyval(up, own.outputs[known, 0]) == pytest.approx(ys, abs=0.1)
    assert across[0] > 0 > up[0]
    # Both axes span the same: on the diagonal the numbers are equal.
    x0, y0, x1, y1 = drawn.diagonal
    assert np.roots(across - [0, x0])[0] == pytest.approx(np.roots(up - [0, y0])[0], abs=0.3)
    assert np.roots(across - [0, x1])[0] == pytest.approx(np.roots(up - [0, y1])[0], abs=0.3)
    errors = np.abs(own.outputs[:, 0] - own.targets[:, 0])
    worst = [report.items[n].path for n in np.argsort(-np.nan_to_num(errors))[:4]]
    assert [error.path for error in drawn.errors] == worst


def test_equal_numbers_and_very_many_can_be_drawn(report):
    same = np.full(N, 3.0)
    drawn = scatter.describe(report.items, same, same)
    assert len(set(drawn.points)) == 1
    many = np.arange(5000.0)
    drawn = scatter.describe([report.items[0]] * 5000, many, many)
    assert (len(drawn.points), drawn.left_out) == (1500, 3500)


def test_what_is_missing_is_left_out(report):
    alone = replace(report, scores=replace(report.scores, tasks=report.scores.tasks[:1]))
    page = render_tasks(alone, grey)
    assert "mean of 1 task<" in page
    assert "Largest errors" not in page
    assert "Labels, the weakest first" not in page
    trained = replace(
        report, scores=replace(report.scores, tasks=tuple(replace(t, alone=None) for t in report.scores.tasks))
    )
    assert "same by construction" in page
    assert "same by construction" not in render_tasks(trained, grey)
