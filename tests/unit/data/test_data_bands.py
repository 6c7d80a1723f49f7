"""Images with their own bands and types, against rasterio; and the scale on which a network sees them."""

import json

import numpy as np
import pytest
from PIL import Image

from regraft.data import bands
from regraft.data.bands import BandScale, load_bands, read_bands, sample_pixels, scale_for
from regraft.errors import ImageRejected, MissingExtra

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_tiff(path, values, **profile):
    """(H, W, C) as GeoTIFF by rasterio."""
    rasterio = pytest.importorskip("rasterio")
    height, width, count = values.shape
    place = rasterio.Affine(2, 0, 500_000, 0, -2, 4_000_000)
    settings = {"crs": "EPSG:32633", "transform": place, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=values.dtype.name, **settings
    ) as raster:
        raster.write(values.transpose(2, 0, 1))
    return path


def ramp(dtype, count, height=5, width=7):
    return (np.arange(height * width * count).reshape(height, width, count) * 3 - 40).astype(dtype)


@pytest.mark.parametrize("ending", ["png", "bmp", "webp"])
def test_eight_bit_images_are_rgb(tmp_path, ending):
    values = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / f"x.{ending}", lossless=True)
    np.testing.assert_array_equal(read_bands(tmp_path / f"x.{ending}"), values)
    Image.fromarray(values[..., 0]).save(tmp_path / "grey.png")
    assert read_bands(tmp_path / "grey.png").shape == (6, 9, 3)


def test_jpeg_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 4), "red").save(tmp_path / "x.jpg", exif=exif)
    assert read_bands(tmp_path / "x.jpg").shape == (8, 4, 3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_tiff_keeps_its_bands_and_type(tmp_path, dtype, count):
    values = ramp(dtype, count)
    found = load_bands(write_tiff(tmp_path / "x.tif", values, compress="deflate", photometric="minisblack"))
    np.testing.assert_array_equal(found.values, values)
    assert found.values.dtype == np.dtype(dtype)
    assert found.valid is None


def test_double_becomes_single_and_other_types_are_refused(tmp_path):
    assert read_bands(write_tiff(tmp_path / "x.tif", ramp("float64", 2))).dtype == np.float32
    with pytest.raises(ImageRejected, match="values of type int32; save them as"):
        read_bands(write_tiff(tmp_path / "y.tif", ramp("int32", 1)))


def test_sixteen_bit_png(tmp_path):
    pytest.importorskip("rasterio")
    values = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800
    Image.fromarray(values).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_bands(tmp_path / "x.png")[..., 0], values)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 9), ("int16", -32768), ("float32", -9999.0)])
def test_nodata_is_not_valid_and_zero(tmp_path, dtype, nodata):
    values = ramp(dtype, 2) + np.array(100, dtype)
    values[1, 2:4] = nodata
    found = load_bands(write_tiff(tmp_path / "x.tif", values, nodata=nodata))
    expected = np.ones((5, 7), bool)
    expected[1, 2:4] = False
    np.testing.assert_array_equal(found.valid, expected)
    np.testing.assert_array_equal(found.values, values * expected[..., None])


def test_nan_infinite_and_too_large_floats_are_not_valid(tmp_path):
    values = ramp("float64", 2)
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 0] = np.nan, np.inf, -1.7e308
    found = load_bands(write_tiff(tmp_path / "x.tif", values))
    assert np.argwhere(~found.valid).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert np.isfinite(found.values).all()


def test_alpha_is_no_band(tmp_path):
    values = ramp("uint8", 4)
    values[..., 3] = 255
    values[2, 3, 3] = 0
    found = load_bands(write_tiff(tmp_path / "x.tif", values, photometric="RGB", alpha="YES"))
    assert found.values.shape == (5, 7, 3)
    assert np.argwhere(~found.valid).tolist() == [[2, 3]]
    Image.fromarray(values).save(tmp_path / "x.png")
    other = load_bands(tmp_path / "x.png")
    np.testing.assert_array_equal(other.valid, found.valid)
    np.testing.assert_array_equal(other.values, found.values)


