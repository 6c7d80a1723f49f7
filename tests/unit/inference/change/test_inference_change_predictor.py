"""A change model that predicts: one pass, whole pairs by tiles, and scenes on disk say the same."""

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.data.bands import read_bands
from regraft.errors import BundleError, DataError, OptionError
from regraft.inference.change.outputs import probability_name
from regraft.inference.change.predictor import ChangePredictor, load_change, segment_with, whole_pair
from regraft.inference.change.tiles import plan


@pytest.fixture(autouse=True)
def _one(one_thread):
    pass


@pytest.fixture
def model(change_bundle):
    folder, _, net = change_bundle()
    predictor = load_change(folder)
    assert isinstance(predictor, ChangePredictor)
    return predictor, net


def two_dates(noise, height, width, bands=3):
    return noise(height, width, bands, seed=1), noise(height, width, bands, seed=2)


def test_a_pass_is_softmax_of_the_network_on_scaled_values(model, noise):
    predictor, net = model
    dates = np.stack([np.stack(two_dates(noise, 40, 48)), np.stack(two_dates(noise, 40, 48))[::-1]])
    found = predictor.segment(dates)
    with torch.no_grad():
        x = (torch.from_numpy(dates).float() - 127.5) / 127.5
        expected = net(x.permute(0, 1, 4, 2, 3)).softmax(1).numpy()
    assert found.shape == (2, 2, 40, 48)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_order_of_the_dates_is_nothing_to_a_difference(change_bundle, noise):
    predictor = load_change(change_bundle(network="unet")[0])
    before, after = two_dates(noise, 32, 48)
    np.testing.assert_allclose(predictor.predict(before, after), predictor.predict(after, before), atol=1e-5)


def test_one_tile_of_a_pair_is_one_pass(model, noise):
    predictor, _ = model
    before, after = two_dates(noise, 32, 32)
    np.testing.assert_array_equal(
        predictor.predict(before, after), predictor.segment(np.stack([before, after])[None])[0]
    )


@pytest.mark.parametrize("size", [(75, 100), (32, 90), (20, 50), (33, 32)])
def test_a_pair_in_memory_and_a_scene_on_disk_say_the_same(model, noise, geotiff, size):
    rasterio = pytest.importorskip("rasterio")
    predictor, _ = model
    before, after = two_dates(noise, *size)
    paths = [geotiff(f"{n}.tif", values.transpose(2, 0, 1)) for n, values in enumerate((before, after))]
    whole = predictor.predict(before, after)
    assert whole.shape == (2, *size)
    np.testing.assert_allclose(whole.sum(0), 1, atol=1e-5)
    target = paths[0].with_name("change.tif")
    result = predictor.map_scene(*paths, target)
    with rasterio.open(probability_name(target)) as file:
        np.testing.assert_allclose(file.read(1), 1 - whole[0], atol=2e-6)
    with rasterio.open(target) as file:
        mask = file.read(1)
    sure = np.abs(whole[1] - 0.25) > 1e-5
    np.testing.assert_array_equal(mask[sure], (whole[1] >= 0.25)[sure])
    assert result.changed == pytest.approx(mask.mean())


