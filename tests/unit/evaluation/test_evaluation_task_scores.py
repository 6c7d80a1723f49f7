"""Several tasks on one part of the data: the mean score, what is left out, what is said beside the numbers."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, r2_score

from regraft.data.manifest import Item
from regraft.errors import DataError
from regraft.evaluation.metrics import evaluate
from regraft.evaluation.task_scores import TaskOutputs, evaluate_tasks

N = 40


@pytest.fixture
def items():
    return tuple(Item(f"/{n}.jpg", key=f"{n:03}") for n in range(N))


@pytest.fixture
def outputs():
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 3, N)
    labels = generator.integers(0, 2, (N, 2)).astype(np.int8)
    number = generator.normal(size=(N, 1)) * 5
    noise = generator.normal
    return (
        TaskOutputs("kind", "classes", ("a", "b", "c"), (), np.eye(3)[kind] * 2 + noise(size=(N, 3)), kind, kind),
        TaskOutputs("tags", "multilabel", ("l", "m"), (0.0, 0.0), labels + noise(size=(N, 2)), labels, labels),
        TaskOutputs("size", "regression", ("size",), (), number + noise(size=(N, 1)), number, number),
    )


def test_the_mean_is_of_accuracy_average_precision_and_r2(items, outputs):
    scores = evaluate_tasks(outputs, items, split="test")
    kind, tags, size = outputs
    wanted = [
        (kind.outputs.argmax(1) == kind.targets).mean(),
        average_precision_score(tags.targets, tags.outputs, average="macro"),
        r2_score(size.targets, size.outputs),
    ]
    assert [task.score[1] for task in scores.tasks] == pytest.approx(wanted)
    assert scores.mean == pytest.approx(np.mean(wanted))
    assert scores.scores["kind accuracy"] == pytest.approx(wanted[0])
    assert scores.scores["tags mean average precision"] == pytest.approx(wanted[1])
    assert scores.scores["size r2"] == pytest.approx(wanted[2])
    assert scores.scores.keys() == scores.intervals.keys()
    assert all(low <= scores.scores[name] <= high for name, (low, high) in scores.intervals.items())
    assert scores.to_json()["score"] == scores.mean
    assert scores.sentence().startswith(f"test score {scores.mean:.3f} (40 images, 3 tasks")
    assert len(scores.lines()) == 4


def test_a_task_has_the_numbers_that_it_has_alone(items, outputs):
    scores = evaluate_tasks(outputs, items, split="test", seed=3)
    alone = evaluate(outputs[0].predictions(items), split="test", seed=3)
    assert scores.tasks[0].evaluation.to_json() == alone.to_json()
    assert scores.tasks[0].alone == alone.scores["accuracy"]
    assert "of the task alone: the same" in scores.tasks[0].sentence()
    told = evaluate_tasks(outputs, items, split="test", alone={"kind": 0.25})
    assert [task.alone for task in told.tasks] == [0.25, None, None]


def test_the_order_of_images_and_tasks_does_not_matter(items, outputs):
    order = np.random.default_rng(1).permutation(N)
    turned = [
        TaskOutputs(t.name, t.kind, t.classes, t.thresholds, t.outputs[order], t.targets[order], t.training)
        for t in reversed(outputs)
    ]
    first, second = (
        evaluate_tasks(outputs, items, split="val"),
        evaluate_tasks(turned, [items[n] for n in order], split="val"),
    )
    assert first.mean == pytest.approx(second.mean, abs=1e-12)
    for name, value in first.scores.items():
        assert second.scores[name] == pytest.approx(value, abs=1e-12)


def test_what_is_worse_than_nothing_counts_as_nothing(items, outputs):
    size = outputs[2]
    wrong = TaskOutputs("size", "regression", ("size",), (), -size.targets, size.targets, size.targets)
    scores = evaluate_tasks([outputs[0], wrong], items, split="test")
    assert scores.tasks[1].score[1] < 0
    assert scores.mean == pytest.approx(scores.tasks[0].score[1] / 2)


def test_a_task_of_which_nothing_is_known_is_left_out_with_a_note(items, outputs):
    kind, tags, size = outputs
    unknown = [
        TaskOutputs("kind", "classes", kind.classes, (), kind.outputs, np.full(N, -1), kind.targets),
        TaskOutputs("tags", "multilabel", tags.classes, (0.0, 0.0), tags.outputs, tags.targets * 0, tags.targets),
        TaskOutputs("size", "regression", size.classes, (), size.outputs, size.targets * np.nan, size.targets),
    ]
    scores = evaluate_tasks([kind, *unknown[1:]], items, split="test")
    assert [task.name for task in scores.tasks] == ["kind"]
    assert len(scores.notes) == 2
    assert all("not measured" in note for note in scores.notes)
    with pytest.raises(DataError, match="Nothing can be measured"):
        evaluate_tasks(unknown, items, split="test")


def test_what_must_be_said_beside_the_numbers(items, outputs):
    assert evaluate_tasks(outputs, items, split="test").caution == ""
    assert "validation part" in evaluate_tasks(outputs, items, split="val").caution
    assert "thresholds were chosen on it" in evaluate_tasks(outputs, items, split="val", thresholds=True).caution
    assert "12 of 40 images were" in evaluate_tasks(outputs, items, split="all", seen=12).caution
    everything = evaluate_tasks(outputs, items, split="all")
    assert everything.sentence().startswith("score ")
    assert everything.tasks[2].sentence().startswith("size: mean absolute error")
    assert everything.tasks[1].sentence().startswith("tags: mean average precision")
    assert "1 of 40 images was" in evaluate_tasks(outputs, items, split="all", seen=1).caution


def test_the_headline_names_what_it_is_the_mean_of(items, outputs):
    assert (
        evaluate_tasks(outputs, items, split="test")
        .sentence()
        .endswith("(40 images, 3 tasks; mean of accuracy, mean average precision and R2)")
    )
    assert evaluate_tasks(outputs[2:], items, split="test").sentence().endswith("(40 images, 1 task; R2)")
    size = outputs[2]
    same = TaskOutputs("size", "regression", ("size",), (), size.outputs, size.targets * 0 + 3, size.targets)
    assert "nan" not in evaluate_tasks([same], items, split="test").sentence()
