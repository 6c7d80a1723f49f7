"""Confident learning, against examples that were worked by hand and against planted noise."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from regraft.evaluation.label_errors import (
    calibrated_joint,
    confident_joint,
    held_out_probabilities,
    inseparable,
    label_errors,
)
from regraft.evaluation.outliers import outliers

# Thresholds are the means of the given class: t0 = (0.9 + 0.7 + 0.2) / 3 = 0.6, t1 = (0.8 + 0.6) / 2 = 0.7.
PROBABILITIES = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.2, 0.8], [0.4, 0.6]])
TARGETS = np.array([0, 0, 0, 1, 1])


def test_confident_joint_by_hand():
    # Rows 0 and 1 reach t0, row 2 (labelled 0) and row 3 reach t1, row 4 reaches neither.
    assert confident_joint(PROBABILITIES, TARGETS).tolist() == [[2, 1], [0, 1]]
    joint = calibrated_joint(confident_joint(PROBABILITIES, TARGETS), TARGETS)
    np.testing.assert_allclose(joint, [[0.4, 0.2], [0.0, 0.4]])


def test_label_errors_by_hand():
    found = label_errors(PROBABILITIES, TARGETS)
    assert found.rows.tolist() == [2]
    assert found.suggested.tolist() == [1]
    assert found.margins[0] == pytest.approx(np.log(0.2 / 0.8))
    assert found.noise == pytest.approx(0.2)


def test_rows_that_were_never_held_out_take_no_part():
    likely = np.vstack([np.full((1, 2), np.nan), PROBABILITIES])
    found = label_errors(likely, np.concatenate([[1], TARGETS]))
    assert found.rows.tolist() == [3]
    assert found.noise == pytest.approx(0.2)


def blobs(seed=0, classes=4, each=100, flipped=0.1):
    """Normal blobs, labels flipped from each class to the next at a known rate."""
    rng = np.random.default_rng(seed)
    shown = np.repeat(np.arange(classes), each)
    features = rng.normal(size=(len(shown), 12)).astype(np.float32)
    features[np.arange(len(shown)), shown] += 6
    wrong = np.zeros(len(shown), bool)
    for label in range(classes):
        wrong[rng.permutation(np.flatnonzero(shown == label))[: round(flipped * each)]] = True
    return features, np.where(wrong, (shown + 1) % classes, shown), wrong, shown


@pytest.mark.parametrize("flipped", [0.0, 0.05, 0.15])
def test_planted_noise_is_recovered(flipped):
    features, given, wrong, shown = blobs(flipped=flipped)
    found = label_errors(held_out_probabilities(features, given, 4), given)
    assert found.noise == pytest.approx(flipped, abs=0.02)
    first = found.rows[: int(wrong.sum())]
    hits = wrong[first]
    assert hits.sum() >= 0.9 * len(first)
    assert (found.suggested[: len(first)] == shown[first])[hits].all()
    assert found.joint.sum() == pytest.approx(1)


def test_names_of_classes_do_not_matter():
    features, given, _, _ = blobs(1)
    turn = np.array([2, 0, 3, 1])
    likely = held_out_probabilities(features, given, 4, repeats=1)
    one, two = label_errors(likely, given), label_errors(likely[:, np.argsort(turn)], turn[given])
    np.testing.assert_array_equal(one.rows, two.rows)
    np.testing.assert_array_equal(turn[one.suggested], two.suggested)
    np.testing.assert_allclose(one.noise, two.noise)


def test_a_group_is_never_on_both_sides():
    """Copies with labels of their own: a probe that had seen one would repeat its label for the other."""
    rng = np.random.default_rng(4)
    features = np.repeat(rng.normal(size=(60, 200)), 2, axis=0).astype(np.float32)
    given = np.repeat(rng.integers(0, 2, 60), 2)
    groups = np.repeat(np.arange(60), 2)
    apart = held_out_probabilities(features, given, 2, groups=groups)
    leaked = held_out_probabilities(features, given, 2)
    assert (leaked.argmax(1) == given).mean() > 0.85
    assert (apart.argmax(1) == given).mean() < 0.65


def test_classes_that_are_one():
    features, given, _, _ = blobs(2, each=40, flipped=0)
    half = np.where((given == 3) & (np.arange(len(given)) % 2 == 0), 4, given)
    likely = held_out_probabilities(features, half, 5, repeats=1)
    ((a, b, area),) = inseparable(likely, half)
    assert (a, b) == (3, 4)
    both = np.isin(half, (3, 4))
    odds = np.log(likely[both, 3]) - np.log(likely[both, 4])
    assert area == pytest.approx(roc_auc_score(half[both] == 3, odds))
    assert inseparable(held_out_probabilities(features, given, 4, repeats=1), given) == ()


def test_outliers_are_far_from_their_class():
    rng = np.random.default_rng(5)
    features = (rng.normal(size=(2, 1, 40)) * 3 + rng.normal(size=(2, 60, 40))).reshape(120, 40).astype(np.float32)
    targets = np.repeat([0, 1], 60)
    features[7], features[90] = features[100], rng.normal(size=40) * 5
    rows, scores = outliers(features, targets)
    assert set(rows[:2].tolist()) == {7, 90}
    assert len(rows) <= 5
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_array_equal(outliers(features * 7, targets)[0], rows)


def test_small_classes_have_no_outliers():
    rng = np.random.default_rng(6)
    rows, _ = outliers(rng.normal(size=(9, 5)).astype(np.float32), np.zeros(9, np.int64))
    assert len(rows) == 0
