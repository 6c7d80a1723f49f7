import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regraft.errors import CannotWrite, MissingExtra
from regraft.training.tensorboard import MOST_INPUTS, open_writer


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def curve(events, tag):
    return [(event.step, pytest.approx(event.value, nan_ok=True)) for event in events.Scalars(tag)]


def picture(events, tag):
    (event,) = events.Images(tag)
    return event.step, Image.open(io.BytesIO(event.encoded_image_string))


def test_scalars_are_read_back(tmp_path):
    writer = open_writer(tmp_path / "logs")
    for step in (1, 2, 3):
        writer.scalars({"train/loss": 1 / step, "lr/head": 1e-3, "val/loss": None}, step)
    writer.close()
    events = read(tmp_path / "logs")
    assert sorted(events.Tags()["scalars"]) == ["lr/head", "train/loss"]
    assert curve(events, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_a_resumed_training_shows_each_step_once(tmp_path):
    first = open_writer(tmp_path)
    for step in range(1, 8):
        first.scalars({"train/loss": 1.0}, step)
    first.close()
    second = open_writer(tmp_path, done=4)
    for step in range(5, 10):
        second.scalars({"train/loss": 2.0}, step)
    second.close()
    assert curve(read(tmp_path), "train/loss") == [(s, 1.0) for s in range(1, 5)] + [(s, 2.0) for s in range(5, 10)]


def test_what_is_added_afterwards_hides_nothing(tmp_path):
    writer = open_writer(tmp_path)
    writer.scalars({"train/loss": 1.0}, 7)
    writer.close()
    later = open_writer(tmp_path)
    later.confusion(np.eye(2, dtype=int), ["a", "b"], 5)
    later.close()
    events = read(tmp_path)
    assert curve(events, "train/loss") == [(7, 1.0)]
    assert picture(events, "confusion")[0] == 5


@pytest.mark.filterwarnings("error")
def test_what_is_no_number_is_written_without_a_warning(tmp_path, caplog):
    writer = open_writer(tmp_path)
    writer.scalars({"a": float("nan"), "b": float("inf"), "c": torch.tensor(0.25), "d": 3}, 1)
    writer.close()
    events = read(tmp_path)
    assert curve(events, "a") == [(1, float("nan"))]
    assert curve(events, "c") == [(1, 0.25)]
    assert curve(events, "d") == [(1, 3.0)]
    assert not caplog.records


@pytest.mark.parametrize("form", ["tensor", "array"])
def test_inputs_are_shown_as_they_are(tmp_path, form):
    colours = [(250, 10, 20), (30, 240, 10), (20, 30, 250)]
    batch = torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(3, 3, 64, 48)
    writer = open_writer(tmp_path)
    writer.inputs(batch if form == "tensor" else batch.numpy(), ["ants", "bees", "猫"], 5)
    writer.close()
    step, page = picture(read(tmp_path), "inputs")
    assert step == 5
    found = {colour for _, colour in page.convert("RGB").getcolors(100_000)}
    assert set(colours) <= found
    assert (255, 255, 255) in found


def test_of_a_large_batch_some_are_shown(tmp_path):
    writer = open_writer(tmp_path)
    writer.inputs(torch.zeros(500, 3, 8, 8, dtype=torch.uint8), ["x"] * 500, 1)
    writer.close()
    _, page = picture(read(tmp_path), "inputs")
    one = (160 + 12) * (160 + 24 + 12)  # a tile with its caption and gaps
    assert page.width * page.height < 1.3 * MOST_INPUTS * one


def test_the_confusion_matrix_is_a_picture(tmp_path):
    writer = open_writer(tmp_path)
    writer.confusion(np.array([[5, 0], [2, 3]]), ["ants", "bees"], 9)
    writer.close()
    step, page = picture(read(tmp_path), "confusion")
    assert step == 9
    assert min(page.size) > 200


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install 'regraft\[tensorboard\]'"):
        open_writer(tmp_path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="train without --tensorboard"):
        open_writer(tmp_path / "file" / "logs")


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    writer = open_writer(tmp_path)

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.events, "add_scalar", full)
    with pytest.raises(CannotWrite, match="No space left on device"):
        writer.scalars({"train/loss": 1.0}, 1)
    writer.close()
