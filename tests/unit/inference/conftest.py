"""Small bundles without a backbone, as training on a feature file leaves them."""

from types import SimpleNamespace

import numpy as np
import pytest

from regraft import heads
from regraft.inference.bundle import Bundle, write_bundle

CLASSES = ("ants", "caf\udce9", "猫")


@pytest.fixture
def features():
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 3
    rows = (np.eye(3, 12)[targets] * 4 + generator.standard_normal((60, 12))).astype(np.float32)
    return SimpleNamespace(X=rows, y=targets)


@pytest.fixture
def write(tmp_path, features):
    """Write a bundle of a head into a new folder and give the folder and what was written."""

    def build(head="linear-probe", folder="bundle", **changes):
        values = {
            "classes": CLASSES,
            "head": heads.fit(head, features.X, features.y, 3).head,
            "cards": (),
            "views": "none",
            "precision": "f32",
            "runtime": "none",
            "feature_dim": 12,
            "facts": {"strategy": head, "chosen": {"log_loss": 0.1, 5: (1, None)}, "metrics": {"nan": float("nan")}},
        }
        bundle = Bundle(**{**values, **changes})
        write_bundle(bundle, tmp_path / folder, [])
        return tmp_path / folder, bundle

    return build