def test_a_picture_on_disk_says_the_same(model, noise, tmp_path):
    predictor, _ = model
    before, after = two_dates(noise, 70, 41)
    for name, values in (("a.png", before), ("b.png", after)):
        Image.fromarray(values).save(tmp_path / name)
    np.testing.assert_array_equal(read_bands(tmp_path / "a.png"), before)
    predictor.map_scene(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png", threshold=0.5)
    whole = predictor.predict(before, after)
    with Image.open(tmp_path / "c-probability.png") as picture:
        np.testing.assert_allclose(np.asarray(picture) / 255, whole[1], atol=0.51 / 255)
    with Image.open(tmp_path / "c.png") as picture:
        mask = np.asarray(picture)
    sure = np.abs(whole[1] - 0.5) > 1e-5
    np.testing.assert_array_equal(mask[sure] == 255, (whole[1] >= 0.5)[sure])


@pytest.mark.parametrize("size", [(16, 16), (50, 77), (7, 90)])
def test_what_sees_one_pixel_at_a_time_is_not_changed_by_tiles(noise, segment, size):
    before, after = two_dates(noise, *size)
    found = whole_pair(before, after, segment, tile=16)
    np.testing.assert_allclose(found, segment(np.stack([before, after])[None])[0], atol=1e-6)


def test_each_tile_is_seen_once(noise, segment):
    before, after = two_dates(noise, 50, 77)
    seen = []
    whole_pair(before, after, lambda dates: seen.append(dates.shape) or segment(dates), tile=16)
    assert len(seen) == plan(50, 77, tile=16, overlap=4).tiles
    assert set(seen) == {(1, 2, 16, 16, 3)}


def test_other_tiles_than_in_training_are_told(model, noise, geotiff):
    predictor, _ = model
    paths = [geotiff(f"{n}.tif", noise(3, 40, 40, seed=n)) for n in range(2)]
    told = []
    predictor.map_scene(*paths, paths[0].with_name("c.tif"), tile=16, say=told.append)
    assert any("tiles of 16 pixels: the model learnt from tiles of 32" in line for line in told)
    told.clear()
    predictor.map_scene(*paths, paths[0].with_name("d.tif"), say=told.append)
    assert not any("learnt from" in line for line in told)


def test_thresholds_are_edges_of_bins_so_that_maps_and_numbers_agree(model, noise, geotiff):
    predictor, _ = model
    paths = [geotiff(f"{n}.tif", noise(3, 40, 40, seed=n)) for n in range(2)]
    shares = [
        predictor.map_scene(*paths, paths[0].with_name(f"map-{value}.tif"), threshold=value).changed
        for value in (0, 0.3, 0.6, 1)
    ]
    assert shares[0] == 1
    assert sorted(shares, reverse=True) == shares
    with pytest.raises(OptionError, match="lies in 0 to 1"):
        predictor.map_scene(*paths, paths[0].with_name("x.tif"), threshold=-0.1)


def test_bands_and_shapes_that_do_not_fit_are_refused(model, noise, geotiff):
    predictor, _ = model
    with pytest.raises(DataError, match="4 bands of uint8, but the model was trained on 3 of uint8"):
        predictor.predict(*two_dates(noise, 40, 40, bands=4))
    with pytest.raises(DataError, match="two dates of one shape"):
        predictor.predict(noise(40, 40, 3), noise(40, 41, 3))
    paths = [geotiff(f"{n}.tif", noise(5, 40, 40, seed=n)) for n in range(2)]
    target = paths[0].with_name("c.tif")
    with pytest.raises(DataError, match="5 bands of uint8, but the model was trained on 3"):
        predictor.map_scene(*paths, target)
    assert not list(target.parent.glob("c*"))


def test_values_of_another_type_are_refused(model, noise, geotiff):
    predictor, _ = model
    paths = [geotiff(f"{n}.tif", noise(3, 40, 40, seed=n, dtype="uint16")) for n in range(2)]
    target = paths[0].with_name("c.tif")
    with pytest.raises(DataError, match="uint16, but the model was trained on"):
        predictor.map_scene(*paths, target)
    assert not list(target.parent.glob("c*"))


def test_a_network_on_its_own_is_what_the_predictor_runs(model, noise):
    predictor, net = model
    dates = np.stack(two_dates(noise, 32, 32))[None]
    np.testing.assert_allclose(segment_with(net, predictor.bundle.scale, dates), predictor.segment(dates), atol=1e-6)


@pytest.mark.parametrize("name", [5, None, ["runs"]])
def test_what_is_no_path_is_refused(name):
    with pytest.raises(OptionError, match="expected a run or bundle folder"):
        load_change(name)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(BundleError, match="holds no bundle"):
        load_change(tmp_path)


def test_its_text_is_one_line(model):
    assert repr(model[0]).startswith("ChangePredictor(ChangeBundle(bit:token_len=2 on torchvision/resnet18")
    assert model[0].classes == ("unchanged", "changed")
