"""Maps of whole scenes: each pixel at its place, no seams, nothing half-written."""

import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from regraft.errors import ImageRejected, MissingExtra, OptionError, RunExists
from regraft.inference.change.scene import predict_scene

rasterio = pytest.importorskip("rasterio")
OPTIONS = {"identity": "a network", "tile": 32, "overlap": 8}


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def two(geotiff, noise, *shape, **options):
    """The values and the files of two dates."""
    kind = {"dtype": options.pop("dtype", "uint8")}
    values = [noise(*shape, seed=seed, **kind) + np.ones((), kind["dtype"]) for seed in (1, 2)]
    return values, [geotiff(f"{name}.tif", value, **options) for name, value in zip("ab", values, strict=True)]


def expected_of(values):
    return np.clip(np.abs(values[0].astype(np.float32) - values[1].astype(np.float32)).mean(axis=0) / 250, 0, 1)


@pytest.mark.parametrize(("height", "width"), [(150, 300), (32, 40), (20, 75), (9, 7)])
@pytest.mark.parametrize("overlap", [0, 8])
def test_every_pixel_keeps_its_value_and_its_coordinates(geotiff, noise, segment, tmp_path, height, width, overlap):
    turned = rasterio.Affine(0.4, 0.1, 500_000, 0.1, -0.4, 5_000_000)
    values, files = two(geotiff, noise, 3, height, width, transform=turned)
    told = []
    result = predict_scene(*files, tmp_path / "c.tif", segment, **{**OPTIONS, "overlap": overlap}, say=told.append)
    with rasterio.open(files[0]) as source, rasterio.open(tmp_path / "c.tif") as mask:
        assert (mask.crs, mask.transform, mask.shape) == (source.crs, source.transform, source.shape)
        rows, columns = np.mgrid[:height, :width].reshape(2, -1)
        assert (np.array(mask.xy(rows, columns)) == np.array(source.xy(rows, columns))).all()
        assert (mask.nodata, mask.compression.name, mask.block_shapes) == (255, "deflate", [(256, 256)])
        assert mask.descriptions == ("class: 0 unchanged, 1 changed; 255 no data",)
    found = read(tmp_path / "c-probability.tif")
    expected = expected_of(values)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    assert (read(tmp_path / "c.tif") == (found >= 0.5)).all()
    assert result.paths == (tmp_path / "c.tif", tmp_path / "c-probability.tif")
    assert result.changed == pytest.approx((found >= 0.5).mean())
    assert f"{width} x {height} pixels, 3 bands of uint8" in told[0]
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "b.tif", "c.tif", "c-probability.tif"}


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_pixels_without_data_in_either_date_are_no_data(geotiff, noise, segment, tmp_path, dtype):
    values = [noise(2, 100, 90, seed=seed, dtype=dtype) + np.ones((), dtype) for seed in (1, 2)]
    hole = 0 if dtype == "uint16" else np.nan
    values[0][:, 10:60, 5:58], values[1][:, 70:, 30] = hole, hole
    files = [geotiff(f"{name}.tif", value, nodata=hole) for name, value in zip("ab", values, strict=True)]
    seen = []

    def watching(pairs):
        assert np.isfinite(pairs).all()
        seen.append(len(pairs))
        return segment(pairs)

    result = predict_scene(*files, tmp_path / "c.tif", watching, **OPTIONS)
    empty = np.zeros((100, 90), bool)
    empty[10:60, 5:58], empty[70:, 30] = True, True
    mask, probability = read(tmp_path / "c.tif"), read(tmp_path / "c-probability.tif")
    assert ((mask == 255) == empty).all()
    assert ((probability == -1) == empty).all()
    np.testing.assert_allclose(probability[~empty], expected_of(values)[~empty], atol=1e-6)
    assert result.changed == pytest.approx((mask == 1).sum() / (~empty).sum())
    assert f"{empty.sum()} of 9000 pixels have no data" in result.notices[0]
    assert sum(seen) < 16  # a tile without any data is not looked at


def test_a_scene_without_any_data_has_no_share(geotiff, segment, tmp_path):
    file = geotiff("a.tif", np.zeros((1, 40, 40), np.uint8), nodata=0)
    result = predict_scene(file, file, tmp_path / "c.tif", segment, **OPTIONS)
    assert result.changed is None
    assert (read(tmp_path / "c.tif") == 255).all()


