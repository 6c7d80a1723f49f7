"""Errors, R2 and rank correlation against scikit-learn and scipy, whole and resampled."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as oracle

from regraft.errors import DataError
from regraft.evaluation.regression import _statistics, evaluate_regression


def make(n=150, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.normal(50, 10, (n, 2)).round(seed % 2)
    return truth + generator.normal(0, 4, (n, 2)), truth


def measure(told, truth, **options):
    names = [f"n{at}" for at in range(truth.shape[1])]
    given = {"names": names, "training": truth, "split": "test", **options}
    return evaluate_regression(told, truth, **given)


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_agree_with_scikit_learn_and_scipy(seed):
    """Seed 0 rounds to whole numbers: many ties."""
    told, truth = make(seed=seed)
    for column, number in enumerate(measure(told, truth).numbers):
        y, p = truth[:, column], told[:, column]
        assert number.scores["mae"] == pytest.approx(oracle.mean_absolute_error(y, p))
        assert number.scores["rmse"] == pytest.approx(oracle.root_mean_squared_error(y, p))
        assert number.scores["r2"] == pytest.approx(oracle.r2_score(y, p))
        assert number.scores["spearman"] == pytest.approx(spearmanr(y, p).statistic)
        assert all(low < number.scores[key] < high for key, (low, high) in number.intervals.items())


def test_weights_mean_copies():
    told, truth = (part[:, 0].round(-1) for part in make(40))
    statistics = _statistics(told, truth)
    weights = np.random.default_rng(3).integers(0, 4, (5, 40))
    for row, found in zip(weights, statistics(weights.astype(float)), strict=True):
        y, p = np.repeat(truth, row), np.repeat(told, row)
        expected = [
            oracle.mean_absolute_error(y, p),
            oracle.root_mean_squared_error(y, p),
            oracle.r2_score(y, p),
            spearmanr(y, p).statistic,
        ]
        np.testing.assert_allclose(found, expected)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        truth = generator.normal(size=(80, 1))
        told = truth + generator.normal(size=(80, 1))
        low, high = measure(told, truth).numbers[0].intervals["mae"]
        covered += low < np.sqrt(2 / np.pi) < high
    assert 50 <= covered <= 60


def test_the_baseline_is_the_training_part():
    told, truth = make()
    training = np.array([[0.0, 1.0], [np.nan, 1.0], [8.0, 1.0], [1.0, 4.0]])
    first, second = measure(told, truth, training=training).numbers
    assert first.baseline_mae == pytest.approx(np.abs(truth[:, 0] - 1).mean())
    assert first.baseline_rmse == pytest.approx(np.sqrt(np.square(truth[:, 0] - 3).mean()))
    assert second.baseline_mae == pytest.approx(np.abs(truth[:, 1] - 1).mean())


def test_what_is_not_known_is_not_counted():
    told, truth = make()
    holes = truth.copy()
    holes[::3, 0] = np.nan
    result = measure(told, holes, training=truth)
    there = np.isfinite(holes[:, 0])
    alone = measure(told[there], truth[there], training=truth)
    assert result.numbers[0] == alone.numbers[0]
    assert result.numbers[1].n == 150
    assert "50 images without 'n0' not counted." in result.notes


def test_the_order_of_the_images_does_not_matter():
    told, truth = make()
    order = np.random.default_rng(0).permutation(150)
    assert measure(told[order], truth[order]).numbers == measure(told, truth).numbers


def test_constants_have_no_r2_and_no_ranks():
    told, truth = make(30)
    result = measure(told, np.full((30, 2), 3.0))
    assert result.numbers[0].scores["r2"] is None
    assert result.numbers[0].scores["spearman"] is None
    assert result.score == ("mean_r2", None)
    same = measure(np.full((30, 2), 3.0), truth).numbers[0]
    assert same.scores["spearman"] is None
    assert same.scores["r2"] < 0.1


def test_words_and_json():
    told, truth = make()
    one = measure(told[:, :1], truth[:, :1])
    assert one.sentence().startswith("test mean absolute error ")
    assert "always answering the training median gives" in one.sentence()
    both = measure(told, truth)
    assert both.sentence().count("Spearman") == 2
    assert both.sentence().startswith("n0: test mean absolute error ")
    values = json.loads(json.dumps(both.to_json()))
    assert values["mean_r2"] == pytest.approx(np.mean([n.scores["r2"] for n in both.numbers]))


def test_nothing_to_measure():
    told, truth = make(5)
    with pytest.raises(DataError, match="No image of the part 'test' has a number in 'n0'"):
        measure(told, np.full_like(truth, np.nan), training=truth)
    with pytest.raises(DataError, match="of the training part"):
        measure(told, truth, training=np.full_like(truth, np.nan))
    with pytest.raises(DataError, match="not all finite"):
        measure(told * np.inf, truth)
