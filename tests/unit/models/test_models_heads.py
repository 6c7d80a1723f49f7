"""Trainable heads against the plain ones that they start from and end as."""

import numpy as np
import pytest
import torch
from torch import nn

from regraft import heads
from regraft.errors import OptionError
from regraft.heads import linear_probe
from regraft.heads.linear_probe import LinearProbe
from regraft.heads.scaling import Scaling, learn_scaling
from regraft.models.heads import make_head, to_head

WIDTH = 24


def features(rows=50, seed=0):
    """Of uneven scale and far from zero, as pooled activations are."""
    generator = np.random.default_rng(seed)
    return (generator.gamma(2, size=(rows, WIDTH)) * generator.uniform(0.01, 3, WIDTH) + 1).astype(np.float32)


def probe(present, n_classes):
    generator = np.random.default_rng(1)
    weights, bias = generator.normal(0, 30, (WIDTH, len(present))), generator.normal(0, 1, len(present))
    return LinearProbe(learn_scaling(features()), weights, bias, np.array(present), n_classes)


def of_module(module, rows):
    with torch.no_grad():
        return module.eval()(torch.from_numpy(rows)).double().numpy()


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_probe_becomes_a_linear_head():
    start = probe([0, 1, 2], 3)
    rows = features(seed=5)
    close(of_module(make_head("linear", WIDTH, 3, probe=start, seed=0), rows), start.logits(rows))


def test_a_fitted_probe_becomes_a_linear_head():
    rows = features(90)
    start = linear_probe.fit(rows, np.arange(90) % 3, 3, strengths=(1e-3,)).head
    close(of_module(make_head("linear", WIDTH, 3, probe=start, seed=0), rows), start.logits(rows))


def test_classes_that_a_probe_never_saw_start_far_below_the_others():
    start = probe([0, 3], 5)
    module = make_head("linear", WIDTH, 5, probe=start, seed=0)
    logits = of_module(module, features(seed=5))
    close(logits[:, [0, 3]], start.logits(features(seed=5))[:, [0, 3]])
    unseen, mean = logits[:, [1, 2, 4]], logits[:, [0, 3]].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(unseen, np.repeat(mean - 50, 3, axis=1), atol=1e-4 * np.abs(logits).max())


def test_without_a_probe_all_classes_are_equally_likely():
    for kind in ("linear", "mlp"):
        assert not of_module(make_head(kind, WIDTH, 4, seed=0), features()).any()


def test_the_hidden_layer_depends_on_the_seed_alone():
    one, same, other = (make_head("mlp", WIDTH, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one[0].weight, same[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_scaling_makes_hidden_inputs_of_one_size_whatever_the_unit(unit):
    rows = features(400) * np.float32(unit)
    module = make_head("mlp", WIDTH, 3, hidden=512, scaling=learn_scaling(rows), seed=0)
    hidden = of_module(module[0], rows)
    # Variance 2 before the ReLU is He's condition: half of it passes.
    assert hidden.var() == pytest.approx(2, rel=0.2)
    assert abs(hidden.mean()) < 0.2


def trained(kind, classes=4, dropout=0.5):
    """A head with all its numbers stirred."""
    module = make_head(kind, WIDTH, classes, dropout=dropout, hidden=16, seed=0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return module.train()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize(("kind", "name"), [("linear", "linear-probe"), ("mlp", "mlp")])
def test_a_trained_head_becomes_a_plain_one_that_a_bundle_keeps(kind, name, temperature, dropout):
    module = trained(kind, dropout=dropout)
    head = to_head(module, 4, np.arange(4), temperature)
    assert head.name == name
    rows = features(seed=5)
    close(head.logits(rows), of_module(module, rows) / temperature)
    again = heads.load(head.name, head.arrays(), head.settings())
    np.testing.assert_array_equal(again.logits(rows), head.logits(rows))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_classes_without_images_are_never_predicted(kind):
    module = trained(kind)
    rows = features(seed=5)
    logits = to_head(module, 4, np.array([1, 3])).logits(rows)
    close(logits[:, [1, 3]], of_module(module, rows)[:, [1, 3]])
    np.testing.assert_array_equal(logits[:, 0], logits.min(axis=1))
    assert (logits[:, 0] < logits[:, [1, 3]].min(axis=1) - 49).all()


def test_there_and_back():
    start = probe([0, 1, 2], 3)
    rows = features(seed=5)
    close(to_head(make_head("linear", WIDTH, 3, probe=start, seed=0), 3, np.arange(3)).logits(rows), start.logits(rows))


def test_dropout_acts_in_training_only():
    module = trained("linear")
    rows = torch.from_numpy(features())
    assert not torch.equal(module(rows), module(rows))
    assert torch.equal(module.eval()(rows), module(rows))


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(OptionError, match="no trainable head 'conv'"):
        make_head("conv", WIDTH, 3, seed=0)
    with pytest.raises(OptionError, match="cannot start a head 'mlp'"):
        make_head("mlp", WIDTH, 3, probe=probe([0, 1, 2], 3), seed=0)
    with pytest.raises(OptionError, match="24 features and 3 classes cannot start a head 'linear' of 23"):
        make_head("linear", WIDTH - 1, 3, probe=probe([0, 1, 2], 3), seed=0)
    with pytest.raises(OptionError, match="a scaling of 2 features"):
        make_head("mlp", WIDTH, 3, scaling=Scaling(np.zeros(2), np.ones(2)), seed=0)
    with pytest.raises(OptionError, match="not a head for 4 classes"):
        to_head(nn.Linear(WIDTH, 3), 4, np.arange(4))
