"""Numbers from neighbours, against loops that say the same at length."""

import numpy as np
import pytest

from regraft import heads
from regraft.heads import knn_regression


def make(n_images=50, width=6, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((n_images, width)).astype(np.float32)
    return features, np.column_stack([features[:, 0] * 3 + 10, generator.standard_normal(n_images)])


def told(query, known, numbers, k):
    """One image's numbers, step by step."""
    cosines = known @ query / np.linalg.norm(known, axis=1) / np.linalg.norm(query)
    nearest = np.argsort(-cosines, kind="stable")[:k]
    weights = np.exp(cosines[nearest] / 0.07)
    return weights @ numbers[nearest] / weights.sum()


@pytest.mark.parametrize("k", [1, 5, 50])
def test_the_weighted_mean_of_the_nearest(k):
    features, numbers = make()
    head = knn_regression.fit(features, numbers, 2, neighbours=(k,)).head
    queries, _ = make(9, seed=1)
    expected = [told(query, features, numbers, min(k, 49)) for query in queries]
    np.testing.assert_allclose(head.logits(queries), expected, rtol=1e-4)


def test_k_is_chosen_by_leaving_each_image_out(monkeypatch):
    monkeypatch.setattr(knn_regression, "_SIMILARITIES", 500)  # many parts
    features, numbers = make()
    history = knn_regression.fit(features, numbers, 2, neighbours=(2, 7)).history
    for row in history:
        errors = [
            told(features[i], np.delete(features, i, 0), np.delete(numbers, i, 0), row["neighbours"]) - numbers[i]
            for i in range(50)
        ]
        np.testing.assert_allclose(row["rmse"], np.sqrt(np.square(errors).mean(axis=0)), rtol=1e-4)


def test_a_group_is_left_out_together():
    features, numbers = make()
    twice, same = np.tile(features, (2, 1)), np.tile(numbers, (2, 1))
    grouped = knn_regression.fit(twice, same, 2, groups=np.tile(np.arange(50).astype(str), 2))
    assert knn_regression.fit(twice, same, 2).chosen["neighbours"] == 1
    assert grouped.chosen["neighbours"] > 1
    assert "assumed" in knn_regression.fit(features, numbers, 2, groups=np.full(50, "g")).chosen["by"]


def test_a_copy_of_a_training_image_gets_nearly_its_number():
    features, numbers = make()
    head = knn_regression.fit(features, numbers, 2, neighbours=(1,)).head
    np.testing.assert_allclose(head.logits(features * np.float32(9)), numbers)


def test_saved_and_loaded_it_is_the_same():
    features, numbers = make()
    head = knn_regression.fit(features, numbers, 2, blocks=(2, 4)).head
    again = heads.load("knn-regression", head.arrays(), head.settings())
    np.testing.assert_array_equal(again.logits(features), head.logits(features))
    scaled = features.copy()
    scaled[:, :2] *= 100
    np.testing.assert_allclose(head.logits(scaled), head.logits(features), rtol=1e-4)
