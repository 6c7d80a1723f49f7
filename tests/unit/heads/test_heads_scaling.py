"""The scaling: unit rows, and nothing loud or quiet breaks it."""

import numpy as np
import pytest

from regraft.heads.scaling import learn_scaling


def test_rows_have_mean_squared_norm_one_and_mean_zero():
    features = np.random.default_rng(0).gamma(1.0, size=(50, 30)).astype(np.float32) * np.arange(30, dtype=np.float32)
    scaled = learn_scaling(features)(features)
    assert np.square(scaled).sum(axis=1).mean() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)


def test_equal_variances_are_standardised():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((2000, 5)).astype(np.float32)
    features = (features - features.mean(axis=0)) / features.std(axis=0) * 7
    np.testing.assert_allclose(learn_scaling(features)(features), features / 7 / np.sqrt(5), rtol=1e-4)


def test_a_feature_that_fires_once_stays_quiet():
    """Plain standardisation would make it as loud as any, and 10 in the row where it fires."""
    features = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    features[:, 0] = 0
    features[7, 0] = 1e-3
    scaled = learn_scaling(features)(features)
    assert np.abs(scaled[:, 0]).max() < 1e-3


def test_float32_and_float64_agree_and_chunks_do_not_show():
    features = np.random.default_rng(0).standard_normal((5000, 3)).astype(np.float32) + 1000
    scaling = learn_scaling(features)
    np.testing.assert_allclose(scaling.single(features), scaling(features), atol=1e-6)
    np.testing.assert_allclose(scaling.centre, features.astype(np.float64).mean(axis=0), rtol=1e-12)


def test_each_block_has_the_same_share_of_the_norm():
    generator = np.random.default_rng(0)
    features = (generator.gamma(1.0, size=(60, 30)) * np.repeat([1, 50, 1e-4], [3, 20, 7])).astype(np.float32)
    scaled = learn_scaling(features, (3, 20, 7))(features)
    shares = [np.square(part).sum(axis=1).mean() for part in np.split(scaled, [3, 23], axis=1)]
    np.testing.assert_allclose(shares, 1 / 3, rtol=1e-6)


def test_each_block_is_scaled_as_if_it_were_alone():
    features = np.random.default_rng(0).gamma(1.0, size=(60, 9)).astype(np.float32)
    both, alone = learn_scaling(features, (4, 5)), learn_scaling(features[:, :4])
    np.testing.assert_allclose(both.scale[:4], alone.scale * np.sqrt(2), rtol=1e-12)


def test_a_block_that_never_varies_takes_no_share():
    features = np.random.default_rng(0).standard_normal((60, 9)).astype(np.float32)
    features[:, 4:] = 3
    scaled = learn_scaling(features, (4, 5))(features)
    assert np.square(scaled).sum(axis=1).mean() == pytest.approx(1, abs=1e-6)
    assert not scaled[:, 4:].any()
