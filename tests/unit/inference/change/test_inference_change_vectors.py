"""Polygons against rasterio, shapely and numbers known in closed form."""

import json

import numpy as np
import pytest

from regraft.errors import MissingExtra
from regraft.inference.change.scene import predict_scene
from regraft.inference.change.vectors import pixel_areas, polygons

rasterio = pytest.importorskip("rasterio")
shapely = pytest.importorskip("shapely")
pyogrio = pytest.importorskip("pyogrio")


def layer(path):
    """Geometries, attributes by name, and the CRS, as pyogrio reads them."""
    meta, _, shapes, columns = pyogrio.raw.read(str(path))
    return shapely.from_wkb(shapes), dict(zip(meta["fields"], columns, strict=True)), meta["crs"]


@pytest.fixture
def maps(geotiff):
    """Write a mask, and probabilities that are random unless given; returns both paths."""

    def make(mask, probability=None, **options):
        if probability is None:
            probability = np.random.default_rng(3).random(mask.shape, np.float32)
        one = geotiff("mask.tif", mask[None].astype(np.uint8), nodata=255, **options)
        return one, geotiff("probability.tif", probability[None].astype(np.float32), nodata=-1, **options)

    return make


def rings():
    """A square of 30 x 30 with a hole of 10 x 10 that holds a square of 4 x 4; and a bar."""
    mask = np.zeros((60, 80), np.uint8)
    mask[5:35, 5:35] = 1
    mask[15:25, 15:25] = 0
    mask[18:22, 18:22] = 1
    mask[50:52, 40:70] = 1
    mask[0, :] = 255
    return mask