def test_broken_files_are_rejected(tmp_path):
    path = write_tiff(tmp_path / "x.tif", ramp("uint16", 3, 200, 200), compress="deflate")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ImageRejected, match=r"x\.tif: broken or not whole"):
        read_bands(path)
    for name, content in {"none.png": None, "text.tif": b"hello", "empty.jpg": b""}.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageRejected):
            read_bands(tmp_path / name)


def test_too_many_pixels_are_refused_before_they_are_read(tmp_path):
    path = write_tiff(tmp_path / "x.tif", ramp("uint16", 1))
    with pytest.raises(ImageRejected, match="megapixels"):
        load_bands(path, max_pixels=34)


def test_without_rasterio_only_plain_tiff_is_read(tmp_path, monkeypatch):
    path = write_tiff(tmp_path / "x.tif", ramp("uint16", 3))
    plain = ramp("uint8", 3)
    Image.fromarray(plain).save(tmp_path / "plain.tif")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "wide.png")
    monkeypatch.setattr(bands, "has_rasterio", lambda: False)
    np.testing.assert_array_equal(read_bands(tmp_path / "plain.tif"), plain)
    for name in (path, tmp_path / "wide.png"):
        with pytest.raises(MissingExtra, match=r"rasterio: pip install 'regraft\[geo\]'"):
            read_bands(name)


def test_eight_bit_rgb_is_normalised_as_the_weights_expect():
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    scale = scale_for(MEAN, STD, "uint8", 3, [])
    expected = (values / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(scale.apply(values), expected, atol=1e-5)
    assert scale.apply(values).dtype == np.float32


def test_three_wide_bands_are_stretched_between_percentiles_first():
    values = np.random.default_rng(0).integers(0, 4000, (30, 40, 3)).astype(np.uint16)
    scale = scale_for(MEAN, STD, values.dtype, 3, [values])
    low, high = np.percentile(values.reshape(-1, 3), (2, 98), axis=0)
    expected = ((values - low) / (high - low) - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(scale.apply(values), expected, atol=1e-4)


def test_other_bands_are_standardised_whatever_nan_there_is():
    values = np.random.default_rng(0).normal([5, -300, 0.01, 1e6], [1, 40, 0.001, 9], (30, 40, 4)).astype(np.float32)
    holes = values.copy()
    holes[3, 4, 1], holes[5] = np.nan, np.inf
    scale = scale_for(MEAN, STD, "float32", 4, [values[:15], values[15:]])
    given = scale.apply(values)
    np.testing.assert_allclose(given.mean((0, 1)), 0, atol=5e-3)
    np.testing.assert_allclose(given.std((0, 1)), 1, atol=1e-2)
    near = scale_for(MEAN, STD, "float32", 4, [holes])
    np.testing.assert_allclose(near.offset, scale.offset, rtol=0.01)
    assert near.apply(holes)[3, 4, 1] == 0


def test_a_band_that_is_the_same_everywhere_is_given_as_0():
    for count in (3, 4):
        values = np.random.default_rng(0).normal(0, 1, (10, 10, count)).astype(np.float32)
        values[..., 1] = 0.1
        given = scale_for(MEAN, STD, "float32", count, [values]).apply(values)
        assert (given[..., 1] == 0).all()
        assert np.isfinite(given).all()
        values[..., 1] = np.nan
        assert np.isfinite(scale_for(MEAN, STD, "float32", count, [values]).apply(values)).all()


def test_the_scale_goes_through_json():
    scale = BandScale((1.0, 2.5), (0.1, 0.0))
    assert BandScale.from_dict(json.loads(json.dumps(scale.to_dict()))) == scale


def test_the_sample_leaves_out_what_is_not_valid_or_broken(tmp_path):
    values = ramp("uint16", 2) + np.uint16(100)
    values[0] = 7
    paths = [str(write_tiff(tmp_path / f"{n}.tif", values, nodata=7)) for n in range(5)]
    (tmp_path / "0.tif").write_bytes(b"II*\0broken")
    found = list(sample_pixels(paths, most=3))
    assert [part.shape for part in found] == [(28, 2), (28, 2)]
    assert list(sample_pixels([])) == []
