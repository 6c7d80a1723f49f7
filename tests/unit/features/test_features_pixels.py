"""Pixels: what the preprocessing gives, decoded once, whoever is killed meanwhile."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from odd_images import picture
from regraft.atomic import atomic_file
from regraft.backbones.preprocessing import Preprocessing
from regraft.data.decode import read_image
from regraft.data.manifest import Item, hash_items
from regraft.errors import CannotWrite, ImageRejected
from regraft.features import pixel_store, pixels
from regraft.features.pixels import DecodedPixels, keep_pixels
from regraft.features.store import prune, summaries

PREPROCESSING = Preprocessing((24, 20), 28, "shorter", "bicubic", (0.5,) * 3, (0.5,) * 3)


def make_images(folder, count, size=(60, 44)):
    folder.mkdir(exist_ok=True)
    for n in range(count):
        picture(n % 5, n, (size[0] + n % 7, size[1])).save(folder / f"{n:03}.jpg", quality=90)
    return items_of(folder)


def items_of(folder):
    items, lost = hash_items([Item(str(path)) for path in sorted(folder.iterdir())])
    assert not lost
    return items


def expected(item, view, preprocessing=PREPROCESSING):
    image = read_image(item.path, at_least=preprocessing.at_least()).image
    return preprocessing(image) if view == "plain" else preprocessing.frame(image)


@pytest.fixture
def no_decoding(monkeypatch):
    def switch():
        monkeypatch.setattr(pixels, "read_hashed", lambda *_, **__: pytest.fail("decoded again"))

    return switch


@pytest.mark.parametrize("view", ["plain", "frame"])
def test_pixels_are_what_the_preprocessing_gives(tmp_path, view, no_decoding):
    items = make_images(tmp_path / "images", 40)
    first = keep_pixels(items, PREPROCESSING, tmp_path / "c", view=view)
    assert (first.from_store, first.computed, first.note, first.rejected) == (0, 40, "", ())
    wanted = [expected(item, view) for item in items]
    no_decoding()
    again = keep_pixels(items, PREPROCESSING, tmp_path / "c", view=view)
    assert (again.from_store, again.computed) == (40, 0)
    for kept in (first, again):
        assert kept.items == tuple(items)
        assert len(kept.pixels) == 40
        assert all(np.array_equal(kept.pixels.image(row), image) for row, image in enumerate(wanted))


def test_images_are_the_callers_own_and_go_to_other_processes(tmp_path, no_decoding):
    items = make_images(tmp_path / "images", 5)
    kept = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain").pixels
    no_decoding()
    before = kept.image(2).copy()
    kept.image(2)[:] = 0
    sent = pickle.loads(pickle.dumps(kept))
    assert np.array_equal(sent.image(2), before)


def test_new_images_are_added_and_identical_files_are_decoded_once(tmp_path):
    items = make_images(tmp_path / "images", 10)
    keep_pixels(items[:6], PREPROCESSING, tmp_path / "c", view="frame")
    (tmp_path / "images" / "copy.jpg").write_bytes((tmp_path / "images" / "008.jpg").read_bytes())
    items = items_of(tmp_path / "images")
    kept = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="frame")
    assert (len(kept.items), kept.from_store, kept.computed) == (11, 6, 4)
    assert np.array_equal(kept.pixels.image(8), kept.pixels.image(10))


def test_what_decides_a_pixel_decides_the_folder(tmp_path):
    items = make_images(tmp_path / "images", 2)
    same = replace(PREPROCESSING, mean=(0.1,) * 3, std=(0.2,) * 3)
    padded = replace(PREPROCESSING, mode="pad")
    others = [
        (same, "frame"),
        (replace(PREPROCESSING, size=(24, 24)), "plain"),
        (replace(PREPROCESSING, resize=29), "plain"),
        (replace(PREPROCESSING, interpolation="bilinear"), "plain"),
        (replace(PREPROCESSING, mode="squash"), "plain"),
        (padded, "plain"),
        (replace(padded, mean=(0.1,) * 3), "plain"),  # the mean colour is what is padded with
    ]
    keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain")
    assert keep_pixels(items, same, tmp_path / "c", view="plain").from_store == 2
    for preprocessing, view in others:
        assert keep_pixels(items, preprocessing, tmp_path / "c", view=view).from_store == 0


def test_bad_files_are_rejected_each_time_and_notes_are_remembered(tmp_path):
    folder = tmp_path / "images"
    make_images(folder, 3)
    (folder / "bad.jpg").write_bytes(b"<html>")
    Image.new("RGBA", (30, 30), (9, 9, 9, 100)).save(folder / "see-through.png")
    items = items_of(folder)
    first, again = (keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain") for _ in range(2))
    assert [s.path for s in again.rejected] == [str(folder / "bad.jpg")]
    assert "HTML" in again.rejected[0].reason
    assert [os.path.basename(i.path) for i in again.items] == ["000.jpg", "001.jpg", "002.jpg", "see-through.png"]  # noqa: PTH119
    assert first.notes == again.notes
    assert list(again.notes) == [str(folder / "see-through.png")]
    assert (again.from_store, again.computed) == (4, 0)


def test_a_changed_file_is_rejected_until_it_is_hashed_again(tmp_path):
    items = make_images(tmp_path / "images", 2)
    picture(9, 9).save(items[0].path)
    kept = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain")
    assert "changed while" in kept.rejected[0].reason
    assert kept.items == (items[1],)


@pytest.mark.parametrize("content", [b"", b"short", None])
def test_damaged_segments_are_decoded_again(tmp_path, content):
    items = make_images(tmp_path / "images", 4)
    keep_pixels(items[:2], PREPROCESSING, tmp_path / "c", view="plain")
    (segment,) = (tmp_path / "c").rglob("*.safetensors")
    segment.write_bytes(segment.read_bytes()[:-1] if content is None else content)
    kept = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain")
    assert (kept.from_store, kept.computed) == (0, 4)
    assert all(np.array_equal(kept.pixels.image(n), expected(item, "plain")) for n, item in enumerate(items))


def test_segments_that_vanish_or_break_meanwhile_are_decoded_from_the_files(tmp_path):
    items = make_images(tmp_path / "images", 3)
    kept = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain")
    (segment,) = (tmp_path / "c").rglob("*.safetensors")
    segment.write_bytes(segment.read_bytes()[:3000])
    assert np.array_equal(kept.pixels.image(2), expected(items[2], "plain"))
    prune(tmp_path / "c")
    assert np.array_equal(kept.pixels.image(1), expected(items[1], "plain"))
    os.unlink(items[1].path)  # noqa: PTH108
    with pytest.raises(ImageRejected, match="cannot be read"):
        kept.pixels.image(1)


def test_memory_is_bounded_by_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "_SEGMENT_BYTES", 4 * 24 * 20 * 3)
    items = make_images(tmp_path / "images", 10)
    kept = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain")
    assert len(list((tmp_path / "c").rglob("*.safetensors"))) == 3
    assert all(np.array_equal(kept.pixels.image(n), expected(item, "plain")) for n, item in enumerate(items))


def test_too_much_is_not_kept_and_said(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    make_images(folder, 4)
    (folder / "bad.jpg").write_bytes(b"<html>")
    items = items_of(folder)
    limited = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain", limit=5 * 24 * 20 * 3 - 1)
    assert "the limit is" in limited.note
    disk = SimpleNamespace(free=2 * 5 * 24 * 20 * 3 - 1)
    monkeypatch.setattr(pixels.shutil, "disk_usage", lambda _: disk)
    full = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain")
    assert "free" in full.note
    for kept in (limited, full):
        assert isinstance(kept.pixels, DecodedPixels)
        assert [s.path for s in kept.rejected] == [str(folder / "bad.jpg")]
        assert len(kept.pixels) == 4
        assert all(np.array_equal(kept.pixels.image(n), expected(i, "plain")) for n, i in enumerate(kept.items))
    assert not list((tmp_path / "c").rglob("*.safetensors"))


def test_a_disk_that_fills_up_ends_the_keeping_and_not_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "_SEGMENT_BYTES", 4 * 24 * 20 * 3)
    written = []

    def fills_up(target):
        written.append(target)
        if len(written) == 2:
            raise CannotWrite(f"{target} cannot be written: No space left on device. Nothing was left there.")
        return atomic_file(target)

    monkeypatch.setattr(pixel_store, "atomic_file", fills_up)
    items = make_images(tmp_path / "images", 12)
    kept = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="plain")
    assert len(written) == 2
    assert "No space left" in kept.note
    assert kept.computed == 12
    assert all(np.array_equal(kept.pixels.image(n), expected(i, "plain")) for n, i in enumerate(items))


def test_no_items(tmp_path):
    kept = keep_pixels([], PREPROCESSING, tmp_path / "c", view="plain")
    assert (kept.items, len(kept.pixels)) == ((), 0)


def test_progress_is_told(tmp_path):
    told = []
    items = make_images(tmp_path / "images", 3)
    keep_pixels(
        items, PREPROCESSING, tmp_path / "c", view="plain", on_progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_features_pixels import PREPROCESSING, items_of
from regraft.features import pixels
pixels._SEGMENT_BYTES = 8000
folder = Path(sys.argv[1])
items = items_of(folder / "images")
print("ready", flush=True)
pixels.keep_pixels(items[:: int(sys.argv[2])], PREPROCESSING, folder / "c", view="frame")
"""


