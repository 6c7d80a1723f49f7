"""Small made-up features that every head's tests share."""

from types import SimpleNamespace

import numpy as np
import pytest


def make_features(n_images=90, width=12, n_classes=3, *, apart=1.5, where=0, seed=0):
    """Normal clouds, one a class, as equally large as can be; `where` decides their middles, `apart` how far."""
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(n_images) % n_classes)
    middles = np.random.default_rng(where).standard_normal((n_classes, width)) * apart
    features = middles[targets] + generator.standard_normal((n_images, width))
    return SimpleNamespace(X=features.astype(np.float32), y=targets, k=n_classes)


@pytest.fixture
def clouds():
    return make_features


@pytest.fixture
def three():
    return make_features()


@pytest.fixture
def two():
    return make_features(n_images=60, n_classes=2, seed=1)
