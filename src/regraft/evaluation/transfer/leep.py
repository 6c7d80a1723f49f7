"""NCE and LEEP: what the classes that a network was trained on say about the new ones.

Sources: A. Tran et al., "Transferability and hardness of supervised classification tasks", ICCV 2019 (negative
conditional entropy); C. Nguyen et al., "LEEP: a new measure to evaluate transferability of learned
representations", ICML 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.predictions import softmax
from regraft.evaluation.transfer.spectrum import one_hot

if TYPE_CHECKING:
    from numpy.typing import NDArray


def nce(source: NDArray[np.integer[Any]], targets: NDArray[np.int64]) -> float:
    """-H(Y | Z) in nats, at most 0: higher is better.

    Args:
        source: (N,) index of the source class that each image is taken for.
        targets: (N,) class indices.
    """
    joint = one_hot(source).T @ one_hot(targets) / len(targets)
    conditional = joint / joint.sum(axis=1, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(conditional[seen])).sum())


def leep(logits: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> float:
    """Mean log likelihood of the labels, guessed from source probabilities alone, in nats, at most 0: higher is better.

    Args:
        logits: (N, C) of the source classes.
        targets: (N,) class indices.
    """
    probabilities = softmax(logits.astype(np.float64))
    own = one_hot(targets)
    joint = own.T @ probabilities
    mass = joint.sum(axis=0)
    conditional = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    likelihood = ((probabilities @ conditional.T) * own).sum(axis=1)
    return float(np.log(likelihood).mean())
