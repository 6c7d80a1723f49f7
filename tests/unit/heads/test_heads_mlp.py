"""The perceptron: where it starts, how it steps, and what a line could not learn."""

import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPClassifier

from regraft.heads import mlp, nearest_mean
from regraft.heads.head import log_softmax
from regraft.heads.prepared import prepare
from regraft.heads.space import space_of


@pytest.mark.parametrize(("n_images", "width", "n_classes"), [(60, 10, 2), (60, 200, 3), (80, 30, 8)])
def test_before_the_first_step_it_is_the_nearest_mean(n_images, width, n_classes, clouds):
    data, fresh = clouds(n_images, width, n_classes, apart=0.4), clouds(50, width, n_classes, apart=0.4, seed=3)
    start = mlp.fit(data.X, data.y, n_classes, steps=(0,)).head.logits(fresh.X)
    mean = nearest_mean.fit(data.X, data.y, n_classes).head.logits(fresh.X)
    start, mean = (logits - logits.mean(axis=1, keepdims=True) for logits in (start, mean))
    np.testing.assert_allclose(start / np.linalg.norm(start), mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_hidden_layer_computes_what_scikit_learn_computes(three):
    head = mlp.fit(three.X, three.y, 3).head
    oracle = MLPClassifier((len(head.hidden_bias),), max_iter=1, random_state=0).fit(three.X, three.y)
    oracle.coefs_, oracle.intercepts_ = [head.hidden_weights, head.weights], [head.hidden_bias, head.bias]
    theirs = oracle.predict_proba(head.scaling(three.X))
    np.testing.assert_allclose(np.exp(log_softmax(head.logits(three.X) * head.temperature)), theirs, atol=1e-9)


def test_the_first_step_goes_down_the_gradient_that_torch_finds(three):
    rows = space_of(prepare(three.X, three.y, 3).rows).rows
    network = mlp._start(rows, three.y, 0)
    before = [part.copy() for part in network.weights]
    first = [torch.from_numpy(part.copy()).requires_grad_() for part in before]
    hidden = torch.relu(torch.from_numpy(rows) @ first[0] + first[1])
    loss = torch.nn.functional.cross_entropy(hidden @ first[2] + first[3], torch.from_numpy(three.y))
    network.step()
    for old, new, gradient in zip(before, network.weights, torch.autograd.grad(loss, first), strict=True):
        step, slope = (new - old).ravel(), gradient.numpy().ravel()
        assert step @ slope == pytest.approx(-np.linalg.norm(step) * np.linalg.norm(slope), rel=1e-3)


@pytest.mark.parametrize(("n_images", "width", "apart"), [(90, 12, 0.3), (60, 300, 0.1), (300, 3, 2.0)])
def test_steps_lower_the_loss_on_the_rows(n_images, width, apart, clouds):
    data = clouds(n_images, width, 3, apart=apart)
    losses = []
    for steps in (0, 16, 48, 400):
        fitted = mlp.fit(data.X, data.y, 3, steps=(steps,))
        own = log_softmax(fitted.head.logits(data.X) * fitted.head.temperature)
        losses.append(-own[np.arange(n_images), data.y].mean())
    assert losses == sorted(losses, reverse=True)


def test_another_seed_is_another_network(three):
    one, other = (mlp.fit(three.X, three.y, 3, seed=seed).head for seed in (0, 1))
    assert not np.allclose(one.hidden_weights, other.hidden_weights)


def test_learns_what_no_line_can():
    generator = np.random.default_rng(0)
    features = generator.uniform(-1, 1, (300, 2)).astype(np.float32)
    targets = (features[:, 0] * features[:, 1] > 0).astype(int)
    assert mlp.fit(features, targets, 2).chosen["accuracy"] > 0.85


def test_the_largest_eigenvalue_is_numpys(clouds):
    matrix = clouds(40, 9).X
    found = mlp._Largest(9)(matrix, 200)
    assert found == pytest.approx(np.linalg.norm(matrix, 2) ** 2, rel=1e-4)
    assert mlp._Largest(9)(np.zeros((4, 9), np.float32), 5) == 0
