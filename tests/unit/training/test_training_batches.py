"""Batches: functions of seed, epoch and step, whoever loads them and however many share them."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from odd_images import picture
from regraft.backbones.preprocessing import Preprocessing
from regraft.errors import ImageRejected, OptionError
from regraft.features.store import Store
from regraft.features.table import FeatureSpace
from regraft.training import batches
from regraft.training.augment import augmentation
from regraft.training.batches import (
    EVALUATION,
    Batch,
    PixelExamples,
    RowExamples,
    evaluation_batches,
    mixed,
    order,
    steps_per_epoch,
    training_batches,
)

PREPROCESSING = Preprocessing((24, 20), 28, "shorter", "bilinear", (0.5,) * 3, (0.5,) * 3)
COUNT = 23


@dataclass(frozen=True)
class InMemory:
    """Pixels for tests; number `missing` cannot be decoded."""

    missing: int = -1

    def __len__(self):
        return COUNT

    def image(self, row):
        if row == self.missing:
            raise ImageRejected(f"{row}.jpg", "changed while it was being read; run again")
        return np.array(picture(0, row, (40, 28 + row % 5)))


def examples(name="default", **changes):
    pixels = InMemory(**changes)
    return PixelExamples(pixels, np.arange(COUNT, dtype=np.int64) % 4, augmentation(name, PREPROCESSING), 11)


@dataclass(frozen=True)
class OfOneSize(InMemory):
    """Pixels as the network takes them."""

    def image(self, row):
        return np.array(picture(0, row, (20, 24)))


def plain():
    return PixelExamples(OfOneSize(), np.arange(COUNT, dtype=np.int64) % 4, None, 0)


def listed(found):
    return [(b.rows.tolist(), b.targets.tolist(), b.inputs.numpy().tobytes(), b.inputs.stride()) for b in found]


def some(**changes):
    return listed(training_batches(changes.pop("of", examples()), **{"batch": 6, "seed": 5, "epoch": 2, **changes}))


def test_an_epoch_takes_whole_batches_of_its_permutation():
    found = list(training_batches(examples(), batch=6, seed=5, epoch=2))
    assert torch.cat([b.rows for b in found]).tolist() == order(COUNT, 5, 2)[:18].tolist()
    assert [len(b) for b in found] == [6] * steps_per_epoch(COUNT, 6)
    for batch in found:
        assert (batch.inputs.shape, batch.inputs.dtype) == ((6, 3, 24, 20), torch.uint8)
        assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
        assert batch.targets.tolist() == [row % 4 for row in batch.rows.tolist()]
        for row, image in zip(batch.rows.tolist(), batch.inputs, strict=True):
            assert torch.equal(image, examples().load(row, 2))


def test_orders_are_permutations_and_unlike_each_other():
    orders = [order(50, seed, epoch).tolist() for seed in range(4) for epoch in range(4)]
    assert all(sorted(one) == list(range(50)) for one in orders)
    assert len({tuple(one) for one in orders}) == 16
    # Each place is taken by each row about equally often: over 400 epochs, 16 classes of 25.
    firsts = np.bincount([int(order(16, 0, epoch)[0]) for epoch in range(400)], minlength=16)
    assert ((firsts - 25) ** 2 / 25).sum() < 37.7  # the 99.9th percentile of chi squared with 15 degrees


def test_seeds_of_examples_do_not_collide_and_depend_on_each_argument():
    seeds = {mixed(seed, epoch, row) for seed in range(10) for epoch in range(-1, 20) for row in range(200)}
    assert len(seeds) == 10 * 21 * 200
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    bits = np.mean([[mixed(0, e, r) >> bit & 1 for bit in range(63)] for e in range(20) for r in range(50)], axis=0)
    assert np.abs(bits - 0.5).max() < 0.08


def test_an_example_looks_different_in_each_epoch_and_as_it_is_in_evaluation():
    one = examples()
    assert torch.equal(one.load(3, 0), one.load(3, 0))
    assert len({one.load(3, epoch).numpy().tobytes() for epoch in range(10)}) == 10
    assert np.array_equal(one.load(3, EVALUATION).permute(1, 2, 0), one.pixels.image(3))


@pytest.mark.parametrize("shared", [True, False])
def test_any_number_of_loading_processes_gives_the_same_batches(monkeypatch, shared):
    monkeypatch.setattr(batches, "_much_shared_memory", lambda: shared)
    alone = some()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert some(workers=1) == alone
    assert some(workers=2) == alone
    assert some(workers=2, start=2) == alone[2:]
    assert torch.equal(torch.get_rng_state(), before), "the loader drew from torch's generator"
    judged = listed(evaluation_batches(plain(), batch=5))
    assert listed(evaluation_batches(plain(), batch=5, workers=2)) == judged


def test_starting_at_a_step_gives_the_rest():
    assert [some(start=k) for k in range(4)] == [some()[k:] for k in range(4)]
    assert some(epoch=3) != some()
    assert some(seed=6) != some()


def test_processes_divide_each_batch_between_them():
    whole = list(training_batches(examples(), batch=6, seed=5, epoch=2))
    parts = [list(training_batches(examples(), batch=6, seed=5, epoch=2, rank=r, world=3)) for r in range(3)]
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([part[step].inputs for part in parts]), batch.inputs)
        assert torch.equal(torch.cat([part[step].rows for part in parts]), batch.rows)


def test_a_batch_larger_than_all_is_all():
    (batch,) = training_batches(examples(), batch=1000, seed=5, epoch=2)
    assert sorted(batch.rows.tolist()) == list(range(COUNT))
    both = [next(training_batches(examples(), batch=1000, seed=5, epoch=2, rank=r, world=2)) for r in range(2)]
    assert [len(b) for b in both] == [11, 11]
    assert not set(both[0].rows.tolist()) & set(both[1].rows.tolist())
    with pytest.raises(OptionError, match="23 images a step cannot be divided among 24 processes"):
        next(training_batches(examples(), batch=1000, seed=5, epoch=2, world=24))


def test_evaluation_sees_each_once_in_batches_that_do_not_depend_on_the_processes():
    whole = listed(evaluation_batches(plain(), batch=5))
    assert [len(rows) for rows, *_ in whole] == [5, 5, 5, 5, 3]
    assert [row for rows, *_ in whole for row in rows] == list(range(COUNT))
    for world in (1, 2, 3, 7):
        parts = [listed(evaluation_batches(plain(), batch=5, rank=r, world=world)) for r in range(world)]
        assert [parts[n % world][n // world] for n in range(5)] == whole
        assert sum(map(len, parts)) == 5


def test_chunks_are_nearly_equal_and_in_order():
    batch = Batch(torch.arange(10).reshape(10, 1), torch.arange(10), torch.arange(10) + 100)
    for count, sizes in ((1, [10]), (3, [4, 3, 3]), (4, [3, 3, 2, 2]), (99, [1] * 10)):
        parts = batch.chunks(count)
        assert [len(part) for part in parts] == sizes
        assert torch.equal(torch.cat([part.inputs for part in parts]), batch.inputs)
        assert torch.cat([part.rows for part in parts]).tolist() == batch.rows.tolist()
        assert torch.cat([part.targets for part in parts]).tolist() == batch.targets.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_activations_come_from_the_views_in_turn(tmp_path, workers):
    keys = [f"{n:064x}" for n in range(COUNT)]
    views = []
    for number in range(2):
        store = Store.open(tmp_path, FeatureSpace("x", "0" * 64, PREPROCESSING, "torch", "f32", f"view {number}"))
        store.append(keys, np.arange(COUNT * 12, dtype=np.float32).reshape(COUNT, 12) + 1000 * number, {})
        views.append(store.rows(keys))
    stored = RowExamples(tuple(views), np.zeros(COUNT, np.int64), (3, 2, 2))
    for epoch in (0, 1, 2, 5, EVALUATION):
        offset = 1000 * (max(epoch, 0) % 2)
        assert stored.load(4, epoch).tolist() == (np.arange(48, 60).reshape(3, 2, 2) + offset).tolist()
    for batch in training_batches(stored, batch=6, seed=0, epoch=1, workers=workers):
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs[:, 0, 0, 0].tolist() == (batch.rows * 12 + 1000).tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_decoded_is_named(workers):
    with pytest.raises(ImageRejected, match="changed while") as caught:
        list(training_batches(examples(missing=4), batch=23, seed=0, epoch=0, workers=workers))
    assert caught.value.path == "4.jpg"


def children():
    import multiprocessing

    return {process.pid for process in multiprocessing.active_children()}


def test_abandoned_batches_leave_no_process():
    before = children()
    found = training_batches(examples(), batch=2, seed=5, epoch=2, workers=2)
    next(found)
    assert len(children() - before) == 2
    found.close()
    assert children() <= before


INTERRUPTED = """
import signal, sys, time
sys.path[:0] = {paths!r}
import torch
from test_training_batches import examples
from regraft.training.batches import training_batches
def main():
    asked = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: asked.append(n))
    steps = 0
    for step, batch in enumerate(training_batches(examples(), batch=1, seed=5, epoch=2, workers=2)):
        steps += 1
        if step == 0:
            print("ready", flush=True)
        time.sleep(0.05)
    print(steps, len(asked), flush=True)
if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="signals a group of processes")
def test_signals_to_the_whole_group_do_not_end_the_loading(tmp_path):
    """A terminal's Ctrl-C reaches the loading processes too; the training decides what becomes of it."""
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED.format(paths=[os.path.dirname(__file__), *sys.path]))  # noqa: PTH120
    training = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert training.stdout.readline() == "ready\n"
        time.sleep(0.1)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.killpg(training.pid, number)
        said, errors = training.communicate(timeout=60)
    finally:
        training.kill()
    assert said.split() == [str(COUNT), "2"], errors
    assert errors == ""
