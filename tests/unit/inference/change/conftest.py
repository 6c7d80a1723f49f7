"""Small scenes, made by code."""

import numpy as np
import pytest

from regraft.backbones.backbone import BackboneCard
from regraft.backbones.preprocessing import Preprocessing
from regraft.data.bands import BandScale
from regraft.inference.change.bundle import ChangeBundle, write_change_bundle

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


CARD = BackboneCard(
    name="torchvision/resnet18",
    architecture="torchvision/resnet18",
    weights="none",
    weights_file="",
    weights_sha256="ab" * 32,
    licence="bsd-3-clause",
    preprocessing=Preprocessing((224, 224), 256, "shorter", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    feature_dim=512,
    parameters=11_176_512,
    stages=(),
    versions={"torchvision": "0.20"},
)


@pytest.fixture
def change_bundle(tmp_path):
    """Write the bundle of a random network: the folder, what was written, the network."""

    def build(*, network="bit:token_len=2", classes=("unchanged", "changed"), bands=3, dtype="uint8", tile=32):
        from regraft.models.change.net import build_change
        from regraft.models.change.spec import parse_model

        net, _ = build_change(parse_model(network), CARD, None, bands=bands, classes=len(classes), seed=1)
        for layer in net.modules():  # the linear difference begins with zeros
            if hasattr(layer, "weight") and layer.weight is not None and not layer.weight.any():
                layer.weight.data.normal_()
        scale = BandScale((127.5,) * bands, (1 / 127.5,) * bands)
        bundle = ChangeBundle(classes, network, CARD, bands, dtype, scale, tile, 0.25, {"strategy": "scratch"})
        write_change_bundle(bundle, tmp_path / "bundle", net.state_dict())
        return tmp_path / "bundle", bundle, net

    return build
