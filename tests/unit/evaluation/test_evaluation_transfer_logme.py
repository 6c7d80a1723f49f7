"""LogME against scikit-learn's evidence of Bayesian ridge regression, which finds it another way."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, ortho_group
from sklearn.linear_model import BayesianRidge

from regraft.evaluation.transfer.logme import logme


def clouds(n_images, width, n_classes=3, *, apart=1.0, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(n_images) % n_classes)
    middles = generator.standard_normal((n_classes, width)) * apart
    return middles[targets] + generator.standard_normal((n_images, width)) + 0.5, targets


def bayesian_ridge(features, targets):
    """Mean log evidence an image, one class against the rest at a time."""
    flat = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    evidence = []
    for label in np.unique(targets):
        ridge = BayesianRidge(compute_score=True, fit_intercept=False, max_iter=100_000, tol=1e-13, **flat)
        evidence.append(ridge.fit(features, (targets == label).astype(float)).scores_[-1])
    return np.mean(evidence) / len(targets)


@pytest.mark.parametrize(
    ("n_images", "width", "apart"),
    [(200, 20, 1.0), (200, 20, 0.1), (60, 59, 0.3), (60, 60, 0.3), (50, 200, 0.3), (40, 1280, 0.1), (300, 3, 0.5)],
)
def test_logme_is_the_evidence_of_bayesian_ridge(n_images, width, apart):
    features, targets = clouds(n_images, width, apart=apart)
    assert logme(features, targets) == pytest.approx(bayesian_ridge(features, targets), abs=1e-7)


def test_evidence_is_the_likeliest_prior_and_noise_for_fewer_images_than_features():
    features, targets = clouds(30, 80, 2, apart=0.2)
    found = []
    for label in (0, 1):
        labels = (targets == label).astype(float)

        def surprise(logs, labels=labels):
            prior, noise = np.exp(logs)
            covariance = prior * features @ features.T + noise * np.eye(30)
            return -multivariate_normal(np.zeros(30), covariance).logpdf(labels)

        starts = [minimize(surprise, start, method="Nelder-Mead") for start in ([-6, -2], [-2, -6], [-4, -4])]
        found.append(-min(result.fun for result in starts))
    assert logme(features, targets) * 30 == pytest.approx(np.mean(found), abs=1e-5)


@pytest.mark.parametrize(("n_images", "width"), [(80, 12), (30, 60)])
def test_logme_does_not_see_rotation_scale_or_the_order_of_rows(n_images, width):
    features, targets = clouds(n_images, width, apart=0.4)
    before = logme(features, targets)
    turn = ortho_group.rvs(width, random_state=1)
    order = np.random.default_rng(2).permutation(n_images)
    assert logme(features @ turn, targets) == pytest.approx(before, abs=1e-9)
    assert logme(1000 * features, targets) == pytest.approx(before, abs=1e-9)
    assert logme(features[order], targets[order]) == pytest.approx(before, abs=1e-9)
    assert logme(features, np.array([7, 3, 5])[targets]) == pytest.approx(before, abs=1e-9)


def test_more_telling_features_score_higher():
    scores = [logme(*clouds(90, 30, apart=apart)) for apart in (0.0, 0.3, 1.0, 3.0)]
    assert scores == sorted(scores)
    assert scores[-1] - scores[0] > 0.5


def test_features_that_are_all_alike_or_zero_give_a_number():
    targets = np.arange(12) % 2
    nothing = logme(np.zeros((12, 5)), targets)
    # Noise alone: the mean square of the labels is a half.
    assert nothing == pytest.approx(-0.5 * (np.log(2 * np.pi * 0.5) + 1), abs=1e-5)
    assert np.isfinite(logme(np.ones((12, 5)), targets))
    assert np.isfinite(logme(np.eye(2)[targets], targets))
