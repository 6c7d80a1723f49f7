"""Change detection in the loop: what is learnt, what is kept of the answers, and learning from stored maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from regraft.backbones.preprocessing import Preprocessing
from regraft.data.change_labels import LabelCoding
from regraft.data.pairs import Pair
from regraft.evaluation.change import count, numbers, total
from regraft.features.table import FeatureSpace
from regraft.losses.pixels import parse_loss
from regraft.models.change.difference import LinearDifference
from regraft.models.change.net import ChangeNet
from regraft.training.batches import Batch, training_batches
from regraft.training.change import change, digest, judge, undigest
from regraft.training.engine import start_engine
from regraft.training.pair_augment import PairAugment
from regraft.training.pairs import PairExamples, PairSource, tiles_of
from regraft.training.stored_pairs import OnStored, stored_pairs
from regraft.training.validation import logits_of

SIDE = 32
PREPROCESSING = Preprocessing((32, 32), 32, "shorter", "bicubic", (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(autouse=True)
def _one(one_thread):
    pass


@pytest.fixture(scope="module")
def engine():
    return start_engine("f32")


def answers(classes, *, examples=3, seed=0):
    """Logits (B, K, 20, 24) and a batch with masks of which some pixels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(examples, classes, 20, 24, generator=generator)
    masks = torch.randint(0, classes, (examples, 20, 24), generator=generator, dtype=torch.uint8)
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = 255
    return logits, Batch(torch.zeros(examples, 1), masks, torch.arange(examples))


@pytest.mark.parametrize("classes", [2, 4])
def test_a_row_of_the_digest_is_what_counting_gives(classes):
    logits, batch = answers(classes)
    rows = digest(classes)(logits, batch)
    assert rows.shape == (3, 1 + classes**2 + 512)
    assert rows.dtype == torch.float64
    for row, one, mask in zip(rows.numpy(), logits, batch.targets, strict=True):
        expected, found = count(one.softmax(0).numpy(), mask.numpy()), undigest(row, classes)
        np.testing.assert_array_equal(found.confusion, expected.confusion)
        np.testing.assert_array_equal(found.histogram, expected.histogram)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.pixels == int((mask != 255).sum())


def test_the_loss_in_the_digest_is_torch_s():
    logits, batch = answers(2)
    rows = digest(2)(logits, batch)
    expected = functional.cross_entropy(logits, batch.targets.long(), ignore_index=255, reduction="sum")
    assert float(rows[:, 0].sum()) == pytest.approx(float(expected), rel=1e-6)


def test_an_example_without_a_label_counts_nothing():
    logits, batch = answers(2)
    batch.targets[1] = 255
    rows = digest(2)(logits, batch)
    assert float(rows[1].abs().sum()) == 0
    assert torch.equal(rows[0], digest(2)(logits[:1], Batch(batch.inputs[:1], batch.targets[:1], batch.rows[:1]))[0])


@pytest.mark.parametrize("classes", [2, 3])
def test_the_judge_tells_the_numbers_of_all_pixels(classes):
    logits, batch = answers(classes, examples=5)
    rows = digest(classes)(logits, batch).numpy()
    found = judge(classes)(rows, np.zeros(5, np.int64))
    whole = total(count(one.softmax(0).numpy(), mask.numpy()) for one, mask in zip(logits, batch.targets, strict=True))
    expected = numbers(whole)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_objective_is_the_loss_of_the_model_s_answers():
    logits, batch = answers(2)
    model = lambda _inputs: logits  # noqa: E731
    plain, logs = change(parse_loss("ce"))(model, batch)
    assert logs == {}
    assert float(plain) == pytest.approx(
        float(functional.cross_entropy(logits, batch.targets.long(), ignore_index=255))
    )
    weights = torch.tensor([1.0, 5.0])
    weighted, _ = change(parse_loss("ce"), weights)(model, batch)
    expected = functional.cross_entropy(logits, batch.targets.long(), weights, ignore_index=255)
    assert float(weighted) == pytest.approx(float(expected))
    both, _ = change(parse_loss("ce+dice"))(model, batch)
    dice, _ = change(parse_loss("dice"))(model, batch)
    assert float(both) == pytest.approx(float(plain + dice))


class TwoMaps(nn.Module):
    """A trunk with maps at strides 2 and 4."""

    multiple = 4

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 2, 1)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, x):
        fine = self.first(x)
        return [fine, self.norm(self.second(fine)).relu()]


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = ChangeNet(TwoMaps(), LinearDifference([4, 5], 2)).eval()
    for layer in net.head.weights:
        nn.init.normal_(layer.weight)
    for scale in net.head.scales:
        scale.running_var.uniform_(0.5, 2)
    return net


