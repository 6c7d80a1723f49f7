"""Isotonic curves against scikit-learn's, and what normalised curves promise."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from regraft.heads.isotonic import isotonic_curve, learn_steps


@pytest.mark.parametrize("seed", range(6))
def test_the_curve_is_scikit_learns(seed):
    generator = np.random.default_rng(seed)
    size = int(generator.integers(1, 80))
    x = np.round(generator.uniform(size=size), seed % 3 + 1)  # with ties, the fewer digits the more
    y = (generator.uniform(size=size) < x).astype(float)
    asked = np.linspace(-0.2, 1.2, 57)
    expected = IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(asked)
    np.testing.assert_allclose(np.interp(asked, *isotonic_curve(x, y)), expected, atol=1e-12)


def test_a_falling_curve_is_its_mean_and_a_rising_one_itself():
    x = np.arange(5.0)
    assert isotonic_curve(x, -x)[1].tolist() == [-2.0, -2.0]
    np.testing.assert_array_equal(isotonic_curve(x, x)[1], x)


def overconfident(n_images, n_classes=4, seed=0, heat=3.0):
    """Probabilities that are too sure by a temperature, and classes drawn from the true ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n_images, n_classes)) * 2
    true = np.exp(logits / heat)
    true /= true.sum(axis=1, keepdims=True)
    said = np.exp(logits)
    said /= said.sum(axis=1, keepdims=True)
    targets = (true.cumsum(axis=1) < generator.uniform(size=(n_images, 1))).sum(axis=1)
    return said, true, targets.clip(max=n_classes - 1)


def test_steps_bring_probabilities_near_the_truth():
    said, _, targets = overconfident(20_000)
    fresh, true, _ = overconfident(2_000, seed=1)
    steps = learn_steps(said, targets)
    assert np.abs(steps(fresh) - true).mean() < 0.25 * np.abs(fresh - true).mean()


def test_rows_sum_to_one_and_nothing_is_impossible():
    said, _, targets = overconfident(60, n_classes=5)
    calibrated = learn_steps(said, targets)(said)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert calibrated.min() > 0


def test_order_of_the_images_and_names_of_the_classes_change_nothing():
    said, _, targets = overconfident(200)
    fresh = overconfident(50, seed=3)[0]
    plain = learn_steps(said, targets)(fresh)
    mixed, renamed = np.random.default_rng(0).permutation(200), np.array([2, 0, 3, 1])
    np.testing.assert_allclose(learn_steps(said[mixed], targets[mixed])(fresh), plain, atol=1e-12)
    again = learn_steps(said[:, np.argsort(renamed)], renamed[targets])(fresh[:, np.argsort(renamed)])
    np.testing.assert_allclose(again[:, renamed], plain, atol=1e-12)


def test_a_class_without_an_image_keeps_its_probability_before_normalising():
    said, _, _ = overconfident(50, n_classes=3)
    targets = np.arange(50) % 2
    steps = learn_steps(said, targets)
    assert steps.ends[2] == steps.ends[1]
    others = steps(said)[:, :2].sum(axis=1)
    assert (others < 1).all()


def test_equal_steps_are_told_apart_by_the_head():
    said = np.array([[0.5, 0.3, 0.2], [0.45, 0.35, 0.2]])
    flat = learn_steps(np.full((9, 3), 1 / 3), np.arange(9) % 3)
    assert flat(said).argmax(axis=1).tolist() == [0, 0]
    np.testing.assert_allclose(flat(said), 1 / 3, atol=1e-5)
