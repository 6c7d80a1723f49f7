"""The perceptron against scikit-learn's own probabilities."""

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from regraft.heads import mlp
from regraft.heads.head import log_softmax


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_equals_scikit_learn(n_classes, clouds):
    data = clouds(60, 10, n_classes, apart=0.5)
    fitted = mlp.fit(data.X, data.y, n_classes, seed=3)
    head = fitted.head
    scaled = head.scaling.single(data.X) * np.float32(np.sqrt(10))
    oracle = MLPClassifier(
        (128,), alpha=fitted.chosen["decay"], batch_size=60, learning_rate_init=3e-3, max_iter=30, tol=0, random_state=3
    ).fit(scaled, data.y)
    ours = np.exp(log_softmax(head.logits(data.X) * head.temperature))
    np.testing.assert_allclose(ours, oracle.predict_proba(scaled), atol=1e-5)


def test_another_seed_is_another_network(three):
    one, other = (mlp.fit(three.X, three.y, 3, seed=seed).head for seed in (0, 1))
    assert not np.allclose(one.hidden_weights, other.hidden_weights)


def test_learns_what_no_line_can():
    generator = np.random.default_rng(0)
    features = generator.uniform(-1, 1, (300, 2)).astype(np.float32)
    targets = (features[:, 0] * features[:, 1] > 0).astype(int)
    assert mlp.fit(features, targets, 2).chosen["accuracy"] > 0.85
