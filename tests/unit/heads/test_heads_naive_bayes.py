"""Gaussian naive Bayes against scikit-learn's joint log likelihood."""

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from regraft.heads import naive_bayes


@pytest.mark.parametrize("smoothing", [1e-9, 1e-2, 1.0])
@pytest.mark.parametrize("offset", [0, 1000])
def test_equals_scikit_learn(smoothing, offset, clouds):
    data = clouds(90, 10, 3)
    features = data.X + np.float32(offset)
    features[:30, 0] = offset  # hardly any variance within some classes
    head = naive_bayes.fit(features, data.y, 3, smoothings=(smoothing,)).head
    oracle = GaussianNB(var_smoothing=smoothing).fit(features.astype(np.float64), data.y)
    np.testing.assert_allclose(
        head.logits(features) * head.temperature,
        oracle.predict_joint_log_proba(features.astype(np.float64)),
        rtol=1e-6,
        atol=1e-5,
    )


def test_priors_are_the_shares_of_the_classes():
    targets = np.repeat([0, 1], [30, 10])
    features = np.random.default_rng(0).standard_normal((40, 1)).astype(np.float32)
    head = naive_bayes.fit(features, targets, 2).head
    np.testing.assert_allclose(np.exp(head.log_prior), [0.75, 0.25])


def test_held_out_images_prefer_smoothing_where_a_class_never_varies(clouds):
    """A feature that is silent in the few images of a class must not forbid the class for ever."""
    generator = np.random.default_rng(0)
    targets = np.arange(40) % 4
    features = np.where(generator.random((40, 200)) < 0.05, 1.0, 0.0) + 0.4 * np.eye(4, 200)[targets]
    fitted = naive_bayes.fit(features.astype(np.float32), targets, 4)
    assert fitted.chosen["smoothing"] > 1e-9
