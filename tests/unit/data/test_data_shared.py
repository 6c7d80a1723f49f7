"""The readers on the real images."""

from collections import Counter
from dataclasses import replace

import pytest

from regraft.data.checks import duplicate_conflicts
from regraft.data.manifest import hash_items
from regraft.data.read import read_data
from regraft.data.splits import make_splits
from regraft.data.write import write_manifest

pytestmark = pytest.mark.shared


def test_stanford40(shared_data, tmp_path):
    manifest = read_data(shared_data / "stanford40_mini")
    assert manifest.split_sizes() == {"train": 200, "val": 200, "test": 200}
    assert set(manifest.class_sizes().values()) == {15}
    assert len(manifest.classes) == 40
    assert manifest.skipped == ()
    assert all(f"/{item.label}_" in item.path for item in manifest.items)
    write_manifest(manifest, tmp_path / "lists", form="meta")
    again = read_data(tmp_path / "lists")
    assert again.items == manifest.items
    assert again.classes == manifest.classes


def test_stanford40_by_number(shared_data):
    manifest = read_data(shared_data / "stanford40_mini", take=(3, 2, 1))
    assert manifest.split_sizes() == {"train": 120, "val": 80, "test": 40}
    assert Counter(s.reason for s in manifest.skipped) == {"not taken": 360}


def test_hymenoptera(shared_data):
    """244 + 153 photographs and one GIF, which is an image by content too."""
    manifest = read_data(shared_data / "hymenoptera")
    assert manifest.split_sizes() == {"train": 245, "val": 153}
    photographs = replace(manifest, items=tuple(i for i in manifest.items if not i.path.endswith(".gif")))
    assert photographs.split_sizes() == {"train": 244, "val": 153}
    assert manifest.classes == ("ants", "bees")
    assert make_splits(manifest) is manifest


def test_fashion(shared_data):
    folder = shared_data / "fashion_attr"
    manifest = read_data(folder / "styles.csv", root=folder / "images", path_column="id", label_column="gender")
    assert len(manifest) == 2000
    assert manifest.class_sizes() == {"Boys": 39, "Girls": 27, "Men": 996, "Unisex": 93, "Women": 845}
    assert manifest.skipped == ()
    assert make_splits(manifest).split_sizes() == {"train": 1400, "val": 300, "test": 300}
    season = read_data(folder / "styles.csv", root=folder / "images", label_column="season")
    assert season.classes == ("Fall", "Spring", "Summer", "Winter")
    assert sum(item.label is None for item in season.items) == 2


def test_the_round_trip_of_real_images(shared_data, tmp_path):
    manifest = read_data(shared_data / "hymenoptera")
    items, lost = hash_items(manifest.items)
    assert lost == []
    wanted = Counter((item.label, item.split, item.key) for item in items)
    here = manifest
    for name, form in [("1.csv", None), ("meta", "meta"), ("links", "folders"), ("2.csv", None)]:
        write_manifest(here, tmp_path / name, form=form)
        here = read_data(tmp_path / name)
        assert Counter((i.label, i.split, i.key) for i in hash_items(here.items)[0]) == wanted
    assert duplicate_conflicts(replace(manifest, items=tuple(items))) == ()
