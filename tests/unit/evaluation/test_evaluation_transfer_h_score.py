"""The H-score against canonical correlations and scikit-learn's shrunk covariance, which are computed differently."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.stats import ortho_group
from sklearn.covariance import LedoitWolf

from regraft.evaluation.transfer.h_score import h_score, ledoit_wolf


def clouds(n_images, width, n_classes=4, *, apart=1.0, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(n_images) % n_classes)
    middles = generator.standard_normal((n_classes, width)) * apart
    spread = np.geomspace(0.3, 3, width)
    return middles[targets] + generator.standard_normal((n_images, width)) * spread + 2, targets


def between(features, targets):
    """Covariance of the class means, each weighted by its images."""
    means = np.stack([features[targets == label].mean(axis=0) for label in np.unique(targets)])
    return np.cov(means, rowvar=False, aweights=np.bincount(targets), bias=True)


@pytest.mark.parametrize(("n_images", "width"), [(300, 5), (200, 40), (60, 30)])
def test_without_shrinkage_it_is_the_sum_of_squared_canonical_correlations(n_images, width):
    features, targets = clouds(n_images, width, apart=0.7)
    labels = np.eye(4)[targets][:, :3]  # the fourth follows from the others
    cosines = np.cos(subspace_angles(features - features.mean(axis=0), labels - labels.mean(axis=0)))
    assert h_score(features, targets, shrinkage=0) == pytest.approx(np.square(cosines).sum(), abs=1e-9)


@pytest.mark.parametrize(("n_images", "width"), [(200, 20), (40, 90)])
@pytest.mark.parametrize("shrinkage", [None, 0.3])
def test_shrunk_it_is_the_trace_of_its_definition(n_images, width, shrinkage):
    features, targets = clouds(n_images, width)
    oracle = LedoitWolf().fit(features)
    share = oracle.shrinkage_ if shrinkage is None else shrinkage
    covariance = np.cov(features, rowvar=False, bias=True)
    shrunk = (1 - share) * covariance + share * np.trace(covariance) / width * np.eye(width)
    wanted = np.trace(np.linalg.solve(shrunk, (1 - share) * between(features, targets)))
    assert h_score(features, targets, shrinkage=shrinkage) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("n_images", "width"), [(200, 20), (40, 90), (12, 300)])
def test_the_share_is_scikit_learns(n_images, width):
    features, _ = clouds(n_images, width)
    centred = features - features.mean(axis=0)
    squares = np.linalg.svd(centred, compute_uv=False) ** 2
    assert ledoit_wolf(centred, squares) == pytest.approx(LedoitWolf().fit(features).shrinkage_, rel=1e-9)


def test_rotation_scale_shift_and_order_do_not_matter():
    features, targets = clouds(50, 70)
    before = h_score(features, targets)
    order = np.random.default_rng(2).permutation(50)
    turn = ortho_group.rvs(70, random_state=1)
    for other in (features @ turn, 100 * features, features + 7):
        assert h_score(other, targets) == pytest.approx(before, rel=1e-9)
    assert h_score(features[order], targets[order]) == pytest.approx(before, rel=1e-9)


def test_it_lies_between_zero_and_the_number_of_other_classes():
    features, targets = clouds(80, 200, apart=50)
    assert 2.9 < h_score(features, targets) <= 3
    noise, _ = clouds(80, 200, apart=0)
    assert 0 <= h_score(noise, targets) < 2  # noise in so many dimensions, which unshrunk scores all there is
    assert h_score(noise, targets, shrinkage=0) == pytest.approx(3)
    assert h_score(np.ones((80, 4)), targets) == 0
