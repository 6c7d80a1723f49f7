"""Risk and coverage against numbers by hand and plain loops; thresholds against the binomial distribution."""

import numpy as np
import pytest
from scipy.stats import binom

from regraft.evaluation.abstaining import Kept, Threshold, choose_threshold, confidences, keep, risk_coverage
from regraft.evaluation.predictions import Predictions

ALL = np.array([True] * 4)


def test_by_hand():
    curve = risk_coverage(np.array([0.6, 0.9, 0.8, 0.7]), np.array([True, True, False, True]))
    assert curve.threshold.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert curve.accuracy.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4])
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_flawless_and_worthless():
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    assert risk_coverage(confidence, ALL).aurc == 0
    assert risk_coverage(confidence, ~ALL).aurc == 1
    # mistakes last: risk is max(0, 1 - right / kept)
    best = risk_coverage(np.linspace(1, 0, 10), np.arange(10) < 7)
    assert best.aurc == pytest.approx(sum(1 - 7 / k for k in (8, 9, 10)) / 10)


def test_ties_are_taken_in_random_order():
    confidence, correct = np.array([0.9, 0.9, 0.9, 0.5]), np.array([True, False, True, False])
    curve = risk_coverage(confidence, correct)
    assert curve.coverage.tolist() == [0.75, 1]
    generator = np.random.default_rng(0)
    broken = [risk_coverage(confidence + generator.uniform(0, 0.01, 4), correct).aurc for _ in range(4000)]
    assert curve.aurc == pytest.approx(np.mean(broken), abs=0.005)


def test_order_of_rows_and_rising_maps_of_confidence_change_nothing():
    generator = np.random.default_rng(1)
    confidence, correct = np.round(generator.uniform(size=300), 2), generator.uniform(size=300) < 0.7
    plain, order = risk_coverage(confidence, correct), generator.permutation(300)
    for again in (risk_coverage(confidence[order], correct[order]), risk_coverage(confidence**3, correct)):
        assert again.aurc == pytest.approx(plain.aurc)
        np.testing.assert_allclose(again.accuracy, plain.accuracy)


def test_the_curve_says_what_keep_keeps():
    generator = np.random.default_rng(2)
    confidence, correct = generator.uniform(size=50), generator.uniform(size=50) < 0.6
    curve = risk_coverage(confidence, correct)
    for i in (0, 20, 49):
        kept = keep(confidence, correct, curve.threshold[i])
        assert (kept.coverage, kept.accuracy) == pytest.approx((curve.coverage[i], curve.accuracy[i]))


def test_nothing_kept_has_no_accuracy():
    kept = keep(np.array([0.5]), np.array([True]), 0.6)
    assert kept == Kept(0, 0, 1)
    assert kept.accuracy is None
    assert kept.interval == (0, 1)
    assert kept.to_json()["coverage"] == 0


def test_confidences_leave_out_unknown_classes():
    logits = np.log(np.array([[0.7, 0.3], [0.2, 0.8], [0.4, 0.6]]))
    names = ("a", "b", "c")
    confidence, correct = confidences(Predictions(names, names, ("x", "y"), np.array([0, -1, 0]), logits))
    assert confidence.tolist() == pytest.approx([0.7, 0.6])
    assert correct.tolist() == [True, False]


def test_the_bound_is_where_the_binomial_test_turns():
    confidence = np.linspace(0.99, 0.5, 60)
    correct = np.arange(60) % 11 != 10  # 55 right
    found = choose_threshold(confidence, correct, 0.8)
    right = int(correct.sum())
    assert (found.value, found.coverage, found.reached) == (0, 1, True)
    assert binom.sf(right - 1, 60, found.promised) == pytest.approx(0.1, abs=1e-9)


def test_the_threshold_lies_between_what_is_kept_and_what_is_not():
    confidence = np.linspace(1, 0.51, 50)
    correct = np.arange(50) < 30
    found = choose_threshold(confidence, correct, 0.9)
    kept = keep(confidence, correct, found.value)
    assert kept.coverage == pytest.approx(found.coverage)
    assert kept.accuracy == pytest.approx(found.accuracy)
    passing = [k for k in range(1, 51) if binom.sf(min(k, 30) - 1, k, 0.9) <= 0.1]
    assert kept.kept == max(passing)


def test_what_cannot_be_reached_is_told_with_the_best_there_is():
    found = choose_threshold(np.array([0.9] * 10 + [0.6] * 10), np.array([True] * 10 + [False] * 10), 0.99)
    assert not found.reached
    assert found.promised == pytest.approx(0.1 ** (1 / 10))  # ten of ten right
    assert 0.6 < found.value < 0.9
    assert "cannot vouch for an accuracy of 0.99" in found.sentence("validation images")
    assert "0.794" in found.sentence("validation images")


def test_an_accuracy_out_of_reach_never_means_never_unsure():
    """All are right, so keeping all is the best there is; what is less certain than all of them is unsure."""
    confidence = np.array([0.95, 0.9, 0.8, 0.7])
    found = choose_threshold(confidence, ALL, 0.999)
    assert not found.reached
    assert found.coverage == 1
    assert keep(confidence, ALL, found.value).kept == 4
    assert keep(np.array([0.69]), np.array([True]), found.value).kept == 0
    assert "confidence 0.700" in found.sentence("validation images")
    nothing = choose_threshold(confidence, ~ALL, 0.5)  # equal bounds: the highest threshold
    assert nothing.coverage == 0.25


def test_all_wrong_keeps_no_promise():
    found = choose_threshold(np.array([0.9, 0.8]), np.array([False, False]), 0.5)
    assert (found.promised, found.reached) == (0, False)


def test_promises_are_kept_on_new_images():
    """The promise is broken in at most about one data set in ten, where the plain estimate breaks half of them."""
    generator = np.random.default_rng(5)

    def draw(n):
        confidence = generator.uniform(0.5, 1, n)
        return confidence, generator.uniform(size=n) < confidence

    fresh, right = draw(200_000)
    broken, plain, reached = [], [], 0
    for _ in range(400):
        confidence, correct = draw(250)
        found = choose_threshold(confidence, correct, 0.85)
        reached += found.reached
        broken.append(found.reached and keep(fresh, right, found.value).accuracy < 0.85)
        curve = risk_coverage(confidence, correct)
        simple = curve.threshold[np.flatnonzero(curve.accuracy >= 0.85)[-1]]
        plain.append(keep(fresh, right, simple).accuracy < 0.85)
    assert reached > 350
    assert np.mean(broken) < 0.13
    assert np.mean(plain) > 0.35


def test_as_json_and_back():
    found = choose_threshold(np.array([0.9, 0.8, 0.7]), np.array([True, True, False]), 0.6)
    assert Threshold(**found.to_json()) == found
