"""One logistic regression a label, against scikit-learn's, and its solver."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from regraft import heads
from regraft.errors import DataError
from regraft.heads import binary, multilabel
from regraft.heads.scaling import learn_scaling


def make(n_images=120, width=10, n_labels=4, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((n_images, width)).astype(np.float32)
    weights = np.random.default_rng(1).standard_normal((width, n_labels))
    odds = features @ weights + np.linspace(-2, 1, n_labels)
    return features, (odds + generator.logistic(size=odds.shape) > 0).astype(np.int8)


@pytest.mark.parametrize("strength", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize(("n_images", "width"), [(60, 200), (300, 20)])
def test_each_label_equals_scikit_learn(strength, n_images, width):
    features, targets = make(n_images, width)
    head = multilabel.fit(features, targets, 4, strengths=(strength,)).head
    scaled = head.scaling(features)
    for label in range(4):
        oracle = LogisticRegression(C=1 / (strength * n_images), tol=1e-10, max_iter=20_000)
        oracle.fit(scaled, targets[:, label])
        probability = 1 / (1 + np.exp(-head.logits(features)[:, label]))
        np.testing.assert_allclose(probability, oracle.predict_proba(scaled)[:, 1], atol=2e-3)


def test_what_is_not_known_is_left_out_label_by_label():
    features, targets = make()
    targets[5:40, 1] = -1
    head = multilabel.fit(features, targets, 4, strengths=(1e-2,)).head
    there = targets[:, 1] >= 0
    scaled = head.scaling(features)
    oracle = LogisticRegression(C=1 / (1e-2 * there.sum()), tol=1e-10, max_iter=5000)
    oracle.fit(scaled[there], targets[there, 1])
    np.testing.assert_allclose(head.logits(features)[:, 1], oracle.decision_function(scaled), atol=5e-3)
    as_nan = np.where(targets < 0, np.nan, targets)
    np.testing.assert_array_equal(multilabel.fit(features, as_nan, 4, strengths=(1e-2,)).head.weights, head.weights)


def test_labels_do_not_know_of_each_other():
    features, targets = make()
    strengths = (1e-2, 1e-3)
    both = multilabel.fit(features, targets, 4, strengths=strengths[:1]).head.logits(features)
    alone = multilabel.fit(features, targets[:, 2:3], 1, strengths=strengths[:1]).head.logits(features)
    np.testing.assert_allclose(both[:, 2:3], alone, atol=2e-3)


def test_gradient_is_the_slope_of_the_loss():
    generator = np.random.default_rng(0)
    rows, signs = generator.standard_normal((20, 4)), generator.choice([-1.0, 0.0, 1.0], (20, 3))
    given = (rows, signs, np.array([0.1, 0.2, 0.05]), np.array([0.3, 0.1, 1.0]), generator.uniform(0.5, 2, (5, 3)))
    point = generator.standard_normal(15)
    _, gradient = binary._loss_and_gradient(point, *given)
    for index in range(15):
        step = np.eye(15)[index] * 1e-6
        above, below = (binary._loss_and_gradient(point + s, *given)[0] for s in (step, -step))
        assert gradient[index] == pytest.approx((above - below) / 2e-6, abs=1e-7)


@pytest.mark.parametrize("n_images", [30, 200])
def test_principal_axes_are_a_rotation_of_the_span(n_images):
    scaled = learn_scaling(make(n_images, 60)[0]).single(make(n_images, 60)[0])
    rows, basis = binary.principal(scaled)
    np.testing.assert_allclose(rows @ basis.T, scaled, atol=1e-5)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-6)
    moments = rows.T @ rows
    np.testing.assert_allclose(moments - np.diag(np.diag(moments)), 0, atol=1e-5)


def test_clear_labels_choose_a_weaker_strength_than_noise():
    features, targets = make(300, 10, 1)
    clear = (features[:, 0] > 0).astype(np.int8)
    noise = np.random.default_rng(5).integers(0, 2, 300).astype(np.int8)
    fitted = multilabel.fit(features, np.column_stack([clear, noise, targets[:, 0]]), 3)
    strengths = fitted.chosen["strengths"]
    assert strengths[0] < strengths[2] < strengths[1]
    assert [row["strength"] for row in fitted.history] == list(multilabel.STRENGTHS[: len(fitted.history)])


def test_labels_with_few_images_choose_together():
    features, _ = make(300)
    targets = np.zeros((300, 3), np.int8)
    targets[:, 0] = features[:, 0] > 0
    targets[np.argsort(features[:, 1])[-4:], 1] = 1
    targets[np.argsort(features[:, 2])[-3:], 2] = 1
    strengths = multilabel.fit(features, targets, 3).chosen["strengths"]
    assert strengths[1] == strengths[2]


def test_labels_of_one_value_are_told_as_they_are():
    features, targets = make()
    targets[:, 0], targets[:, 1] = 0, 1
    targets[:, 2] = -1
    fitted = multilabel.fit(features, targets, 4, names=("never", "always", "unknown", "x"))
    logits = fitted.head.logits(features)
    assert (logits[:, 0] < -5).all()
    assert (logits[:, 1] > 5).all()
    np.testing.assert_array_equal(logits[:, 2], 0)
    assert "has the label 'never'" in fitted.notes[0]
    assert np.isfinite(logits).all()


def test_a_group_never_lies_on_both_sides():
    """Copies of an image whose label is noise are told perfectly unless they are held out together."""
    features, _ = make(60, 40)
    noise = np.random.default_rng(2).integers(0, 2, (60, 1)).astype(np.int8)
    three, same = np.tile(features, (3, 1)), np.tile(noise, (3, 1))
    bold = multilabel.fit(three, same, 1).chosen["strengths"][0]
    careful = multilabel.fit(three, same, 1, groups=np.tile(np.arange(60).astype(str), 3)).chosen["strengths"][0]
    assert careful > 100 * bold


def test_many_rows_choose_on_a_part(monkeypatch):
    monkeypatch.setattr(multilabel, "_TRIAL_ROWS", 80)
    features, targets = make(400)
    fitted = multilabel.fit(features, targets, 4)
    assert fitted.chosen["images"] < 110
    assert ((fitted.head.logits(features) > 0) == targets).mean() > 0.75


def test_too_few_to_hold_any_out():
    features, targets = make(2)
    fitted = multilabel.fit(features, targets, 4)
    assert np.isfinite(fitted.head.logits(features)).all()


def test_targets_that_are_no_labels():
    with pytest.raises(DataError, match="hold 2"):
        multilabel.fit(make()[0], make()[1] * 2, 4)


def test_saved_and_loaded_it_is_the_same():
    features, targets = make()
    head = multilabel.fit(features, targets, 4, strengths=(1e-3,), blocks=(4, 6)).head
    again = heads.load("multilabel", head.arrays(), head.settings())
    np.testing.assert_array_equal(again.logits(features), head.logits(features))
