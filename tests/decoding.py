"""What tests ask of a decoded file."""

import numpy as np
import pytest

from regraft.data.decode import decode
from regraft.errors import ImageRejected


def pixels(data: bytes, **options) -> np.ndarray:
    """Its pixels, uint8 (H, W, 3)."""
    return np.asarray(decode(data, path="x", **options).image)


def notes(data: bytes) -> tuple[str, ...]:
    """What was noted about it."""
    return decode(data, path="x").notes


def reason(data: bytes, **options) -> str:
    """Why it was rejected, which must be one clean sentence."""
    with pytest.raises(ImageRejected) as caught:
        decode(data, path="some/file.jpg", **options)
    assert caught.value.path == "some/file.jpg"
    assert not any(dirt in caught.value.reason for dirt in ("\n", "object at", "BytesIO"))
    return caught.value.reason
