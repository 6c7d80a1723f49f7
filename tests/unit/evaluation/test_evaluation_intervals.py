import numpy as np
import pytest
from scipy.stats import binomtest

from regraft.evaluation.intervals import bootstrap, percentiles, wilson


@pytest.mark.parametrize("trials", [1, 2, 5, 40, 153, 100_000])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.948, 1.0])
def test_wilson_agrees_with_scipy(trials, share):
    successes = round(share * trials)
    oracle = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="wilson")
    np.testing.assert_allclose(wilson(successes, trials), oracle, rtol=1e-12, atol=1e-15)


def test_wilson_agrees_with_scipy_at_another_confidence():
    oracle = binomtest(7, 9).proportion_ci(confidence_level=0.8, method="wilson")
    np.testing.assert_allclose(wilson(7, 9, confidence=0.8), oracle, rtol=1e-12)


def test_wilson_takes_arrays_and_mirrors():
    trials = np.array([3, 10, 153])
    bounds = wilson(np.array([1, 10, 145]), trials)
    assert bounds.shape == (3, 2)
    np.testing.assert_allclose(wilson(trials - [1, 10, 145], trials), 1 - bounds[:, ::-1], atol=1e-15)


def test_wilson_of_nothing_says_nothing():
    np.testing.assert_array_equal(wilson(0, 0), [0.0, 1.0])


def test_bootstrap_spreads_a_mean_by_its_standard_error():
    values = np.random.default_rng(3).exponential(size=400)
    means = bootstrap(400, lambda weights: (weights @ values / 400)[:, None], seed=0, resamples=4000)
    assert means.shape == (4000, 1)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / 400**0.5 / 4000**0.5)
    assert means.std() == pytest.approx(values.std() / 400**0.5, rel=0.05)


def test_bootstrap_weights_are_counts_of_a_resample_also_across_blocks(monkeypatch):
    monkeypatch.setattr("regraft.evaluation.intervals._BLOCK", 100)  # 12 resamples a block
    seen = []
    bootstrap(8, lambda weights: seen.append(weights) or weights[:, :1], seed=0, resamples=50)
    weights = np.concatenate(seen)
    assert weights.shape == (50, 8)
    assert len(seen) == 5
    np.testing.assert_array_equal(weights.sum(axis=1), 8)
    assert weights.min() == 0
    assert weights.max() > 1


def test_bootstrap_depends_on_the_seed_alone():
    def first(weights):
        return weights[:, :1]

    np.testing.assert_array_equal(bootstrap(9, first, seed=5), bootstrap(9, first, seed=5))
    assert not np.array_equal(bootstrap(9, first, seed=5), bootstrap(9, first, seed=6))


def test_percentiles_hold_the_middle():
    samples = np.stack([np.arange(1001.0), -np.arange(1001.0)], axis=1)
    np.testing.assert_allclose(percentiles(samples), [[25, 975], [-975, -25]])
