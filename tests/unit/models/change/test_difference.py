"""The linear layer on differences, against the same sum in another order and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from regraft.models.change.difference import LinearDifference

CHANNELS, SIDES = (3, 5), (16, 4)


def maps(pairs=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(pairs, 2, c, s, s, generator=generator) * c for c, s in zip(CHANNELS, SIDES, strict=True)]


@pytest.fixture
def head():
    torch.manual_seed(1)
    made = LinearDifference(CHANNELS, 3)
    made(maps(64), (16, 16))  # statistics of something
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made.eval()


def test_it_starts_with_equal_chances():
    assert not LinearDifference(CHANNELS, 2)(maps(), (32, 32)).any()


def test_weights_may_come_before_or_after_enlarging(head):
    wide = []
    for scale, one in zip(head.scales, maps(), strict=True):
        difference = (one[:, 0] - one[:, 1]).abs()
        level = (difference - scale.running_mean[:, None, None]) / (scale.running_var + scale.eps)[:, None, None].sqrt()
        wide.append(functional.interpolate(level, (32, 48), mode="bilinear", align_corners=False))
    weight = torch.cat([layer.weight for layer in head.weights], 1)
    expected = functional.conv2d(torch.cat(wide, 1), weight, head.bias)
    with torch.no_grad():
        torch.testing.assert_close(head(maps(), (32, 48)), expected, rtol=1e-4, atol=1e-5)


def test_stored_differences_have_the_same_logits(head):
    stored = head.differences(maps())
    assert [tuple(one.shape) for one in stored] == [(4, 3, 16, 16), (4, 5, 4, 4)]
    with torch.no_grad():
        expected = head(maps(), (32, 32))
        assert torch.equal(head.forward_stored(stored, (32, 32)), expected)
        half = head.forward_stored([one.half() for one in stored], (32, 32))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(head.forward_stored(stored, (32, 32)), expected)
    torch.testing.assert_close(half, expected, rtol=0.01, atol=0.02)


def test_the_scale_of_a_backbones_maps_does_not_matter():
    one, other = LinearDifference(CHANNELS, 2).train(), LinearDifference(CHANNELS, 2).train()
    with torch.no_grad():
        for head in (one, other):
            for layer in head.weights:
                layer.weight.fill_(0.3)
        torch.testing.assert_close(one(maps(), (16, 16)), other([m * 50 for m in maps()], (16, 16)), atol=1e-3, rtol=0)


def test_it_learns_what_logistic_regression_does():
    (given, _), size = maps(8), (16, 16)
    head = LinearDifference(CHANNELS[:1], 2).train()
    difference = head.differences([given])[0]
    truth = (difference[:, 0] + 0.5 * difference[:, 1] + torch.randn(8, 16, 16) > 4).long()
    mean, std = difference.mean((0, 2, 3)), difference.var((0, 2, 3), unbiased=False).sqrt()
    rows = ((difference - mean[:, None, None]) / std[:, None, None]).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    theirs = LogisticRegression(C=np.inf).fit(rows, truth.flatten().numpy())
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = functional.cross_entropy(head.forward_stored([difference], size), truth)
        loss.backward()
        return loss

    optimiser.step(closure)
    weight = head.weights[0].weight.detach()[:, :, 0, 0]
    np.testing.assert_allclose((weight[1] - weight[0]).numpy(), theirs.coef_[0], atol=0.02)
