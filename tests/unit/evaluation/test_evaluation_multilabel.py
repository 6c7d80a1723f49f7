"""Average precision and F1 against scikit-learn, whole, resampled and with what is not known."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from regraft.errors import DataError
from regraft.evaluation import multilabel
from regraft.evaluation.multilabel import _average_precision, choose_thresholds, evaluate_multilabel


def make(n=200, labels=5, seed=0, digits=9):
    generator = np.random.default_rng(seed)
    truth = (generator.random((n, labels)) < np.linspace(0.1, 0.6, labels)).astype(np.int8)
    return (generator.normal(size=(n, labels)) + 1.5 * truth - 0.5).round(digits), truth


def measure(scores, truth, thresholds=None, **options):
    limits = np.zeros(truth.shape[1]) if thresholds is None else thresholds
    names = [f"l{at}" for at in range(truth.shape[1])]
    return evaluate_multilabel(scores, truth, labels=names, thresholds=limits, split="test", **options)


@pytest.mark.parametrize("digits", [9, 0])
def test_scores_agree_with_scikit_learn(digits):
    scores, truth = make(digits=digits)
    limits = np.array([0.3, 0.0, -0.2, 0.5, 1.0])
    result = measure(scores, truth, limits)
    said = scores >= limits
    assert result.scores["mean_average_precision"] == pytest.approx(average_precision_score(truth, scores))
    assert result.scores["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro"))
    assert result.scores["micro_f1"] == pytest.approx(f1_score(truth, said, average="micro"))
    for at, label in enumerate(result.per_label):
        assert label.average_precision == pytest.approx(average_precision_score(truth[:, at], scores[:, at]))
        assert label.f1 == pytest.approx(f1_score(truth[:, at], said[:, at]))
        assert label.support == truth[:, at].sum()
    assert all(low < result.scores[key] < high for key, (low, high) in result.intervals.items())


def test_weights_mean_copies():
    scores, truth = make(40, 1, digits=0)
    precision = _average_precision(scores[:, 0], truth[:, 0])
    weights = np.random.default_rng(1).integers(0, 3, (6, 40))
    for row, found in zip(weights, precision(weights.astype(float)), strict=True):
        expected = average_precision_score(np.repeat(truth[:, 0], row), np.repeat(scores[:, 0], row))
        assert found == pytest.approx(expected)


def test_what_is_not_known_is_left_out_label_by_label():
    scores, truth = make()
    holes = truth.copy()
    holes[::3, 1] = -1
    holes[7] = -1
    result = measure(scores, holes)
    there = holes[:, 1] >= 0
    assert result.n == 199
    assert result.per_label[1].n == there.sum()
    expected = average_precision_score(truth[there, 1], scores[there, 1])
    assert result.per_label[1].average_precision == pytest.approx(expected)
    cells = holes >= 0
    assert result.scores["micro_f1"] == pytest.approx(f1_score(truth[cells], scores[cells] >= 0))


def test_a_label_that_nobody_has_is_left_out_of_the_means():
    scores, truth = make()
    truth[:, 0] = 0
    result = measure(scores, truth)
    assert result.scores["mean_average_precision"] == pytest.approx(
        average_precision_score(truth[:, 1:], scores[:, 1:])
    )
    assert result.scores["macro_f1"] == pytest.approx(f1_score(truth[:, 1:], scores[:, 1:] >= 0, average="macro"))
    assert result.per_label[0].average_precision is None
    assert "No image here has 'l0'" in result.notes[0]


def test_the_baselines_are_constant_answers():
    scores, truth = make()
    result = measure(scores, truth)
    everything = np.ones_like(truth)
    chance = average_precision_score(truth, np.zeros_like(scores))
    assert result.baselines["mean_average_precision"] == pytest.approx(chance)
    assert result.baselines["macro_f1"] == pytest.approx(f1_score(truth, everything, average="macro"))
    constants = [[(number >> at) & 1 for at in range(5)] for number in range(1, 32)]
    best = max(f1_score(truth, np.tile(answer, (200, 1)), average="micro") for answer in constants)
    assert result.baselines["micro_f1"] == pytest.approx(best)


def test_thresholds_are_the_best_there_are():
    scores, truth = make(digits=1)
    for label, threshold in enumerate(choose_thresholds(scores, truth)):
        y, s = truth[:, label], scores[:, label]
        best = max(f1_score(y, s >= limit) for limit in np.unique(s))
        assert f1_score(y, s >= threshold) == pytest.approx(best)
        assert threshold not in s


def test_labels_with_few_images_share_a_threshold():
    scores, truth = make()
    truth[:, 0] = 0
    truth[:3, 0] = 1
    truth[:, 1] = 1
    thresholds = choose_thresholds(scores, truth)
    best = max(f1_score(truth.ravel(), scores.ravel() >= limit) for limit in np.unique(scores))
    assert thresholds[0] == thresholds[1]
    assert f1_score(truth.ravel(), scores.ravel() >= thresholds[0]) == pytest.approx(best)
    np.testing.assert_array_equal(choose_thresholds(scores, np.zeros_like(truth)), 0)


def test_thresholds_do_not_see_what_is_not_known():
    scores, truth = make()
    holes = truth.copy()
    holes[50:90] = -1
    kept = np.r_[0:50, 90:200]
    np.testing.assert_array_equal(choose_thresholds(scores, holes), choose_thresholds(scores[kept], truth[kept]))


def test_the_order_of_the_images_does_not_matter():
    scores, truth = make()
    order = np.random.default_rng(0).permutation(200)
    one, other = measure(scores, truth), measure(scores[order], truth[order])
    assert one.intervals == other.intervals
    assert one.per_label == other.per_label
    np.testing.assert_array_equal(choose_thresholds(scores, truth), choose_thresholds(scores[order], truth[order]))


def test_words_and_json():
    result = measure(*make())
    assert result.sentence().startswith("test mean average precision 0.")
    assert "best constant" in result.sentence()
    values = json.loads(json.dumps(result.to_json()))
    assert values["per_label"][0]["label"] == "l0"
    assert values["mean_average_precision"] == result.score[1]


def test_nothing_to_measure():
    scores, truth = make(5)
    with pytest.raises(DataError, match="has any of the labels"):
        measure(scores, np.zeros_like(truth))
    with pytest.raises(DataError, match="not all finite"):
        measure(scores * np.nan, np.ones_like(truth))


def test_many_images_and_labels_are_resampled_less_often(monkeypatch):
    scores, truth = make()
    often = measure(scores, truth)
    monkeypatch.setattr(multilabel, "_CELLS", 300 * scores.size)
    rarely = measure(scores, truth)
    assert rarely.scores == often.scores
    assert rarely.intervals != often.intervals
    for name, bounds in rarely.intervals.items():
        assert bounds == pytest.approx(often.intervals[name], abs=0.02)
