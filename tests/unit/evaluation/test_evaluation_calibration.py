import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from regraft.evaluation.calibration import (
    BINS,
    calibration_error,
    calibration_interval,
    equal_mass_bins,
    error_by_chance,
    gap_columns,
)
from regraft.evaluation.intervals import bootstrap


def simulated(n, seed, overconfidence=0.0):
    rng = np.random.default_rng(seed)
    confidence = rng.beta(8, 1, n)
    return confidence, rng.random(n) < confidence * (1 - overconfidence)


def error_of(confidence, correct):
    return float(calibration_error(gap_columns(confidence, correct).sum(axis=0, keepdims=True))[0])


def interval_of(confidence, correct, seed=0):
    columns = gap_columns(confidence, correct)
    resampled = bootstrap(len(confidence), lambda w: calibration_error(w @ columns)[:, None], seed=seed)
    chance = error_by_chance(confidence, seed=seed)
    return calibration_interval(error_of(confidence, correct), resampled[:, 0], chance)


def test_error_agrees_with_scikit_learn_on_equal_bins():
    confidence, correct = simulated(1500, 0, 0.1)
    right, sure = calibration_curve(correct, confidence, n_bins=BINS, strategy="quantile")
    assert len(right) == BINS  # a hundred images each, so the mean over bins is the weighted mean
    assert error_of(confidence, correct) == pytest.approx(np.abs(right - sure).mean(), rel=1e-9)


def test_error_of_known_cases():
    sure = np.full(100, 1.0)
    assert error_of(sure, np.ones(100, bool)) == 0
    assert error_of(sure, np.zeros(100, bool)) == 1
    assert error_of(np.full(100, 0.7), np.arange(100) < 70) == pytest.approx(0, abs=1e-12)
    assert error_of(np.full(100, 0.9), np.arange(100) < 70) == pytest.approx(0.2)


def test_bins_hold_equally_many_images_and_equal_confidences_share_one():
    confidence = np.random.default_rng(1).random(300)
    np.testing.assert_array_equal(np.bincount(equal_mass_bins(confidence), minlength=BINS), 20)
    tied = np.repeat([0.3, 0.9, 1.0], [5, 50, 45])
    bins = equal_mass_bins(tied)
    assert [len(set(bins[tied == value])) for value in (0.3, 0.9, 1.0)] == [1, 1, 1]


def test_error_by_chance_agrees_with_drawing_outcomes():
    confidence, _ = simulated(600, 4)
    rng = np.random.default_rng(5)
    drawn = [error_of(confidence, rng.random(600) < confidence) for _ in range(400)]
    chance = error_by_chance(confidence, seed=0)
    assert chance.mean() == pytest.approx(np.mean(drawn), rel=0.05)
    assert np.quantile(chance, 0.975) == pytest.approx(np.quantile(drawn, 0.975), rel=0.1)


@pytest.mark.parametrize(("overconfidence", "truth"), [(0.0, 0.0), (0.2, 0.2 * 8 / 9)])
def test_interval_covers_the_true_error(overconfidence, truth):
    bounds = [interval_of(*simulated(200, seed, overconfidence)) for seed in range(80)]
    covered = np.mean([low <= truth <= high for low, high in bounds])
    assert covered >= 0.87  # nominal 0.95, 80 data sets


def test_interval_holds_the_measured_error():
    for seed in range(20):
        confidence, correct = simulated(60, seed, 0.02 * seed)
        low, high = interval_of(confidence, correct)
        assert 0 <= low <= error_of(confidence, correct) <= high <= 1
