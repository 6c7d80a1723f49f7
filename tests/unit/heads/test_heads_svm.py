"""Support vector machines against scikit-learn's own decision function."""

import numpy as np
import pytest
from sklearn.svm import SVC

from regraft.heads import svm
from regraft.heads.prepared import prepare


@pytest.mark.parametrize("kernel", svm.KERNELS)
def test_equals_scikit_learn(kernel, clouds):
    data = clouds(120, 20, 3, apart=0.6)
    fitted = svm.fit(data.X, data.y, 3, kernels=(kernel,))
    head, chosen = fitted.head, fitted.chosen
    scaled = head.scaling(data.X)
    for label in range(3):
        oracle = SVC(C=chosen["C"], kernel=kernel, gamma=chosen.get("gamma", 1.0)).fit(scaled, data.y == label)
        np.testing.assert_allclose(
            head.logits(data.X)[:, label] * head.temperature, oracle.decision_function(scaled), atol=5e-3
        )


def test_a_linear_kernel_shows_no_gamma(two):
    fitted = svm.fit(two.X, two.y, 2, kernels=("linear",))
    assert not any("gamma" in row for row in [*fitted.history, fitted.chosen])
    alone = svm.fit(two.X[:2], [0, 1], 2, kernels=("linear",))
    assert "gamma" not in alone.chosen


@pytest.mark.parametrize("kernel", svm.KERNELS)
def test_two_classes_are_one_machine_seen_from_both_sides(kernel, two):
    head = svm.fit(two.X, two.y, 2, kernels=(kernel,)).head
    logits = head.logits(two.X)
    np.testing.assert_array_equal(logits[:, 0], -logits[:, 1])
    assert np.array_equal(logits.argmax(axis=1), (logits[:, 1] > 0).astype(int))


def test_kernel_is_chosen_by_what_held_out_images_say():
    """Inside against outside of a ring is beyond any line."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((200, 2)).astype(np.float32)
    targets = (np.square(features).sum(axis=1) > 1.4).astype(int)
    fitted = svm.fit(features, targets, 2)
    assert fitted.head.name == "svm-rbf"
    assert fitted.chosen["accuracy"] > 0.93
    assert {row["kernel"] for row in fitted.history} == {"linear", "rbf"}
    assert all(("gamma" in row) == (row["kernel"] == "rbf") for row in fitted.history)


def test_each_support_vector_is_stored_once_and_no_other_row(three):
    head = svm.fit(three.X, three.y, 3, kernels=("rbf",)).head
    assert len(head.vectors) <= 90
    assert head.coefficients.any(axis=1).all()
    assert len(np.unique(head.vectors, axis=0)) == len(head.vectors)
    assert svm.fit(three.X, three.y, 3, kernels=("linear",)).head.vectors.shape == (0, 12)


def test_chunks_do_not_show(three, monkeypatch):
    head = svm.fit(three.X, three.y, 3, kernels=("rbf",)).head
    whole = head.logits(three.X)
    monkeypatch.setattr(svm, "CHUNK", 7)
    np.testing.assert_allclose(head.logits(three.X), whole, rtol=1e-9)


def test_more_rows_than_it_can_take_are_thinned_with_a_note(clouds, monkeypatch):
    monkeypatch.setattr(svm, "_MAX_ROWS", 60)
    data = clouds(120, 6, 3)
    fitted = svm.fit(data.X, data.y, 3)
    assert "the machine learnt from 60 of the 120 training images" in fitted.notes
    assert (fitted.head.logits(data.X).argmax(axis=1) == data.y).mean() > 0.9


def test_machines_on_the_same_rows_try_no_candidate_twice(three, monkeypatch):
    calls = []
    real = svm._machines
    monkeypatch.setattr(svm, "_machines", lambda *given: calls.append(given) or real(*given))
    ready = prepare(three.X, three.y, 3)
    svm.fit(three.X, three.y, 3, prepared=ready)
    assert len(calls) == 5 * 9 + 1
    for kernel in svm.KERNELS:
        svm.fit(three.X, three.y, 3, kernels=(kernel,), prepared=ready)
    assert len(calls) == 5 * 9 + 3
