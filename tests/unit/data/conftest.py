"""Fixtures for the tests of data/."""

import io

import pytest
from PIL import Image


def _png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def png():
    """Bytes of a small PNG; another number gives another image."""
    return lambda number=0: _png((number % 256, number // 256 % 256, 7))


@pytest.fixture
def tree(tmp_path, png):
    """Makes files below a folder: names alone become images with content of their own, or bytes are given."""
    counter = iter(range(60_000))

    def make(*names, folder="data", **contents):
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        for name, content in [*((name, None) for name in names), *contents.items()]:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(next(counter)) if content is None else content)
        return root

    return make