def test_the_batch_changes_nothing(geotiff, noise, segment, tmp_path):
    _, files = two(geotiff, noise, 3, 100, 100)
    for batch in (1, 3, 100):
        predict_scene(*files, tmp_path / f"{batch}.tif", segment, **OPTIONS, batch=batch)
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "3.tif").read_bytes() == (tmp_path / "100.tif").read_bytes()
    assert (read(tmp_path / "1-probability.tif") == read(tmp_path / "100-probability.tif")).all()


def test_what_differs_at_the_border_of_tiles_leaves_no_seam(geotiff, noise, tmp_path):
    """A network that errs towards the borders, as padding makes them do: the maps stay as smooth as inside tiles."""
    _, files = two(geotiff, noise, 1, 300, 300)
    rows, columns = np.mgrid[:64, :64] / 63
    bump = (rows + columns) / 2

    def biased(pairs):
        return np.stack([1 - bump, bump])[None].repeat(len(pairs), axis=0).astype(np.float32)

    def jumps(overlap):
        predict_scene(*files, tmp_path / f"{overlap}.tif", biased, identity="", tile=64, overlap=overlap)
        found = read(tmp_path / f"{overlap}-probability.tif")
        steps = np.abs(np.diff(found, axis=1))
        # Borders of tiles are where one begins or ends; the last is shifted.
        starts = np.array([*range(0, 300 - 64, 64 - overlap), 300 - 64])
        borders = np.unique([*(starts[1:] - 1), *(starts[:-1] + 63)])
        inside = np.setdiff1d(np.arange(299), borders)
        return steps[:, borders].max(), steps[:, inside].max()

    at_borders, inside = jumps(32)
    assert at_borders <= inside
    assert jumps(0)[0] > 10 * at_borders  # and there is something to blend


def test_of_several_classes_the_likeliest_kind_of_change_from_the_threshold_on(geotiff, noise, tmp_path):
    (first, _), files = two(geotiff, noise, 1, 60, 60)

    def by_value(pairs):
        share = pairs[:, 0, :, :, 0] / np.float32(250)
        return np.stack([0.5 - share / 2, 0.5 - share / 2, share], axis=1)

    classes = ("same", "built", "cleared")
    predict_scene(*files, tmp_path / "c.tif", by_value, classes=classes, threshold=0.6, **OPTIONS)
    share = first[0] / 250
    assert (read(tmp_path / "c.tif")[share > 0.34] == 2).all()
    assert (read(tmp_path / "c.tif")[(share < 0.33) & (share > 0.21)] == 1).all()
    assert (read(tmp_path / "c.tif")[share < 0.19] == 0).all()
    np.testing.assert_allclose(read(tmp_path / "c-probability.tif"), 0.5 + share / 2, atol=1e-6)


def test_pictures_become_pictures(tmp_path, noise, segment, geotiff):
    values = [noise(50, 70, 3, seed=seed) for seed in (1, 2)]
    for name, value in zip("ab", values, strict=True):
        Image.fromarray(value).save(tmp_path / f"{name}.png")
    files = (tmp_path / "a.png", tmp_path / "b.png")
    predict_scene(*files, tmp_path / "c.png", segment, **OPTIONS, threshold=0.3)
    expected = expected_of([value.transpose(2, 0, 1) for value in values])
    with Image.open(tmp_path / "c.png") as mask, Image.open(tmp_path / "c-probability.png") as probability:
        assert mask.mode == probability.mode == "L"
        assert (np.asarray(mask) == np.where(expected >= 0.3, 255, 0)).all()
        assert np.abs(np.asarray(probability) - expected * 255).max() <= 0.51
    predict_scene(*files, tmp_path / "c.tif", segment, **OPTIONS, threshold=0.3)  # and maps without coordinates
    assert ((read(tmp_path / "c.tif") == 1) == (expected >= 0.3)).all()
    _, placed = two(geotiff, noise, 3, 50, 70)
    result = predict_scene(*placed, tmp_path / "d.png", segment, **OPTIONS)
    assert any("no coordinates" in notice for notice in result.notices)


def test_real_scene_keeps_its_size(shared_data, segment, tmp_path):
    folder = shared_data / "levir_scene"
    name = min(path.name for path in (folder / "A").iterdir())
    predict_scene(folder / "A" / name, folder / "B" / name, tmp_path / "c.png", segment, identity="", tile=256)
    with Image.open(tmp_path / "c.png") as mask:
        assert mask.size == (1024, 1024)


