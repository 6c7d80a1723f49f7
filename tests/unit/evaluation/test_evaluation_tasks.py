"""Each kind of task is measured in its own way and told beside the task alone."""

import json

import numpy as np
import pytest

from regraft.data.manifest import Item
from regraft.evaluation.tasks import evaluate_task


@pytest.fixture
def outputs():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 60)
    logits = generator.normal(size=(60, 3))
    logits[np.arange(60), truth] += 1
    truth[:4] = -1
    return logits, truth, [Item(f"i{at}.png") for at in range(60)]


def test_classes(outputs):
    logits, truth, items = outputs
    accuracy = float((logits.argmax(axis=1) == truth)[4:].mean())
    found = evaluate_task("kind", "classes", ("a", "b", "c"), logits, truth, items, split="test", alone=accuracy)
    assert found.score == ("accuracy", pytest.approx(accuracy))
    assert found.sentence().startswith("kind: test accuracy ")
    assert found.sentence().endswith("; accuracy of the task alone: the same")
    assert found.evaluation.n == 56


def test_labels(outputs):
    logits, truth, items = outputs
    tags = np.where(truth[:, None] < 0, -1, truth[:, None] == np.arange(3)).astype(np.int8)
    found = evaluate_task(
        "tags", "multilabel", ("a", "b", "c"), logits, tags, items, split="val", thresholds=(0, 0, 0), alone=0.25
    )
    assert found.score[0] == "mean_average_precision"
    assert found.sentence().endswith("mean average precision of the task alone: 0.250")


def test_numbers(outputs):
    logits, truth, items = outputs
    numbers = np.where(truth < 0, np.nan, truth)[:, None]
    training = np.full((5, 1), 2.0)
    options = {"split": "test", "training": training}
    found = evaluate_task("n", "regression", ("n",), logits[:, :1], numbers, items, **options)
    assert found.evaluation.numbers[0].baseline_mae == pytest.approx(np.nanmean(np.abs(numbers - 2)))
    values = json.loads(json.dumps(found.to_json()))
    assert (values["task"], values["score"], values["alone"]) == ("n", "r2", None)
    assert values["value"] == pytest.approx(found.evaluation.numbers[0].scores["r2"])
