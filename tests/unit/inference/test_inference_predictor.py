import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regraft.errors import BundleError, OptionError
from regraft.inference import predictor
from regraft.inference.predictor import Predictor, load
from regraft.inference.tabulate import images_of


class Named:
    """A run, as far as paths are concerned."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.fixture
def blind(write):
    """A predictor whose every file is unreadable: what it is asked for, and no network, is under test."""
    return load(write()[0])


@pytest.fixture
def asked(monkeypatch):
    """The paths that a predictor would have looked at."""
    seen = []

    def hashed(items):
        seen.extend(item.path for item in items)
        return [], []

    def nothing(*_, **__):
        raise StopIteration

    monkeypatch.setattr(predictor, "hash_items", hashed)
    monkeypatch.setattr(Predictor, "ready", nothing)
    return seen


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.jpg", ["a.jpg"]),
        (Path("b/a.jpg"), [str(Path("b/a.jpg"))]),
        (Named("a.jpg"), ["a.jpg"]),
        (["a.jpg", Path("c.jpg")], ["a.jpg", "c.jpg"]),
        (("a.jpg",), ["a.jpg"]),
        ((name for name in ("a.jpg", "b.jpg")), ["a.jpg", "b.jpg"]),
        ([], []),
    ],
)
def test_one_path_or_several_are_taken(blind, asked, given, expected):
    with pytest.raises(StopIteration):
        blind.predict(given)
    assert asked == expected


@pytest.mark.parametrize("given", [b"a.jpg", bytearray(b"x"), 3, None, 2.5, [3], [b"a.jpg"], [None], Named(b"a.jpg")])
def test_what_is_no_path_is_refused_in_a_sentence(blind, given):
    with pytest.raises(OptionError, match="the path of an image file"):
        blind.predict(given)


def test_an_array_is_refused_in_one_short_line(blind):
    with pytest.raises(OptionError, match=r"\(list\)|\(ndarray\)") as caught:
        blind.predict([np.zeros((50, 50))])
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_a_model_of_a_feature_file_says_what_it_can_do(blind):
    with pytest.raises(BundleError, match=r"regraft evaluate MODEL --features FILE"):
        blind.predict("a.jpg")
    with pytest.raises(BundleError, match=r"regraft evaluate MODEL --features FILE"):
        blind.bundle.build()


def test_anything_that_stands_for_a_path_is_loaded(write):
    folder, _ = write()
    assert load(Named(str(folder))).bundle.folder == load(str(folder)).bundle.folder == folder
    for wrong in (3, None, b"run"):
        with pytest.raises(OptionError, match="a run or bundle folder"):
            load(wrong)
    with pytest.raises(OptionError, match="the cache folder"):
        load(folder, cache=3)


def test_an_unknown_runtime_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(OptionError, match="runtime 'x' is unknown"):
        load(tmp_path / "nowhere", runtime="x")
    with pytest.raises(BundleError, match="does not exist"):
        load(tmp_path / "nowhere")


def test_its_text_is_one_short_line(blind):
    assert len(repr(blind)) < 250
    assert "\n" not in repr(blind)
    assert repr(blind).startswith("Predictor(Bundle(linear-probe on a feature file, 3 classes, ")


def test_a_cache_that_cannot_be_written_is_replaced_with_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING, "regraft"):
        temporary = predictor._cache_or_temporary(tmp_path / "file")
    assert temporary.is_dir()
    assert predictor._cache_or_temporary(tmp_path / "file" / "below") == temporary
    assert str(tmp_path / "file") in caplog.messages[0]
    assert "REGRAFT_CACHE_DIR" in caplog.messages[0]
    assert predictor._cache_or_temporary(tmp_path / "good") == tmp_path / "good"


def test_load_keeps_features_elsewhere_when_the_cache_is_a_file(write, tmp_path, monkeypatch):
    folder, _ = write()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("REGRAFT_CACHE_DIR", str(tmp_path / "file"))
    bundle = load(folder).bundle
    monkeypatch.setattr(predictor, "read_bundle", lambda _: replace(bundle, cards=(object(),)))
    cache = load(folder).cache
    assert cache.is_dir()
    assert cache != tmp_path / "file"


def test_images_of_a_folder_are_named_as_the_folder_was(tmp_path, monkeypatch, small_images):
    monkeypatch.chdir(tmp_path)
    assert images_of(["photos"]) == small_images("photos")
    assert images_of(["./photos", "photos/one.png"]) == [*small_images("./photos"), "photos/one.png"]
    assert images_of([str(tmp_path / "photos")]) == small_images(str(tmp_path / "photos"))
    monkeypatch.chdir(tmp_path / "photos")
    assert images_of(["../photos"]) == small_images("../photos")
    assert images_of(["gone.jpg"]) == ["gone.jpg"]


@pytest.fixture
def small_images(tmp_path):
    from PIL import Image

    for name in ("a/1.png", "a/b/2.png", "caf\udce9/3.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    return lambda named: [f"{named}/{name}" for name in ("a/1.png", "a/b/2.png", "caf\udce9/3.png")]
