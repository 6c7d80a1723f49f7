"""Cross-entropy against its closed form in numpy."""

import numpy as np
import pytest
import torch

from regraft.errors import DataError
from regraft.losses.cross_entropy import class_weights, cross_entropy

LOGITS = np.random.default_rng(0).normal(0, 3, (7, 4))
FIRST, SECOND = np.array([0, 1, 2, 3, 3, 1, 0]), np.array([3, 3, 1, 0, 2, 1, 2])
WEIGHTS = np.array([0.5, 1.0, 2.0, 3.0])


def closed_form(targets, weights=None, smoothing=0.0):
    """Sum of w[y] (1 - e) (-log p[y]) + e / K sum over classes of w[c] (-log p[c]), over the sum of w[y]."""
    weights = np.ones(4) if weights is None else weights
    losses = np.log(np.exp(LOGITS).sum(1, keepdims=True)) - LOGITS
    own = losses[np.arange(7), targets] * weights[targets]
    spread = (losses * weights).sum(1) / 4
    return ((1 - smoothing) * own + smoothing * spread).sum() / weights[targets].sum()


def loss(**options):
    tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    return cross_entropy(torch.from_numpy(LOGITS), torch.from_numpy(FIRST), **tensors)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_equals_the_closed_form(weights, smoothing):
    expected = closed_form(FIRST, weights, smoothing)
    assert loss(weights=weights, smoothing=smoothing).item() == pytest.approx(expected, rel=1e-6)


def test_mixed_images_have_two_targets():
    expected = 0.3 * closed_form(FIRST, WEIGHTS, 0.1) + 0.7 * closed_form(SECOND, WEIGHTS, 0.1)
    found = loss(weights=WEIGHTS, smoothing=0.1, other=SECOND, share=0.3)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_a_share_of_one_leaves_the_other_target_out():
    assert loss(other=SECOND, share=1.0).item() == loss().item()


def test_half_precision_logits_are_summed_in_single():
    logits = torch.from_numpy(LOGITS).bfloat16()
    found = cross_entropy(logits, torch.from_numpy(FIRST), smoothing=0.1)
    assert found.dtype == torch.float32
    expected = cross_entropy(logits.double(), torch.from_numpy(FIRST), smoothing=0.1)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_gradient_is_what_is_told_less_what_is_true():
    logits = torch.from_numpy(LOGITS).float().requires_grad_()
    cross_entropy(logits, torch.from_numpy(FIRST), smoothing=0.2).backward()
    told = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    true = np.eye(4)[FIRST] * 0.8 + 0.05
    np.testing.assert_allclose(logits.grad.numpy(), (told - true) / 7, atol=1e-6)


def test_class_weights_make_classes_count_the_same():
    counts = np.array([10, 1, 0, 5])
    weights = class_weights(counts)
    np.testing.assert_allclose(weights * counts, [16 / 3, 16 / 3, 0, 16 / 3])
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)


def test_no_image_at_all():
    with pytest.raises(DataError, match="none of 2 classes"):
        class_weights([0, 0])
