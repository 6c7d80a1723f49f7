"""Extraction: each image once, in order, whatever fails; two processes are as good as one."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from regraft.backbones.preprocessing import Preprocessing
from regraft.data.manifest import Item, hash_items
from regraft.features.extract import extract
from regraft.features.store import Store
from regraft.features.table import FeatureSpace

PREPROCESSING = Preprocessing((16, 16), 16, "squash", "bilinear", (0.5,) * 3, (0.5,) * 3)
PLAIN = FeatureSpace("timm/x", "0" * 64, PREPROCESSING, "fake", "f32")
FLIP = replace(PLAIN, view="flip")


class LeftRight:
    """A runtime whose features are the mean of the left and of the right half; counts what it runs."""

    name, precision, device = "fake", "f32", "none"

    def __init__(self):
        self.runs = 0

    def __call__(self):
        return self

    def run(self, count, load, on_row):
        for n in range(count):
            for index, image in load(n):
                self.runs += 1
                on_row(index, np.array([image[:, :8].mean(), image[:, 8:].mean()], np.float32))


def make_images(folder, count, seed=0):
    generator = np.random.default_rng(seed)
    paths = []
    for n in range(count):
        path = folder / f"{n}.png"
        left, right = generator.integers(0, 256, 2)
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[:, :8], pixels[:, 8:] = left, right
        Image.fromarray(pixels).save(path)
        paths.append((str(path), float(left), float(right)))
    return paths


def items_of(paths):
    items, lost = hash_items([Item(path) for path, *_ in paths])
    assert not lost
    return items


def test_features_are_those_of_the_image_in_order(tmp_path):
    paths = make_images(tmp_path, 300)
    found = extract(items_of(paths), [PLAIN], tmp_path / "c", LeftRight())
    assert found.table.features.tolist() == [[left, right] for _, left, right in paths]
    assert (found.from_store, found.computed) == (0, len({(a, b) for _, a, b in paths}))


def test_nothing_is_run_twice_and_new_images_are_added(tmp_path):
    items = items_of(make_images(tmp_path, 20))
    distinct = len({i.key for i in items})
    first = LeftRight()
    extract(items[:12], [PLAIN], tmp_path / "c", first)
    second = LeftRight()
    found = extract(items, [PLAIN], tmp_path / "c", second)
    assert first.runs + second.runs == distinct
    again = extract(items, [PLAIN], tmp_path / "c", lambda: pytest.fail("the runtime is not needed"))
    assert np.array_equal(found.table.features, again.table.features)
    assert again.computed == 0


def test_a_changed_file_is_never_served_from_the_store(tmp_path):
    paths = make_images(tmp_path, 2)
    before = extract(items_of(paths), [PLAIN], tmp_path / "c", LeftRight())
    Image.new("RGB", (16, 16), (7, 7, 7)).save(paths[0][0])
    after = extract(items_of(paths), [PLAIN], tmp_path / "c", LeftRight())
    assert after.table.features[0].tolist() == [7, 7]
    assert np.array_equal(before.table.features[1], after.table.features[1])


def test_a_file_that_changes_between_hashing_and_reading_is_rejected(tmp_path):
    paths = make_images(tmp_path, 2)
    items = items_of(paths)
    Image.new("RGB", (16, 16), (7, 7, 7)).save(paths[0][0])
    found = extract(items, [PLAIN], tmp_path / "c", LeftRight())
    assert [s.path for s in found.rejected] == [paths[0][0]]
    assert "changed while" in found.rejected[0].reason
    assert [i.path for i in found.items] == [paths[1][0]]


def test_flip_averages_both_views_and_stores_each(tmp_path):
    paths = make_images(tmp_path, 5)
    items = items_of(paths)
    extract(items[:2], [PLAIN], tmp_path / "c", LeftRight())
    runtime = LeftRight()
    found = extract(items, [PLAIN, FLIP], tmp_path / "c", runtime)
    assert found.table.features.tolist() == [[(a + b) / 2] * 2 for _, a, b in paths]
    assert runtime.runs == 3 + 5  # two plain rows were there
    mirrored, _ = Store.open(tmp_path / "c", FLIP).gather([i.key for i in items])
    assert mirrored.tolist() == [[b, a] for _, a, b in paths]


def test_identical_files_are_run_once_and_both_have_features(tmp_path):
    (path, left, right), *_ = make_images(tmp_path, 1)
    copy = tmp_path / "copy.png"
    copy.write_bytes((tmp_path / "0.png").read_bytes())
    runtime = LeftRight()
    found = extract(items_of([(path,), (str(copy),)]), [PLAIN], tmp_path / "c", runtime)
    assert runtime.runs == 1
    assert found.table.features.tolist() == [[left, right]] * 2


def test_bad_files_are_rejected_each_time_and_the_others_kept(tmp_path):
    paths = make_images(tmp_path, 6)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"<html>")
    items = items_of([*paths[:3], (str(bad),), *paths[3:]])
    for _ in range(2):
        found = extract(items, [PLAIN], tmp_path / "c", LeftRight())
        assert [s.path for s in found.rejected] == [str(bad)]
        assert "HTML" in found.rejected[0].reason
        assert found.table.features.tolist() == [[a, b] for _, a, b in paths]


def test_what_the_decoder_said_is_remembered(tmp_path):
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (16, 16), (v, 0, 0)) for v in (10, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    items = items_of([(str(path),)])
    first = extract(items, [PLAIN], tmp_path / "c", LeftRight())
    again = extract(items, [PLAIN], tmp_path / "c", LeftRight())
    assert first.notes == again.notes
    assert "2 frames" in first.notes[str(path)][0]


def test_an_error_in_the_runtime_keeps_what_was_done(tmp_path):
    items = items_of(make_images(tmp_path, 300))

    class Breaks(LeftRight):
        def run(self, count, load, on_row):
            super().run(count, load, on_row)
            if self.runs > 128:
                raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        extract(items, [PLAIN], tmp_path / "c", Breaks())
    runtime = LeftRight()
    extract(items, [PLAIN], tmp_path / "c", runtime)
    assert 0 < runtime.runs <= len({i.key for i in items}) - 128


EXTRACT = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from test_features_extract import PLAIN, LeftRight, items_of
from regraft.features.extract import extract
folder = Path(sys.argv[1])
items = items_of([(str(p),) for p in sorted(folder.glob("*.png"), key=lambda p: int(p.stem))])
if sys.argv[2] == "backwards":
    items = items[::-1]
print("ready", flush=True)
sys.stdin.readline()
extract(items, [PLAIN], folder / "shared", LeftRight())
"""


def test_two_processes_into_one_store_give_what_one_gives(tmp_path):
    import os

    paths = make_images(tmp_path, 400)
    code = EXTRACT.format(here=os.path.dirname(__file__))  # noqa: PTH120
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for way in ("forwards", "backwards")
    ]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60) and process.returncode for process in both] == [0, 0]
    items = items_of(paths)
    alone = extract(items, [PLAIN], tmp_path / "alone", LeftRight())
    together = extract(items, [PLAIN], tmp_path / "shared", lambda: pytest.fail("all rows must be there"))
    assert np.array_equal(alone.table.features, together.table.features)
