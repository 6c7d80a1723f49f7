"""Features of many images, and exactly what they are features of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.backbones.preprocessing import Preprocessing

EXTRACTOR_VERSION = 1
"""Raised whenever decoding, preprocessing or extraction changes a feature's value; old rows are then not used."""

VIEWS = {"none": ("plain",), "flip": ("plain", "flip")}
"""What `--views` takes, and the views whose features it averages."""


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """Everything besides the image's bytes that decides a feature's value.

    Attributes:
        architecture: zoo and model name.
        weights_sha256: hash of the backbone's state dict as safetensors.
        preprocessing: what is done to the decoded image.
        runtime: "openvino" or "torch".
        precision: "f32" or "bf16".
        view: "plain" or "flip" (mirrored left to right).
        extractor: `EXTRACTOR_VERSION` of the code that computes.
    """

    architecture: str
    weights_sha256: str
    preprocessing: Preprocessing
    runtime: str
    precision: str
    view: str = "plain"
    extractor: int = EXTRACTOR_VERSION

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def fingerprint(self) -> str:
        """The name of this space in the store: 32 hex digits."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class FeatureTable:
    """Features of N images.

    Attributes:
        keys: SHA-256 of each image's bytes, in hex.
        features: (N, D) float32, row i belonging to `keys[i]`.
        fingerprints: of the spaces whose rows were averaged (one a view), or of an external file.
    """

    keys: tuple[str, ...]
    features: NDArray[np.float32]
    fingerprints: tuple[str, ...]
