"""The linear probe against scikit-learn's logistic regression, and what must not change it."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from regraft.heads import linear_probe, logistic
from regraft.heads.folds import make_folds
from regraft.heads.head import log_softmax
from regraft.heads.scaling import learn_scaling


@pytest.mark.parametrize("strength", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize(("n_images", "width"), [(60, 200), (60, 90), (300, 20)])
def test_equals_scikit_learn(strength, n_images, width, clouds):
    """Narrower than half the width it is fitted in the span of the rows; the oracle always directly."""
    data = clouds(n_images, width, 3, apart=0.3)
    head = linear_probe.fit(data.X, data.y, 3, strengths=(strength,)).head
    scaled = head.scaling(data.X)
    oracle = LogisticRegression(C=1 / (strength * n_images), tol=1e-10, max_iter=20_000).fit(scaled, data.y)
    ours, theirs = head.weights - head.weights.mean(axis=1, keepdims=True), oracle.coef_.T
    assert np.abs(ours - theirs).max() < 2e-3 * np.abs(theirs).max()
    np.testing.assert_allclose(log_softmax(head.logits(data.X)), oracle.predict_log_proba(scaled), atol=5e-3)


def test_two_classes_equal_scikit_learn(two):
    """Two columns w and -w are penalised half as much as the one column 2w that scikit-learn fits."""
    head = linear_probe.fit(two.X, two.y, 2, strengths=(1e-2,)).head
    scaled = head.scaling(two.X)
    oracle = LogisticRegression(C=2 / (1e-2 * 60), tol=1e-10, max_iter=20_000).fit(scaled, two.y)
    np.testing.assert_allclose(log_softmax(head.logits(two.X)), oracle.predict_log_proba(scaled), atol=2e-3)


def test_the_span_is_exact(clouds):
    data = clouds(30, 100, 2)
    scaled = learn_scaling(data.X).single(data.X)
    rows, basis = logistic.rotate(scaled)
    assert rows.shape == (30, basis.shape[1])
    assert basis.shape[1] <= 30
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)
    np.testing.assert_allclose(rows @ basis.T, scaled, atol=1e-5)
    np.testing.assert_allclose(scaled @ basis, rows, atol=1e-5)
    assert logistic.rotate(scaled[:, :50])[1] is None


def test_gradient_and_curvature_are_the_slopes_of_the_loss_and_of_the_gradient(clouds):
    data = clouds(20, 4, 3)
    path = logistic.Path(data.X.astype(np.float64), data.y, 3, 1e-9)
    start = np.random.default_rng(0).standard_normal((5, 3))

    def place(point):
        return path._place(point, path.rows @ point[:-1] + point[-1], 0.3)

    here = place(start)
    gradient = path._gradient(here, 0.3)
    for index in range(15):
        step = np.eye(15)[index].reshape(5, 3) * 1e-6
        above, below = place(start + step), place(start - step)
        assert gradient.ravel()[index] == pytest.approx((above.value - below.value) / 2e-6, abs=1e-7)
        bent = (path._gradient(above, 0.3) - path._gradient(below, 0.3)) / 2e-6
        single = [a.astype(np.float32) for a in (here.likely, step * 1e6)]
        np.testing.assert_allclose(logistic._curved(data.X, *single, 0.3), bent, atol=1e-5)


@pytest.mark.parametrize("strength", [1e-1, 1e-3, 1e-5])
def test_what_is_left_to_gain_is_below_the_accuracy(strength, clouds):
    data = clouds(200, 30, 4, apart=0.3)
    rows = learn_scaling(data.X)(data.X)
    values = []
    for accuracy in (1e-5, 1e-10, 1e-15):
        path = logistic.Path(rows, data.y, 4, accuracy)
        for before in (1.0, strength * 10):
            path.solve(before)
        weights, bias = path.solve(strength)
        end = path._place(np.vstack([weights, bias]), rows @ weights + bias, strength)
        values.append(end.value)
    # The objective is strongly convex in the weights: at most |gradient|^2 / (2 strength) is left to gain.
    assert np.square(path._gradient(end, strength)).sum() / (2 * strength) < 1e-11
    assert 0 <= values[0] - values[2] < 1e-5
    assert -1e-15 <= values[1] - values[2] < 1e-10


def test_the_way_does_not_decide_the_end(clouds):
    """Straight to a strength or along others, along principal axes or any others: the minimum is one."""
    data = clouds(200, 30, 4, apart=0.3)
    rows = learn_scaling(data.X)(data.X)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 30)))[0]
    straight, along, turned = (logistic.Path(r, data.y, 4, 1e-12) for r in (rows, rows, rows @ turn))
    for strength in (1.0, 1e-1, 1e-2):
        along.solve(strength)
    ends = [path.solve(1e-3)[0] for path in (straight, along, turned)]
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-4 * np.abs(ends[0]).max())
    np.testing.assert_allclose(turn @ ends[2], ends[0], atol=1e-4 * np.abs(ends[0]).max())


def test_chooses_the_strength_that_held_out_images_want(clouds):
    noisy, clear = clouds(100, 30, 2, apart=0.05), clouds(100, 30, 2, apart=2.0)
    weak = linear_probe.fit(clear.X, clear.y, 2).chosen["strength"]
    strong = linear_probe.fit(noisy.X, noisy.y, 2).chosen["strength"]
    assert strong > 30 * weak


def test_history_shows_each_strength_and_its_folds(three):
    fitted = linear_probe.fit(three.X, three.y, 3)
    strengths = [row["strength"] for row in fitted.history]
    assert strengths == list(linear_probe.STRENGTHS[: len(strengths)])
    assert all(len(row["fold_log_loss"]) == 5 for row in fitted.history)
    first = fitted.history[0]
    assert np.mean(first["fold_log_loss"]) == pytest.approx(first["log_loss"], abs=1e-9)
    assert "temperature" not in first


def test_held_out_scores_come_from_heads_that_did_not_see_them(clouds):
    """The recorded log loss equals scikit-learn's, fold by fold, with each fold's own scaling."""
    data = clouds(51, 8, 3, apart=0.5)
    row = linear_probe.fit(data.X, data.y, 3, strengths=(1e-2, 1e-3)).history[0]
    losses = []
    for learn, held in make_folds(data.y, seed=0):
        scaling = learn_scaling(data.X[learn])
        model = LogisticRegression(C=100 / len(learn), tol=1e-9, max_iter=5000)
        model.fit(scaling(data.X[learn]), data.y[learn])
        losses.append(-model.predict_log_proba(scaling(data.X[held]))[np.arange(len(held)), data.y[held]].mean())
    np.testing.assert_allclose(row["fold_log_loss"], losses, atol=2e-3)


def test_order_of_the_images_does_not_matter(three):
    order = np.random.default_rng(0).permutation(90)
    one = linear_probe.fit(three.X, three.y, 3, strengths=(1e-3,)).head.logits(three.X)
    other = linear_probe.fit(three.X[order], three.y[order], 3, strengths=(1e-3,)).head.logits(three.X)
    np.testing.assert_allclose(log_softmax(one), log_softmax(other), atol=1e-3)


def test_unit_and_origin_of_the_features_do_not_matter(three):
    one = linear_probe.fit(three.X, three.y, 3).head.logits(three.X)
    moved = three.X * np.float32(64) + np.float32(256)
    other = linear_probe.fit(moved, three.y, 3).head.logits(moved)
    np.testing.assert_allclose(log_softmax(one), log_softmax(other), atol=1e-2)


def test_every_image_twice_is_the_same_fit(three):
    one = linear_probe.fit(three.X, three.y, 3, strengths=(1e-3,)).head.logits(three.X)
    twice = linear_probe.fit(np.tile(three.X, (2, 1)), np.tile(three.y, 2), 3, strengths=(1e-3,))
    np.testing.assert_allclose(log_softmax(one), log_softmax(twice.head.logits(three.X)), atol=1e-3)


def test_many_rows_choose_on_a_part_and_learn_from_all(clouds, monkeypatch):
    monkeypatch.setattr(linear_probe, "_TRIAL_ROWS", 60)
    data = clouds(300, 8, 3)
    fitted = linear_probe.fit(data.X, data.y, 3)
    assert fitted.chosen["images"] == 60
    assert "settings were chosen on 60 of the 300 training images, a stratified part" in fitted.notes
    exact = LogisticRegression(C=1 / (fitted.chosen["strength"] * 300), tol=1e-9, max_iter=5000)
    scaled = fitted.head.scaling(data.X)
    theirs = exact.fit(scaled, data.y).predict_log_proba(scaled)
    np.testing.assert_allclose(np.exp(log_softmax(fitted.head.logits(data.X))), np.exp(theirs), atol=0.02)
