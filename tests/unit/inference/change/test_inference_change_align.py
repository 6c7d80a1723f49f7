"""Two dates lie on one grid, or it is said how they differ, or the second is warped as rasterio warps it."""

import numpy as np
import pytest
from PIL import Image

from regraft.errors import DataError
from regraft.inference.change.align import open_pair

rasterio = pytest.importorskip("rasterio")


def both(first, second, **options):
    with open_pair(first, second, **options) as (before, after, notices):
        height, width = before.size
        at = (0, 0, height, width)
        return before.read(*at), after.read(*at), after.valid(*at), notices


def test_one_grid_needs_nothing_even_if_rounded_differently(geotiff, noise):
    a = geotiff("a.tif", noise(3, 60, 50))
    b = geotiff("b.tif", noise(3, 60, 50, seed=1), origin=(500_000.0004, 5_000_000))
    _, after, valid, notices = both(a, b)
    assert notices == ()
    assert valid.all()
    assert (after == noise(3, 60, 50, seed=1).transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"origin": (500_010, 5_000_000)}, ("bounds 500000 ", "bounds 500010 ")),
        ({"pixel": 0.6}, ("pixels of 0.5 x 0.5", "pixels of 0.6 x 0.6")),
        ({"crs": "EPSG:32634"}, ("EPSG:32633", "EPSG:32634")),
        ({"crs": None}, ("EPSG:32633", "no CRS")),
    ],
)
def test_other_grids_are_named_with_both_values(geotiff, noise, options, told):
    a, b = geotiff("a.tif", noise(3, 60, 50)), geotiff("b.tif", noise(3, 60, 50), **options)
    with pytest.raises(DataError) as error:
        both(a, b)
    for part in (*told, "--align", str(a), str(b)):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"origin": (500_003.2, 4_999_998.7)}, "uint8"),
        ({"origin": (500_003.2, 4_999_998.7), "pixel": 0.7, "nodata": 0}, "uint16"),
        ({"origin": (500_003.2, 4_999_998.7)}, "float32"),
        ({"crs": "EPSG:32634", "origin": (26_905, 5_014_000)}, "uint8"),
    ],
)
def test_the_second_date_is_warped_as_rasterio_does(geotiff, noise, options, dtype):
    a = geotiff("a.tif", noise(2, 90, 80, dtype=dtype))
    if "crs" in options:  # the same place in the neighbouring zone
        left, top = rasterio.warp.transform("EPSG:32633", "EPSG:32634", [500_000], [5_000_000])
        options = {**options, "origin": (left[0], top[0])}
    b = geotiff("b.tif", noise(2, 70, 100, dtype=dtype, seed=1) + np.ones((), dtype), **options)
    _, after, valid, notices = both(a, b, align=True)
    assert "is read on the grid of" in notices[0]
    with rasterio.open(a) as first, rasterio.open(b) as second:
        kind = {"height": 90, "width": 80, "resampling": rasterio.enums.Resampling.bilinear}
        grid = {"crs": first.crs, "transform": first.transform, **kind}
        with rasterio.vrt.WarpedVRT(second, **grid, add_alpha=second.nodata is None) as warped:
            expected = warped.read([1, 2])
            mask = (warped.read(3) if second.nodata is None else warped.dataset_mask()) > 0
    assert (valid == mask).all()
    assert 0.1 < valid.mean() < 1
    assert (after[valid] == expected.transpose(1, 2, 0)[valid]).all()
    assert not after[~valid].any()


def test_outside_of_the_second_date_there_are_no_data(geotiff, noise):
    a = geotiff("a.tif", noise(2, 90, 80))
    b = geotiff("b.tif", noise(2, 70, 100), origin=(500_003.2, 4_999_998.7))  # 6.4 pixels right and 2.6 down
    valid = both(a, b, align=True)[2]
    assert valid[4:71, 7:].all()  # GDAL decides on the pixels at its very border
    assert not valid[:2].any()
    assert not valid[:, :6].any()
    assert not valid[74:].any()


def test_dates_that_do_not_meet_are_refused(geotiff, noise):
    a, b = geotiff("a.tif", noise(1, 60, 50)), geotiff("b.tif", noise(1, 60, 50), origin=(600_000, 5_000_000))
    with pytest.raises(DataError, match="do not overlap"):
        both(a, b, align=True)


def test_without_coordinates_sizes_must_agree(tmp_path, noise, geotiff):
    for name, size in (("a.png", (30, 40, 3)), ("b.png", (30, 41, 3)), ("c.png", (30, 40, 3))):
        Image.fromarray(noise(*size)).save(tmp_path / name)
    assert both(tmp_path / "a.png", tmp_path / "c.png")[3] == ()
    with pytest.raises(DataError, match=r"40 x 30 pixels.*41 x 30"):
        both(tmp_path / "a.png", tmp_path / "b.png", align=True)
    placed = geotiff("d.tif", noise(3, 30, 40))
    with pytest.raises(DataError, match=r"c\.png has none.*--align"):
        both(placed, tmp_path / "c.png")
    assert "taken to lie pixel on pixel" in both(placed, tmp_path / "c.png", align=True)[3][0]


def test_control_points_are_no_grid(geotiff, noise):
    path = geotiff("a.tif", noise(1, 30, 40), crs=None, transform=rasterio.Affine.identity())
    points = [
        rasterio.control.GroundControlPoint(r, c, 10 + c, 50 - r) for r, c in ((0, 0), (0, 40), (30, 0), (30, 40))
    ]
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, rasterio.CRS.from_epsg(4326))
    assert "control points but no grid" in both(path, path)[3][0]


@pytest.mark.parametrize("other", [(4, "uint8"), (3, "uint16")])
def test_other_bands_are_named(geotiff, noise, other):
    bands, dtype = other
    a, b = geotiff("a.tif", noise(3, 30, 40)), geotiff("b.tif", noise(bands, 30, 40, dtype=dtype), photometric=None)
    with pytest.raises(DataError, match=f"3 bands of uint8, .* {bands} of {dtype}"):
        both(a, b)