def test_a_damaged_file_leaves_nothing_behind(geotiff, noise, segment, tmp_path):
    _, (before, after) = two(geotiff, noise, 3, 200, 200)
    os.truncate(after, after.stat().st_size // 2)
    told = []
    with pytest.raises(ImageRejected, match=r"b\.tif: rows \d+ to \d+, columns \d+ to \d+ cannot be read"):
        predict_scene(before, after, tmp_path / "c.tif", segment, **OPTIONS, say=told.append)
    assert not list(tmp_path.glob("c*.tif"))
    assert "kept in" in told[-1]
    os.truncate(after, 600)
    with pytest.raises(ImageRejected):
        predict_scene(before, after, tmp_path / "d.tif", segment, **OPTIONS)
    assert not list(tmp_path.glob("d*"))


def test_nothing_is_overwritten_unasked(geotiff, noise, segment, tmp_path):
    _, files = two(geotiff, noise, 1, 40, 40)
    (tmp_path / "c-probability.tif").write_text("mine")
    with pytest.raises(RunExists, match=r"c-probability\.tif exists already.*--overwrite"):
        predict_scene(*files, tmp_path / "c.tif", segment, **OPTIONS)
    assert (tmp_path / "c-probability.tif").read_text() == "mine"
    assert not (tmp_path / "c.tif.regraft-part").exists()
    predict_scene(*files, tmp_path / "c.tif", segment, **OPTIONS, overwrite=True)
    assert read(tmp_path / "c-probability.tif").shape == (40, 40)
    with pytest.raises(OptionError, match="one of the images"):
        predict_scene(*files, files[0], segment, **OPTIONS, overwrite=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"batch": 0}, "batch is 0"),
        ({"overlap": 32}, "overlap is 32"),
        ({"classes": ("one",)}, "1 classes"),
        ({"output": "c.jpg"}, r"ends in \.jpg"),
        ({"vector": "c.shp"}, r"ends in \.shp"),
        ({"vector": "c.gpkg", "min_area": -1.0}, "min-area is -1"),
    ],
)
def test_wrong_options_are_named_before_anything_is_done(geotiff, noise, tmp_path, options, told):
    _, files = two(geotiff, noise, 1, 40, 40)
    output = tmp_path / options.pop("output", "c.tif")
    if "vector" in options:
        options["vector"] = tmp_path / options["vector"]
    with pytest.raises(OptionError, match=told):
        predict_scene(*files, output, None, **{**OPTIONS, **options})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]


def test_without_rasterio_no_geotiff_is_promised(tmp_path, noise, monkeypatch):
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "a.png")
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(MissingExtra, match="geo"):
        predict_scene(tmp_path / "a.png", tmp_path / "a.png", tmp_path / "c.tif", None, **OPTIONS)


def test_pictures_need_no_rasterio(tmp_path, noise, segment, monkeypatch):
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "a.png")
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    predict_scene(tmp_path / "a.png", tmp_path / "a.png", tmp_path / "c.png", segment, **OPTIONS)
    assert (tmp_path / "c.png").exists()


def test_memory_does_not_grow_with_the_height(geotiff, segment, tmp_path):
    """Python's own memory; that of GDAL is its cache, which is bounded."""

    def peak(height):
        file = geotiff(f"{height}.tif", np.zeros((1, height, 256), np.uint8), blockxsize=256, blockysize=256)
        tracemalloc.start()
        predict_scene(file, file, tmp_path / f"out{height}.tif", segment, identity="", tile=64, overlap=16)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(128)  # imports
    assert peak(2048) < 1.25 * peak(256)


def test_a_wrong_network_is_told(geotiff, noise, tmp_path):
    from regraft.errors import DataError

    _, files = two(geotiff, noise, 1, 40, 40)
    with pytest.raises(DataError, match="not numbers"):
        predict_scene(*files, tmp_path / "c.tif", lambda p: np.full((len(p), 2, 32, 32), np.nan), **OPTIONS)
    with pytest.raises(DataError, match=r"shape \(4, 1\)"):
        predict_scene(*files, tmp_path / "c.tif", lambda p: np.zeros((4, 1)), **OPTIONS)
