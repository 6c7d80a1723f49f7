"""The temperature against synthetic truth and a minimiser of scipy's."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from regraft.heads.calibration import temperature
from regraft.heads.head import log_softmax


def draw(n_images, n_classes, seed=0):
    """Logits that are exactly right about their own targets."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((n_images, n_classes)) * 2
    gumbel = generator.gumbel(size=logits.shape)
    return logits, (logits + gumbel).argmax(axis=1)


@pytest.mark.parametrize("truth", [1e-4, 0.2, 1.0, 7.0, 1e5])
def test_recovers_a_known_temperature(truth):
    logits, targets = draw(20_000, 4)
    assert temperature(logits * truth, targets) == pytest.approx(truth, rel=0.03)


def test_scales_with_the_logits_and_ignores_shifts():
    logits, targets = draw(300, 5)
    plain = temperature(logits, targets)
    assert temperature(logits * 37, targets) == pytest.approx(37 * plain, rel=1e-9)
    assert temperature(logits + np.arange(300)[:, None], targets) == pytest.approx(plain, rel=1e-9)


def test_is_the_minimum_of_the_log_loss_with_one_imaginary_image():
    logits, targets = draw(50, 3, seed=2)

    def loss(log_t):
        spread = log_softmax(logits / np.exp(log_t))
        return -spread[np.arange(50), targets].sum() - spread.mean()

    assert temperature(logits, targets) == pytest.approx(np.exp(minimize_scalar(loss).x), rel=1e-4)


def test_never_changes_the_predicted_class():
    logits, targets = draw(500, 6)
    cooled = logits / temperature(logits * 3, targets)
    assert np.array_equal(cooled.argmax(axis=1), logits.argmax(axis=1))


def test_all_right_is_confident_but_not_boundless():
    targets = np.arange(40) % 2
    logits = np.where(np.eye(2)[targets] == 1, 1.0, -1.0)
    confidence = np.exp(log_softmax(logits / temperature(logits, targets)).max())
    assert 0.97 < confidence < 0.999


def test_worthless_scores_end_near_chance():
    generator = np.random.default_rng(0)
    logits, targets = generator.standard_normal((400, 3)) * 50, generator.integers(0, 3, 400)
    assert np.exp(log_softmax(logits / temperature(logits, targets))).max() < 0.6
    wrong = -10 * np.eye(3)[targets]
    assert np.exp(log_softmax(wrong / temperature(wrong, targets))).max() < 0.34


def test_the_temperature_of_worthless_scores_stays_a_number_to_read():
    targets = np.arange(60) % 3
    logits = np.random.default_rng(0).standard_normal((60, 3)) * 5 - 9 * np.eye(3)[targets]
    found = temperature(logits, targets)
    assert 100 < found < 1e5
    np.testing.assert_allclose(np.exp(log_softmax(logits / found)), 1 / 3, atol=2e-3)


def test_degenerate_scores_stay_as_they_are():
    assert temperature(np.zeros((5, 3)), np.zeros(5, int)) == 1.0
    assert temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0
