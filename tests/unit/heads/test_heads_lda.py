"""Linear discriminant analysis against scikit-learn's, and the other names for its ends."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from regraft.heads import lda
from regraft.heads.head import log_softmax


@pytest.mark.parametrize("shrinkage", [0.01, 0.5, 0.95, 1.0])
@pytest.mark.parametrize(("n_images", "width"), [(60, 200), (60, 90), (300, 20)])
def test_equals_scikit_learn(shrinkage, n_images, width, clouds):
    """Solved in the span of the rows, where that is narrower; the oracle always directly."""
    data = clouds(n_images, width, 3, apart=0.3)
    fresh = clouds(40, width, 3, apart=0.3, seed=9).X
    fitted = lda.fit(data.X, data.y, 3, shrinkages=(shrinkage,))
    head, heat = fitted.head, fitted.chosen["temperature"]
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(head.scaling(data.X), data.y)
    for features in (data.X, fresh):
        theirs = log_softmax(oracle.decision_function(head.scaling(features)))
        scale = max(1, np.abs(theirs).max())
        assert np.abs(log_softmax(head.logits(features) * heat) - theirs).max() < 1e-4 * scale


def test_priors_are_the_shares_of_the_classes():
    """Where the features say nothing, the logits are the shares."""
    features = np.ones((40, 3), np.float32)
    fitted = lda.fit(features, np.repeat([0, 1], [30, 10]), 2)
    logits = fitted.head.logits(features[:1])[0] * fitted.chosen["temperature"]
    assert logits[0] - logits[1] == pytest.approx(np.log(3))


def test_few_images_want_more_shrinkage_than_many(clouds):
    few, many = clouds(24, 30, 2, apart=0.2), clouds(2000, 30, 2, apart=0.2)
    mix = np.random.default_rng(0).standard_normal((30, 30)).astype(np.float32)
    shrinkages = [lda.fit(data.X @ mix, data.y, 2).chosen["shrinkage"] for data in (few, many)]
    assert shrinkages[0] > shrinkages[1]


def test_a_rotation_of_the_features_that_keeps_their_variance_changes_nothing(clouds):
    """Swapping and flipping columns is one."""
    data = clouds(60, 40, 3, apart=0.3)
    turned = -data.X[:, ::-1]
    one, other = (lda.fit(features, data.y, 3).head.logits(features) for features in (data.X, turned))
    np.testing.assert_allclose(one, other, atol=1e-6)
