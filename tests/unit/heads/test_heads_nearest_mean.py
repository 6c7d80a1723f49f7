"""The nearest class mean against scikit-learn's."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from regraft.heads import nearest_mean
from regraft.heads.head import log_softmax


@pytest.mark.parametrize(("n_images", "width"), [(40, 200), (300, 20)])
def test_equals_scikit_learn(n_images, width, clouds):
    data, fresh = clouds(n_images, width, 4, apart=0.2), clouds(200, width, 4, apart=0.2, seed=7)
    head = nearest_mean.fit(data.X, data.y, 4).head
    oracle = NearestCentroid().fit(head.scaling(data.X), data.y)
    assert np.array_equal(head.logits(fresh.X).argmax(axis=1), oracle.predict(head.scaling(fresh.X)))


def test_logits_are_half_the_squared_distances_over_the_temperature(three):
    fitted = nearest_mean.fit(three.X, three.y, 3)
    scaled = fitted.head.scaling(three.X)
    means = np.stack([scaled[three.y == label].mean(axis=0) for label in range(3)])
    squared = np.square(scaled[:, None] - means).sum(axis=2)
    expected = log_softmax(-squared / (2 * fitted.chosen["temperature"]))
    np.testing.assert_allclose(log_softmax(fitted.head.logits(three.X)), expected, atol=1e-4)


def test_every_image_twice_is_the_same_mean(three):
    one = nearest_mean.fit(three.X, three.y, 3).head
    twice = nearest_mean.fit(np.tile(three.X, (2, 1)), np.tile(three.y, 2), 3).head
    np.testing.assert_allclose(
        one.weights / np.linalg.norm(one.weights), twice.weights / np.linalg.norm(twice.weights), atol=1e-6
    )
