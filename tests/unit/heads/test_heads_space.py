"""What heads share of scaled rows, against the direct way."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from regraft.heads.logistic import rotate
from regraft.heads.prepared import prepare
from regraft.heads.space import space_of


@pytest.fixture(params=[(40, 200), (40, 30)])
def space(request, clouds):
    data = clouds(*request.param, 3, apart=0.3)
    rows = prepare(data.X, data.y, 3).rows
    return space_of(rows, np.arange(30), np.arange(30, 40))


def test_products_and_distances_are_those_of_the_rows(space):
    np.testing.assert_allclose(space.gram, space.rows @ space.rows.T, atol=1e-6)
    np.testing.assert_allclose(space.across, space.outside @ space.rows.T, atol=1e-6)
    among, across = space.distances
    np.testing.assert_allclose(among, cdist(space.rows, space.rows, "sqeuclidean"), atol=1e-6)
    np.testing.assert_allclose(across, cdist(space.outside, space.rows, "sqeuclidean"), atol=1e-6)


def test_scores_in_the_span_are_scores_of_the_features(space):
    rows, outside = space.turned
    weights = np.random.default_rng(0).standard_normal((rows.shape[1], 4))
    back = space.back(weights)
    np.testing.assert_allclose(space.rows @ back, rows @ weights, atol=1e-5)
    np.testing.assert_allclose(space.outside @ back, outside @ weights, atol=1e-5)


def test_rows_along_the_axes_of_the_whole_are_turned_and_nothing_else(space, clouds):
    data = clouds(40, space.rows.shape[1], 3, apart=0.3)
    whole = space_of(prepare(data.X, data.y, 3).rows)
    rows, outside = space.along(whole, np.float64)
    np.testing.assert_allclose(rows @ rows.T, space.gram, atol=1e-6)
    np.testing.assert_allclose(outside @ rows.T, space.across, atol=1e-6)
    own = whole.along(whole, np.float64)[0]
    products = own.T @ own
    np.testing.assert_allclose(products, np.diag(np.diagonal(products)), atol=1e-5)
    assert (np.diff(np.diagonal(products)) > -1e-5).all()


def test_the_span_is_that_of_rotate(space):
    np.testing.assert_allclose(np.abs(space.turned[0]), np.abs(rotate(space.rows)[0]), atol=1e-6)


def test_scaling_is_learnt_without_the_rows_held_out(space):
    assert np.square(space.rows).sum(axis=1).mean() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(space.rows.mean(axis=0), 0, atol=1e-6)


def test_a_smaller_trial_is_another_and_a_larger_one_the_same(clouds):
    data = clouds(60, 5, 3)
    ready = prepare(data.X, data.y, 3)
    assert ready.trial(1000) is ready.trial(60)
    assert len(ready.trial(30).rows) == 30
