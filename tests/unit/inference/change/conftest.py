"""Small scenes, made by code."""

import numpy as np
import pytest

UTM = "EPSG:32633"


@pytest.fixture
def geotiff(tmp_path):
    """Write (C, H, W) values as a GeoTIFF: half-metre pixels in UTM 33 unless told otherwise."""
    rasterio = pytest.importorskip("rasterio")

    def make(name, values, *, origin=(500_000, 5_000_000), pixel=0.5, crs=UTM, transform=None, **options):
        path = tmp_path / name
        place = transform or rasterio.transform.from_origin(*origin, pixel, pixel)
        count, height, width = values.shape
        profile = {
            "driver": "GTiff",
            "height": height,
            "width": width,
            "count": count,
            "dtype": values.dtype.name,
            "crs": crs,
            "transform": place,
            "tiled": True,
            "blockxsize": 64,
            "blockysize": 64,
            "compress": "deflate",
        } | options
        with rasterio.open(path, "w", **profile) as file:
            file.write(values)
        return path

    return make


@pytest.fixture
def noise():
    """Random values (C, H, W)."""

    def make(*shape, dtype="uint8", seed=0, high=250):
        return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)

    return make


def difference(pairs):
    """A network that sees one pixel at a time: how far the dates are apart, as the probability of change."""
    before, after = pairs[:, 0].astype(np.float32), pairs[:, 1].astype(np.float32)
    changed = np.clip(np.abs(before - after).mean(axis=-1) / 250, 0, 1)
    return np.stack([1 - changed, changed], axis=1)


@pytest.fixture
def segment():
    return difference
