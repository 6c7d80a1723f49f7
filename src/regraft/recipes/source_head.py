"""The classifier that came with a backbone's weights: source classes from features, with no image run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.errors import RegraftError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.features.frozen import Frozen

_MATRIX = 2


def source_logits(one: Frozen, features: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Logits (N, C) of the classes that a backbone of the catalogue was trained on, from its features (N, D).

    The classifier is the one matrix of shape (C, D) with a bias (C,) in the weights file that the backbone itself
    does not have. None where there is no such one, or more than one: a file without classifier, features that are
    not what the classifier sees, or a checkpoint of the user's own.
    """
    if one.card.checkpoint or not Path(one.card.weights_file).is_file():
        return None
    from safetensors import safe_open

    from regraft.checkpoints.read import read_state_dict

    with safe_open(one.weights, framework="numpy") as file:
        own = set(file.keys())
    try:
        state = read_state_dict(one.card.weights_file)
    except RegraftError:
        return None
    width = one.card.feature_dim
    found = []
    for name, weight in state.items():
        bias = state.get(f"{name.removesuffix('.weight')}.bias")
        if name in own or not name.endswith(".weight") or bias is None or weight.ndim != _MATRIX:
            continue
        if weight.shape[1] == width and tuple(bias.shape) == (weight.shape[0],):
            found.append((weight.double().numpy(), bias.double().numpy()))
    if len(found) != 1:
        return None
    matrix, offset = found[0]
    logits: NDArray[np.float64] = features.astype(np.float64) @ matrix.T + offset
    return logits
