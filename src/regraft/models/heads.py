"""Heads that are trained with their backbone, and their way to the plain arrays that a bundle keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from regraft.errors import OptionError
from regraft.heads.linear_probe import LinearProbe
from regraft.heads.mlp import Perceptron
from regraft.heads.rows import UNSEEN_MARGIN
from regraft.heads.scaling import Scaling

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

KINDS = ("linear", "mlp")


def make_head(
    kind: Literal["linear", "mlp"],
    width: int,
    classes: int,
    *,
    probe: LinearProbe | None = None,
    scaling: Scaling | None = None,
    dropout: float = 0.0,
    hidden: int = 128,
    seed: int,
) -> nn.Module:
    """A head: features (B, width) -> logits (B, classes).

    Without a probe the last layer starts at zero: every class is equally likely whatever the scale of the
    features, and the trunk's gradient, which passes through these weights, starts at nothing and grows with what
    the head has learnt, where random weights would first shake the trunk in random directions (the distortion
    that Kumar et al. 2022, arXiv 2202.10054, describe).

    Args:
        kind: "linear", or "mlp": one hidden layer with ReLU.
        width: D.
        classes: K.
        probe: for "linear": start with this probe's logits. A class that it never saw starts 50 below the mean of
            the others: never first, and yet finite where smoothing asks for a little of it.
        scaling: for "mlp": of the features, folded into the hidden layer's first weights, so that its units start
            with inputs of variance 1. Without it the features are taken to have about that.
        dropout: share of the last layer's inputs that are dropped while training.
        hidden: units of the hidden layer.
        seed: of the hidden layer's first weights.

    Raises:
        OptionError: an unknown kind, or a probe or scaling that does not go with it.
    """
    if kind not in KINDS:
        raise OptionError(f"there is no trainable head {kind!r}; choose one of {', '.join(KINDS)}.")
    if probe is not None and (kind != "linear" or (len(probe.weights), probe.n_classes) != (width, classes)):
        raise OptionError(
            f"a probe of {len(probe.weights)} features and {probe.n_classes} classes cannot start a head {kind!r} of "
            f"{width} and {classes}: use 'linear' and the features that the probe was fitted on."
        )
    if scaling is not None and (kind != "mlp" or len(scaling.scale) != width):
        raise OptionError(
            f"a scaling of {len(scaling.scale)} features cannot start a head {kind!r} of {width}: it is for 'mlp', "
            "on the features that it was learnt from."
        )
    last = _zero(nn.Linear(width if kind == "linear" else hidden, classes))
    if probe is not None:
        _copy(last, *unfolded(probe))
    before = [nn.Dropout(dropout)] if dropout else []
    if kind == "linear":
        return nn.Sequential(*before, last) if before else last
    return nn.Sequential(_hidden_layer(width, hidden, scaling, seed), nn.ReLU(), *before, last)


def to_head(
    module: nn.Module, classes: int, present: NDArray[np.int64], temperature: float = 1.0
) -> LinearProbe | Perceptron:
    """The plain head whose logits are those of the module (in eval mode), divided by the temperature.

    Args:
        module: from `make_head`, trained.
        classes: K.
        present: (P,) indices of the classes that had training images, ascending. The others lie 50 below the
            least of a row, as in every head, whatever the module says of them.
        temperature: T > 0.

    Raises:
        OptionError: the module is not from `make_head`.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if len(layers) not in {1, 2} or layers[-1].out_features != classes:
        raise OptionError(f"{type(module).__name__} is not a head for {classes} classes that make_head made.")
    seen = np.asarray(present, dtype=np.int64)
    weights, bias = _arrays(layers[-1])
    weights, bias = weights[:, seen], bias[seen]
    width = layers[0].in_features
    plain = Scaling(np.zeros(width), np.ones(width))
    if len(layers) == 1:
        return LinearProbe(plain, weights / temperature, bias / temperature, seen, classes)
    return Perceptron(plain, *_arrays(layers[0]), weights, bias, float(temperature), seen, classes)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _hidden_layer(width: int, hidden: int, scaling: Scaling | None, seed: int) -> nn.Linear:
    """Weights of He et al. 2015 (arXiv 1502.01852) for inputs of variance 1, which `scaling` makes the features."""
    layer = nn.Linear(width, hidden)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn((width, hidden), generator=generator, dtype=torch.float64).numpy() * np.sqrt(2 / width)
    bias = np.zeros(hidden)
    if scaling is not None:
        # Scaled rows have norm 1, not numbers of variance 1.
        weights = weights * np.sqrt(width) / scaling.scale[:, None]
        bias = -scaling.centre @ weights
    _copy(layer, weights, bias)
    return layer


def unfolded(probe: LinearProbe) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (D, K) and bias (K,) that a probe has on unscaled features; a class that it never saw lies far below."""
    seen = probe.weights / probe.scaling.scale[:, None]
    seen_bias = probe.bias - probe.scaling.centre @ seen
    weights = np.repeat(seen.mean(axis=1, keepdims=True), probe.n_classes, axis=1)
    bias = np.full(probe.n_classes, seen_bias.mean() - UNSEEN_MARGIN)
    weights[:, probe.present], bias[probe.present] = seen, seen_bias
    return weights, bias


@torch.no_grad()
def _copy(layer: nn.Linear, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
    layer.weight.copy_(torch.from_numpy(weights.T))
    layer.bias.copy_(torch.from_numpy(bias))


def _arrays(layer: nn.Linear) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (inputs, outputs) and bias (outputs,)."""

    def exact(tensor: Tensor) -> NDArray[np.float64]:
        array: NDArray[np.float64] = tensor.detach().cpu().double().numpy()
        return array

    return np.ascontiguousarray(exact(layer.weight).T), exact(layer.bias)
