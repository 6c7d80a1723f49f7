"""Losses of several tasks against their definitions and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error

from regraft.losses.binary_cross_entropy import binary_cross_entropy
from regraft.losses.half_square import half_square
from regraft.losses.uncertainty import UncertaintyWeights


def test_binary_cross_entropy_is_the_log_loss_of_the_known_cells():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20, 4, generator=generator)
    targets = torch.randint(-1, 2, (20, 4), generator=generator, dtype=torch.int8)
    known = (targets >= 0).numpy()
    expected = log_loss(targets.numpy()[known], torch.sigmoid(scores).numpy()[known].astype(np.float64))
    assert float(binary_cross_entropy(scores, targets)) == pytest.approx(expected, rel=1e-5)


def test_half_square_is_half_the_mean_squared_error_of_the_known_cells():
    generator = torch.Generator().manual_seed(1)
    told, targets = torch.randn(2, 15, 3, generator=generator)
    targets[::4, 1] = float("nan")
    known = torch.isfinite(targets).numpy()
    expected = mean_squared_error(targets.numpy()[known], told.numpy()[known]) / 2
    assert float(half_square(told, targets)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [binary_cross_entropy, half_square])
def test_unknown_cells_change_nothing_and_get_no_gradient(loss):
    missing = -1.0 if loss is binary_cross_entropy else float("nan")
    outputs = torch.tensor([[0.5, 3.0], [-1.0, 7.0]], requires_grad=True)
    targets = torch.tensor([[1.0, missing], [0.0, missing]])
    loss(outputs, targets).backward()
    assert torch.equal(outputs.grad[:, 1], torch.zeros(2))
    assert bool((outputs.grad[:, 0] != 0).all())
    assert loss(outputs, targets).item() == loss(outputs[:, :1], targets[:, :1]).item()
    assert loss(outputs, torch.full((2, 2), missing)) is None


def test_learnt_variances_settle_at_twice_the_losses():
    weighing = UncertaintyWeights(3)
    losses = torch.tensor([0.05, 0.5, 4.0])
    at_first = sum(weighing(n, loss) for n, loss in enumerate(losses))
    assert at_first.item() == pytest.approx(float(losses.sum())), "at first the plain sum"
    optimiser = torch.optim.LBFGS(weighing.parameters(), max_iter=200, tolerance_grad=1e-9)

    def closure():
        optimiser.zero_grad()
        total = sum(weighing(n, loss) for n, loss in enumerate(losses))
        total.backward()
        return total

    optimiser.step(closure)
    found = weighing.log_variances.detach()
    torch.testing.assert_close(found, torch.log(2 * losses), rtol=1e-3, atol=1e-3)
    least = sum(weighing(n, loss).item() for n, loss in enumerate(losses))
    assert least == pytest.approx(sum(0.5 + math.log(2 * loss) / 2 for loss in losses.tolist()), rel=1e-4)


def test_a_squared_error_with_its_variance_is_a_normal_log_loss():
    """Equation 5 of the paper, up to half the logarithm of two pi."""
    generator = torch.Generator().manual_seed(2)
    told, true = torch.randn(2, 50, 1, generator=generator)
    weighing = UncertaintyWeights(1)
    torch.nn.init.constant_(weighing.log_variances, 0.7)
    normal = torch.distributions.Normal(told, math.exp(0.35))
    expected = -normal.log_prob(true).mean() - math.log(2 * math.pi) / 2
    assert weighing(0, half_square(told, true)).item() == pytest.approx(expected.item(), rel=1e-5)
