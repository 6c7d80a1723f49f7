import numpy as np
import pytest
from sklearn.decomposition import PCA

from regraft.evaluation.predictions import Predictions
from regraft.evaluation.report.feature_map import (
    HEIGHT,
    MOST_POINTS,
    WIDTH,
    feature_map,
    marker,
    principal_components,
)


def clusters(n, d=64, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(3, d))[np.arange(n) % 3] * 3 + rng.normal(size=(n, d))).astype(np.float32)


def predictions(n, k=3):
    targets = np.arange(n) % k
    return Predictions(
        paths=tuple(f"folder\\image{i}.jpg" for i in range(n)),
        keys=tuple("0" for _ in range(n)),
        classes=tuple(f"c{i}" for i in range(k)),
        targets=targets,
        logits=np.eye(k)[targets],
    )


@pytest.mark.parametrize("shape", [(120, 64), (30, 200), (300, 5)])
def test_components_agree_with_scikit_learn(shape):
    features = clusters(*shape)
    coordinates, shares = principal_components(features)
    oracle = PCA(2, svd_solver="full").fit(features)
    expected = oracle.transform(features)
    signs = np.sign((expected * coordinates).sum(axis=0))
    np.testing.assert_allclose(coordinates, expected * signs, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(shares, oracle.explained_variance_ratio_, rtol=1e-3)


def test_components_do_not_see_a_shift_or_a_rotation():
    features = clusters(90)
    turned = features @ np.linalg.qr(np.random.default_rng(1).normal(size=(64, 64)))[0].astype(np.float32) + 5
    first, second = principal_components(features)[0], principal_components(turned)[0]
    np.testing.assert_allclose(first, second, atol=1e-2)


def test_components_of_images_that_are_all_alike_are_zero():
    coordinates, shares = principal_components(np.ones((5, 7), np.float32))
    np.testing.assert_array_equal(coordinates, 0)
    np.testing.assert_array_equal(shares, 0)


def test_map_keeps_points_inside_and_mistakes_on_top():
    said = predictions(60)
    said.logits[[3, 8]] = said.logits[[4, 9]]
    found = feature_map(clusters(60), said)
    assert len(found.points) == 60
    assert [point.mistake for point in found.points] == [False] * 58 + [True] * 2
    assert found.points[-2].title == "image3.jpg: c0, taken for c1"
    assert all(0 < point.x < WIDTH and 0 < point.y < HEIGHT for point in found.points)
    assert 0.2 < sum(found.shares) <= 1


def test_map_leaves_out_unknown_classes_and_broken_rows():
    said, features = predictions(30), clusters(30)
    said.targets[0], features[1, 3] = -1, np.nan
    titles = " ".join(point.title for point in feature_map(features, said).points)
    assert "image0.jpg" not in titles
    assert "image1.jpg" not in titles
    assert "image2.jpg" in titles


def test_map_of_very_many_images_is_a_sample():
    n = MOST_POINTS + 700
    found = feature_map(clusters(n, 8), predictions(n))
    assert (len(found.points), found.images) == (MOST_POINTS, n)
    assert found == feature_map(clusters(n, 8), predictions(n))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factor", [1e-30, 1e30, 3e36, 1e300])
def test_map_does_not_see_the_unit_of_the_features(factor):
    features, said = clusters(60).astype(np.float64), predictions(60)
    found, plain = feature_map(features * factor, said), feature_map(features, said)
    assert [p.title for p in found.points] == [p.title for p in plain.points]
    np.testing.assert_allclose([(p.x, p.y) for p in found.points], [(p.x, p.y) for p in plain.points], atol=0.2)
    assert found.shares == pytest.approx(plain.shares, rel=1e-4)


@pytest.mark.filterwarnings("error")
def test_features_that_allow_no_projection_are_no_map(monkeypatch):
    said = predictions(9)
    assert feature_map(np.zeros((9, 0), np.float32), said) is None
    mixed = np.full((9, 4), np.float32(3.4e38)) * np.eye(9, 4, dtype=np.float32)
    assert len(feature_map(mixed, said).points) == 9

    def fails(*_):
        raise np.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(np.linalg, "eigh", fails)
    assert feature_map(clusters(9), said) is None


def test_two_images_are_no_map():
    assert feature_map(clusters(2), predictions(2)) is None


def test_markers_tell_classes_apart():
    for classes in (2, 8, 40, 48):
        assert len({marker(i, classes) for i in range(classes)}) == classes
    assert len({marker(i, 6)[1] for i in range(6)}) == 6  # by shape alone