def test_areas_pixels_holes_and_mean_probabilities(maps, tmp_path):
    mask, probability = rings(), np.random.default_rng(3).random((60, 80), np.float32)
    files = maps(mask, probability)
    told = []
    assert polygons(*files, tmp_path / "p.gpkg", say=told.append) == []
    assert told == ["3 changed areas as polygons"]
    shapes, fields, crs = layer(tmp_path / "p.gpkg")
    assert crs == "EPSG:32633"
    assert fields["pixels"].tolist() == [800, 16, 60]
    assert fields["class"].tolist() == ["changed"] * 3
    assert fields["id"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(fields["area"], [200, 4, 15])  # pixels of half a metre
    np.testing.assert_allclose(shapely.area(shapes), [200, 4, 15])
    assert [len(shape.interiors) for shape in shapes] == [1, 0, 0]
    assert shapes[2].bounds == (500_020, 4_999_974, 500_035, 4_999_975)
    inside = np.zeros_like(mask, bool)
    inside[5:35, 5:35], inside[15:25, 15:25] = True, False
    assert fields["probability"][0] == pytest.approx(probability[inside].mean())


@pytest.mark.parametrize("simplify", [0.0, 1.0])
def test_random_masks_give_valid_polygons_that_burn_back_to_the_mask(maps, tmp_path, simplify):
    mask = (np.random.default_rng(1).random((70, 90)) < 0.6).astype(np.uint8)
    files = maps(mask)
    polygons(*files, tmp_path / "p.gpkg", simplify=simplify)
    shapes, fields, _ = layer(tmp_path / "p.gpkg")
    assert shapely.is_valid(shapes).all()
    assert fields["pixels"].sum() == mask.sum()
    if not simplify:
        with rasterio.open(files[0]) as file:
            burnt = rasterio.features.rasterize(list(shapes), mask.shape, transform=file.transform)
        assert (burnt == mask).all()
        np.testing.assert_allclose(shapely.area(shapes), fields["area"])


def test_small_areas_are_left_out_and_stairs_smoothed(maps, tmp_path):
    rows, columns = np.mgrid[:80, :80]
    mask = (np.hypot(rows - 40, columns - 40) < 30).astype(np.uint8)
    mask[0, 0] = mask[2, 2] = 1
    files = maps(mask)
    polygons(*files, tmp_path / "all.gpkg")
    polygons(*files, tmp_path / "some.gpkg", min_area=0.3, simplify=1.0)
    before, after = layer(tmp_path / "all.gpkg"), layer(tmp_path / "some.gpkg")
    assert len(before[0]) == 3
    assert len(after[0]) == 1
    big = before[0][np.argmax(before[1]["area"])]
    assert shapely.get_num_coordinates(after[0][0]) < shapely.get_num_coordinates(big) / 2
    assert shapely.hausdorff_distance(after[0][0], big) <= 0.5  # one pixel
    assert after[1]["area"][0] == big.area  # of the pixels, not of the smoothed outline


def test_classes_that_touch_are_several_polygons(maps, tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[5:20, 5:20], mask[5:20, 20:30], mask[25:30, 25:30] = 1, 2, 1
    polygons(*maps(mask), tmp_path / "p.gpkg", classes=("same", "built", "cleared"))
    _, fields, _ = layer(tmp_path / "p.gpkg")
    assert sorted(zip(fields["class"], fields["pixels"], strict=True)) == [
        ("built", 25),
        ("built", 225),
        ("cleared", 150),
    ]


def test_geojson_is_in_longitude_and_latitude_anticlockwise(maps, tmp_path):
    files = maps(rings())
    polygons(*files, tmp_path / "p.geojson")
    content = json.loads((tmp_path / "p.geojson").read_text("utf-8"))
    assert "crs" not in content  # as RFC 7946 wants it
    own = [feature["geometry"] for feature in content["features"]]
    polygons(*files, tmp_path / "p.gpkg")
    expected = rasterio.warp.transform_geom(
        "EPSG:32633", "OGC:CRS84", [s.__geo_interface__ for s in layer(tmp_path / "p.gpkg")[0]]
    )
    for written, wanted in zip(own, expected, strict=True):
        one, other = shapely.geometry.shape(written), shapely.geometry.shape(wanted)
        assert one.exterior.is_ccw
        assert not any(ring.is_ccw for ring in one.interiors)
        assert one.symmetric_difference(other).area < 1e-3 * other.area
        assert 14.9 < one.centroid.x < 15.1  # the zone's middle
    assert content["features"][0]["properties"]["pixels"] == 800
    assert content["features"][0]["properties"]["class"] == "changed"


def test_degrees_are_measured_in_square_metres(maps, tmp_path):
    """The whole ellipsoid of WGS 84 has 510 065 621.7 square kilometres; a pixel is that of a local plane."""
    whole = rasterio.transform.from_origin(-180, 90, 1, 1)
    crs = rasterio.CRS.from_epsg(4326)
    assert pixel_areas(whole, crs, 180, 360).sum() * 360 == pytest.approx(510_065_621.7e6, rel=1e-8)
    mask = np.zeros((50, 60), np.uint8)
    mask[10:30, 10:40] = 1
    files = maps(mask, crs=crs, pixel=1e-4, origin=(11, 48))
    polygons(*files, tmp_path / "p.gpkg")
    shapes, fields, _ = layer(tmp_path / "p.gpkg")
    equal_area = "+proj=laea +lat_0=48 +lon_0=11 +datum=WGS84"
    flat = rasterio.warp.transform_geom(crs, equal_area, shapes[0].__geo_interface__)
    assert fields["area"][0] == pytest.approx(shapely.geometry.shape(flat).area, rel=1e-6)


def test_feet_become_square_metres():
    crs = rasterio.CRS.from_epsg(2263)  # New York, US survey feet
    found = pixel_areas(rasterio.transform.from_origin(0, 0, 2, 3), crs, 4, 5)
    np.testing.assert_allclose(found, 6 * (1200 / 3937) ** 2)


@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
def test_without_changes_there_is_an_empty_layer(maps, tmp_path, ending):
    target = tmp_path / f"p.{ending}"
    polygons(*maps(np.zeros((30, 30), np.uint8)), target)
    assert pyogrio.read_info(str(target))["features"] == 0
    if ending == "gpkg":
        assert layer(target)[1].keys() == {"id", "class", "area", "pixels", "probability"}
        assert layer(target)[2] == "EPSG:32633"


@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
def test_without_a_crs_pixels_are_the_unit(maps, tmp_path, ending):
    files = maps(rings(), crs=None, transform=rasterio.Affine.identity())
    notices = polygons(*files, tmp_path / f"p.{ending}")
    assert "coordinates and areas are in pixels" in notices[0]
    shapes, fields, _ = layer(tmp_path / f"p.{ending}")
    assert fields["area"].tolist() == [800, 16, 60]
    assert shapes[2].bounds == (40, 50, 70, 52)


def test_a_scene_writes_its_polygons_also_beside_pictures(geotiff, noise, segment, tmp_path):
    before = noise(1, 90, 70, high=20)
    after = before.copy()
    after[:, 20:40, 30:60] += 200
    files = [geotiff("a.tif", before), geotiff("b.tif", after)]
    kind = {"identity": "", "tile": 32, "overlap": 8}
    for name in ("c.tif", "d.png"):
        target = (tmp_path / name).with_suffix(".gpkg")
        result = predict_scene(*files, tmp_path / name, segment, vector=target, **kind)
        assert result.paths[-1] == target
        shapes, fields, crs = layer(target)
        assert (fields["pixels"].tolist(), fields["area"].tolist(), crs) == ([600], [150.0], "EPSG:32633")
        assert shapes[0].bounds == (500_015, 4_999_980, 500_030, 4_999_990)
        assert fields["probability"][0] == pytest.approx(0.8, abs=1e-6)
        assert pyogrio.list_layers(str(target))[0][0] == target.stem
    assert not list(tmp_path.glob("*.regraft-part"))


def test_a_missing_package_is_named(maps, tmp_path, monkeypatch):
    files = maps(rings())
    monkeypatch.setitem(__import__("sys").modules, "pyogrio", None)
    with pytest.raises(MissingExtra, match=r"pyogrio: pip install 'regraft\[geo\]'"):
        polygons(*files, tmp_path / "p.gpkg")
    polygons(*files, tmp_path / "p.geojson")