@pytest.fixture
def examples(tmp_path):
    """Tiles of 32 pixels of a pair of 40x70 and one of 32x32: six and one."""
    draws, items, sizes = np.random.default_rng(0), [], [(40, 70), (32, 32)]
    for number, size in enumerate(sizes):
        values = [*draws.integers(0, 256, (2, *size, 3), np.uint8), 255 * draws.integers(0, 2, size, np.uint8)]
        paths = [str(tmp_path / f"{number}{kind}.png") for kind in "abm"]
        for path, one in zip(paths, values, strict=True):
            Image.fromarray(one).save(path)
        items.append(Pair(f"{number}.png", *paths))
    coding = LabelCoding(((0, 0), (255, 1)), 2, ignore=False)
    source = PairSource.of(items, coding, sizes=sizes, bands=3, dtype="uint8")
    return PairExamples(source, tiles_of(sizes, SIDE), SIDE, PairAugment("heavy"), seed=0)


def prepare(inputs):
    return (inputs.float() - 127.5) / 127.5


@pytest.fixture
def stored(net, examples, engine, tmp_path):
    """Make the differences of the tiles, and say how many of them were computed."""

    def make(keys=("aa", "bb"), **changes):
        told = []
        space = replace(FeatureSpace("two@change", "00", PREPROCESSING, "torch cpu", "f32", "tile 32"), **changes)
        rows, shapes = stored_pairs(
            net, examples, keys, prepare, space, tmp_path / "cache", engine, lambda done, of: told.append((done, of))
        )
        return rows, shapes, told[-1][1] if told else 0

    return make


def test_stored_differences_give_the_logits_of_the_whole_network(net, examples, stored):
    rows, shapes, computed = stored()
    assert shapes == ((4, 16, 16), (5, 8, 8))
    assert computed == len(rows) == len(examples) == 7
    on_stored = OnStored(net.head, shapes, SIDE).eval()
    for row in range(len(rows)):
        differences, mask = rows.load(row, epoch=3)
        dates, expected_mask = examples.plain().load(row, 0)
        assert torch.equal(mask, expected_mask)
        with torch.inference_mode():
            found, expected = on_stored(differences[None]), net(prepare(dates)[None])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_what_is_stored_is_not_computed_again(stored):
    first, shapes, _ = stored()
    again, other_shapes, computed = stored()
    assert computed == 0
    assert shapes == other_shapes
    assert all(torch.equal(first.load(row, 0)[0], again.load(row, 0)[0]) for row in range(7))
    assert stored(keys=("aa", "cc"))[2] == 1, "the tiles of a changed pair alone"
    assert stored(view="tile 16")[2] == 7


def test_learning_from_the_store_is_learning_with_the_backbone_frozen(net, stored):
    rows, shapes, _ = stored()
    on_stored = OnStored(net.head, shapes, SIDE).train()
    objective = change(parse_loss("ce"))
    optimiser = torch.optim.SGD(on_stored.parameters(), lr=0.5)
    losses = []
    trunk = {name: tensor.clone() for name, tensor in net.trunk.state_dict().items()}
    for epoch in range(30):
        for batch in training_batches(rows, batch=7, seed=0, epoch=epoch):
            assert batch.targets.shape == (7, SIDE, SIDE)
            loss, _ = objective(on_stored, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    assert all(torch.equal(tensor, trunk[name]) for name, tensor in net.trunk.state_dict().items())


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize("workers", [0, 1])
def test_digests_of_all_examples_do_not_depend_on_the_batch(net, examples, engine, batch, workers):
    rows = logits_of(net, examples, prepare, engine, batch=batch, workers=workers, digest=digest(2))
    assert rows.shape == (7, 1 + 4 + 512)
    assert rows.dtype == np.float64
    net.eval()
    for row in range(7):
        dates, mask = examples.plain().load(row, 0)
        with torch.inference_mode():
            expected = count(net(prepare(dates)[None]).softmax(1)[0].numpy(), mask.numpy())
        found = undigest(rows[row], 2)
        assert found.pixels == expected.pixels
        assert found.changed == expected.changed
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
        assert np.abs(found.confusion - expected.confusion).sum() <= 4  # of 1024, at a tie of rounding
    whole = undigest(rows.sum(0), 2)
    assert whole.pixels == 40 * 70 + 32 * 32
