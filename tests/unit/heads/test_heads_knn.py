"""Nearest neighbours against scikit-learn's, and what must not change them."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier

from regraft.heads import knn


@pytest.mark.parametrize("k", [1, 5, 60])
def test_plain_votes_equal_scikit_learn(k, clouds):
    data, fresh = clouds(90, 12, 3, apart=0.4), clouds(40, 12, 3, apart=0.4, seed=5)
    head = knn.fit(data.X, data.y, 3, neighbours=(k,), weighted=False).head
    votes = np.exp(head.logits(fresh.X) * head.temperature) - 1 / 3
    oracle = KNeighborsClassifier(n_neighbors=k, metric="cosine").fit(data.X, data.y)
    np.testing.assert_allclose(votes / k, oracle.predict_proba(fresh.X), atol=1e-9)


def test_weighted_votes_equal_scikit_learn(clouds):
    data, fresh = clouds(90, 12, 3, apart=0.4), clouds(40, 12, 3, apart=0.4, seed=5)
    head = knn.fit(data.X, data.y, 3, neighbours=(20,)).head
    votes = np.exp(head.logits(fresh.X) * head.temperature) - 1 / 3
    oracle = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp(-distance / 0.07))
    np.testing.assert_allclose(votes / 20, oracle.fit(data.X, data.y).predict_proba(fresh.X), atol=1e-5)


def test_length_of_a_feature_vector_does_not_matter(three):
    lengths = np.random.default_rng(0).uniform(0.1, 50, (90, 1)).astype(np.float32)
    one = knn.fit(three.X, three.y, 3).head.logits(three.X)
    other = knn.fit(three.X * lengths, three.y, 3).head.logits(three.X * 3)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_directions_have_length_one_or_none():
    features = np.array([[3, 4], [0, 0], [1e-40, 0], [3e38, 3e38]], np.float32)
    lengths = np.linalg.norm(knn.directions(features).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, [1, 0, 1, 1], atol=1e-6)


def test_no_more_neighbours_than_a_fold_learns_from(two):
    assert knn.fit(two.X, two.y, 2, neighbours=(1000,)).head.neighbours == 48


def test_chunks_do_not_show(three, monkeypatch):
    head = knn.fit(three.X, three.y, 3).head
    whole = head.logits(three.X)
    monkeypatch.setattr(knn, "_SIMILARITIES", 900)
    np.testing.assert_allclose(head.logits(three.X), whole, atol=1e-6)


def test_with_blocks_the_similarity_is_the_mean_of_the_cosines(clouds):
    data = clouds(20, 12, 3)
    parts = np.split(data.X * np.repeat(np.float32([1, 30]), [4, 8]), [4], axis=1)
    ours = knn.directions(np.hstack(parts), (4, 8))
    theirs = np.mean([cosine_similarity(part) for part in parts], axis=0)
    np.testing.assert_allclose(ours @ ours.T, theirs, atol=1e-6)
