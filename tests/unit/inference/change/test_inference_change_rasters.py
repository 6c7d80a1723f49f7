"""Windows are read as rasterio reads them, and damage is told with file and place."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

from regraft.errors import ImageRejected, MissingExtra
from regraft.inference.change.rasters import open_raster

rasterio = pytest.importorskip("rasterio")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 7])
def test_windows_are_what_was_written(geotiff, noise, dtype, bands):
    values = noise(bands, 150, 130, dtype=dtype)
    with open_raster(geotiff("a.tif", values)) as raster:
        assert (raster.size, raster.bands, raster.dtype) == ((150, 130), bands, dtype)
        assert raster.crs == rasterio.CRS.from_epsg(32633)
        assert (raster.transform.c, raster.transform.f) == (500_000, 5_000_000)
        found = raster.read(60, 50, 70, 80)
        assert found.dtype == dtype
        assert (found == values[:, 60:130, 50:130].transpose(1, 2, 0)).all()
        assert raster.valid(60, 50, 70, 80).all()


def test_no_data_are_told_and_read_as_zero(geotiff, noise):
    values = noise(3, 80, 70, dtype="int16") + np.int16(1)
    values[:, 10:20] = -9999  # in every band: no data
    values[0, 30, 5] = -9999  # in one band: the others are there
    with open_raster(geotiff("a.tif", values, nodata=-9999)) as raster:
        valid, found = raster.valid(0, 0, 80, 70), raster.read(0, 0, 80, 70)
    assert (np.flatnonzero(~valid.all(axis=1)) == np.arange(10, 20)).all()
    assert not found[10:20].any()
    assert found[30, 5, 0] == 0
    assert (found[30, 5, 1:] == values[1:, 30, 5]).all()


def test_nan_and_infinity_are_no_data(geotiff, noise):
    values = noise(2, 64, 64, dtype="float32")
    values[0, 3, 4], values[1, 5, 6] = np.nan, np.inf
    with open_raster(geotiff("a.tif", values)) as raster:
        valid, found = raster.valid(0, 0, 64, 64), raster.read(0, 0, 64, 64)
    assert [tuple(at) for at in np.argwhere(~valid)] == [(3, 4), (5, 6)]
    assert np.isfinite(found).all()


def test_float64_is_read_as_float32_and_other_kinds_are_refused(geotiff):
    with open_raster(geotiff("a.tif", np.full((1, 20, 20), 0.1))) as raster:
        assert raster.dtype == "float32"
        assert raster.read(0, 0, 2, 2).dtype == np.float32
    with (
        pytest.raises(ImageRejected, match=r"b\.tif: its bands are complex64; read are uint8"),
        open_raster(geotiff("b.tif", np.zeros((1, 20, 20), "complex64"))),
    ):
        pass


def test_transparency_is_no_band_but_a_mask(geotiff, noise):
    values = noise(4, 40, 40)
    values[3] = 255
    values[3, :7] = 0
    with open_raster(geotiff("a.tif", values, photometric="RGB", alpha="YES")) as raster:
        assert raster.bands == 3
        assert (raster.valid(0, 0, 40, 40) == (values[3] > 0)).all()


def test_a_palette_is_refused(geotiff, noise):
    path = geotiff("a.tif", noise(1, 40, 40, high=4))
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {n: (n, n, n, 255) for n in range(4)})
    with pytest.raises(ImageRejected, match="palette"), open_raster(path):
        pass


def test_pictures_are_decoded_up_to_a_limit(tmp_path, noise):
    values = noise(30, 40, 3)
    Image.fromarray(values).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster:
        assert (raster.size, raster.dtype, raster.transform) == ((30, 40), "uint8", None)
        assert (raster.read(5, 6, 7, 8) == values[5:12, 6:14]).all()
    with pytest.raises(ImageRejected, match=r"a\.png"), open_raster(tmp_path / "a.png", max_pixels=1000):
        pass


def test_a_deep_png_keeps_its_values(tmp_path, noise):
    values = noise(30, 40, dtype="uint16", high=60_000)
    Image.fromarray(values).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster:
        assert (raster.dtype, raster.bands) == ("uint16", 1)
        assert (raster.read(5, 6, 7, 8)[:, :, 0] == values[5:12, 6:14]).all()


@pytest.mark.parametrize("options", [{}, {"tiled": False}, {"compress": None}])
def test_a_cut_file_is_told_with_its_place(geotiff, noise, options):
    path = geotiff("a.tif", noise(3, 200, 200), interleave="pixel", **options)
    os.truncate(path, path.stat().st_size * 6 // 10)
    with open_raster(path) as raster:
        assert raster.read(0, 0, 20, 20).any()
        with pytest.raises(
            ImageRejected, match=r"a\.tif: rows 150 to 189, columns 130 to 179 cannot be read .*damaged"
        ):
            raster.read(150, 130, 40, 50)


def test_a_file_without_its_directory_is_told(geotiff, noise):
    path = geotiff("a.tif", noise(1, 100, 100))
    os.truncate(path, 40)
    with pytest.raises(ImageRejected, match=r"a\.tif: cannot be opened .*damaged"), open_raster(path):
        pass
    path.write_text("no picture at all")
    with pytest.raises(ImageRejected, match="not an image"), open_raster(path):
        pass
    with pytest.raises(ImageRejected, match="No such file"), open_raster(path.with_name("none.tif")):
        pass


def test_without_rasterio_plain_tiffs_are_read_and_others_name_the_extra(geotiff, noise, tmp_path, monkeypatch):
    values = noise(30, 40, 3)
    Image.fromarray(values).save(tmp_path / "plain.tif")
    placed = geotiff("placed.tif", noise(3, 30, 40))
    deep = geotiff("deep.tif", noise(3, 30, 40, dtype="uint16"))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with open_raster(tmp_path / "plain.tif") as raster:
        assert (raster.read(0, 0, 30, 40) == values).all()
    for path in (placed, deep):
        with pytest.raises(MissingExtra, match=r"rasterio: pip install 'regraft\[geo\]'"), open_raster(path):
            pass
