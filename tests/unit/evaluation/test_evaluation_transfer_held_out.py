"""Nearest neighbours and logistic regression on images that they have not seen, against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from regraft.evaluation.transfer.held_out import held_out_log_probabilities
from regraft.evaluation.transfer.neighbours import left_out_neighbours
from regraft.heads.folds import make_folds
from regraft.heads.linear_probe import STRENGTHS
from regraft.heads.linear_probe import fit as fit_probe
from regraft.heads.scaling import learn_scaling


def clouds(n_images=120, width=16, n_classes=3, *, apart=0.8, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(n_images) % n_classes)
    middles = generator.standard_normal((n_classes, width)) * apart
    return (middles[targets] + generator.standard_normal((n_images, width))).astype(np.float32), targets


@pytest.mark.parametrize("neighbours", [1, 3])
def test_neighbours_are_those_of_leaving_each_out(neighbours):
    features, targets = clouds(n_classes=2)  # two classes and an odd number: no draws
    knn = KNeighborsClassifier(neighbours, metric="cosine")
    oracle = cross_val_predict(knn, features, targets, cv=LeaveOneOut())
    said = left_out_neighbours(features, targets, np.arange(120), neighbours=neighbours)
    np.testing.assert_array_equal(said, oracle)
    assert 0.6 < (said == targets).mean() < 1


def test_neighbours_do_not_see_scale_or_order(monkeypatch):
    features, targets = clouds()
    said = left_out_neighbours(features, targets, np.arange(120))
    scales = np.random.default_rng(1).uniform(0.1, 10, (120, 1)).astype(np.float32)
    np.testing.assert_array_equal(left_out_neighbours(features * scales, targets, np.arange(120)), said)
    order = np.random.default_rng(2).permutation(120)
    monkeypatch.setattr("regraft.evaluation.transfer.neighbours._CHUNK", 7)
    np.testing.assert_array_equal(left_out_neighbours(features[order], targets[order], np.arange(120)), said[order])


def test_images_of_one_group_have_no_say_in_each_other():
    features = np.array([[1, 0], [1, 0.01], [1, 0.02], [0, 1], [0.01, 1], [1, 0.5]], np.float32)
    targets = np.array([0, 0, 0, 1, 1, 1])
    units = np.array([0, 0, 1, 2, 3, 4])
    said = left_out_neighbours(features, targets, units, neighbours=1)
    assert said.tolist() == [0, 0, 0, 1, 1, 0]
    # All of one group: nobody is left to ask.
    assert left_out_neighbours(features, targets, np.zeros(6, int)).tolist() == [-1] * 6


def test_the_more_similar_win_a_draw():
    features = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, -0.3], [1, -0.4]], np.float32)
    said = left_out_neighbours(features, np.array([0, 1, 1, 0, 0]), np.arange(5), neighbours=4)
    assert said[0] == 1


@pytest.mark.parametrize("width", [16, 400])
def test_logistic_regression_is_that_of_the_probe_at_the_same_strength(width):
    features, targets = clouds(width=width, apart=0.3)
    folds = make_folds(targets, seed=3)
    logs, strength = held_out_log_probabilities(features, targets, folds)
    probe = fit_probe(features, targets, 3, seed=3)
    assert strength == probe.chosen["strength"]
    losses = -logs[np.arange(120), targets[folds.scored]]
    assert losses.mean() == pytest.approx(probe.chosen["log_loss"], abs=2e-4)
    assert (logs.argmax(axis=1) == targets).mean() == pytest.approx(probe.chosen["accuracy"], abs=0.01)


def test_logistic_regression_is_scikit_learns_on_images_that_it_has_not_seen():
    features, targets = clouds(apart=0.5)
    folds = make_folds(targets, seed=0)
    logs, strength = held_out_log_probabilities(features, targets, folds)
    assert strength in STRENGTHS
    for learn, held_out in folds:
        scaling = learn_scaling(features[learn])
        oracle = LogisticRegression(C=1 / (strength * len(learn)), tol=1e-8, max_iter=10_000)
        oracle.fit(scaling(features[learn]), targets[learn])
        np.testing.assert_allclose(logs[held_out], oracle.predict_log_proba(scaling(features[held_out])), atol=0.05)


def test_blocks_of_any_unit_weigh_the_same():
    features, targets = clouds(width=12)
    louder = features * np.repeat(np.float32([1, 300]), [5, 7])
    folds = make_folds(targets)
    plain, _ = held_out_log_probabilities(features, targets, folds, blocks=(5, 7))
    scaled, _ = held_out_log_probabilities(louder, targets, folds, blocks=(5, 7))
    np.testing.assert_allclose(scaled, plain, atol=2e-3)
    units = np.arange(120)
    said = left_out_neighbours(features, targets, units, blocks=(5, 7))
    np.testing.assert_array_equal(left_out_neighbours(louder, targets, units, blocks=(5, 7)), said)