def count_segments(folder):
    return len(list((folder / "c").rglob("[!.]*.safetensors")))


def test_killed_writers_leave_whole_segments_and_the_next_goes_on(tmp_path):
    items = make_images(tmp_path / "images", 300)
    code = WRITER.format(paths=[os.path.dirname(__file__), *sys.path])  # noqa: PTH120
    struck = 0
    for round_ in range(3):
        writers = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path), step], stdout=subprocess.PIPE, text=True)
            for step in ("1", "-1")
        ]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        before, patience = count_segments(tmp_path), time.monotonic() + 30
        while count_segments(tmp_path) <= before and time.monotonic() < patience:
            if all(writer.poll() is not None for writer in writers):  # a slow look: they were done before it
                break
            time.sleep(0.003 * round_)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
            struck += writer.returncode == -signal.SIGKILL
    kept = keep_pixels(items, PREPROCESSING, tmp_path / "c", view="frame")
    assert struck > 0
    assert 0 < kept.from_store <= 300
    assert kept.from_store + kept.computed == 300
    assert all(np.array_equal(kept.pixels.image(n), expected(i, "frame")) for n, i in enumerate(items))
    assert not list((tmp_path / "c").rglob(".regraft-tmp*"))


def test_the_cache_lists_and_prunes_pixels(tmp_path):
    items = make_images(tmp_path / "images", 3)
    keep_pixels(items, PREPROCESSING, tmp_path / "c", view="frame")
    (found,) = summaries(tmp_path / "c")
    assert (found.what, found.rows) == ("pixels", 3)
    assert found.description == "shorter 28 for 24x20 bicubic frame"
    assert json.loads((found.folder / "space.json").read_text())["view"] == "frame"
    assert found.size > 3 * 28 * 28 * 3
    assert prune(tmp_path / "c", older_than=1) == []
    assert prune(tmp_path / "c") == [found]
    assert summaries(tmp_path / "c") == []
