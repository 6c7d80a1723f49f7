"""Several tasks as one objective: their mean, what is not known of them, and learnt weights."""

import numpy as np
import pytest
import torch
from torch import nn

from regraft.losses.cross_entropy import cross_entropy
from regraft.losses.uncertainty import UncertaintyWeights
from regraft.training.batches import Batch
from regraft.training.objectives import classification
from regraft.training.parameters import Rates, groups
from regraft.training.tasks import Aim, task_loss, tasks

N = 12


@pytest.fixture(autouse=True)
def _one(one_thread):
    pass


def aims(missing=()):
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (N,), generator=generator)
    labels = torch.randint(0, 2, (N, 2), generator=generator, dtype=torch.int8)
    numbers = torch.randn(N, 1, generator=generator)
    if "kind" in missing:
        classes[:] = -1
    if "tags" in missing:
        labels[:] = -1
    if "price" in missing:
        numbers[:] = float("nan")
    return (
        Aim("kind", "classes", slice(0, 3), classes),
        Aim("tags", "multilabel", slice(3, 5), labels),
        Aim("price", "regression", slice(5, 6), numbers),
    )


def model():
    torch.manual_seed(1)
    return nn.Linear(4, 6)


def batch(rows=range(N)):
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(N, 4, generator=generator)
    rows = torch.tensor(list(rows))
    return Batch(inputs[rows], torch.zeros(len(rows), dtype=torch.int64), rows)


def test_the_loss_is_the_mean_of_the_tasks_and_the_logs_its_parts():
    net, todo = model(), aims()
    loss, logs = tasks(todo)(net, batch())
    outputs = net(batch().inputs).detach()
    each = [float(task_loss(aim, outputs[:, aim.columns], batch().rows)) for aim in todo]
    assert loss.item() == pytest.approx(np.mean(each))
    assert [float(logs[f"task/{aim.name}"]) for aim in todo] == pytest.approx([value / 3 for value in each])
    assert each[0] == pytest.approx(float(cross_entropy(outputs[:, :3], todo[0].targets)))


def test_one_task_of_classes_is_the_classification_objective():
    net, (only, *_), data = nn.Linear(4, 3), aims(), batch()
    weights = torch.tensor([1.0, 2.0, 0.5])
    aim = Aim("kind", "classes", slice(0, 3), only.targets, weights)
    plain = classification(weights=weights, smoothing=0.1)
    expected, _ = plain(net, Batch(data.inputs, only.targets[data.rows], data.rows))
    assert tasks([aim], smoothing=0.1)(net, data)[0].item() == pytest.approx(expected.item())


def test_targets_follow_the_rows():
    net, todo = model(), aims()
    one, _ = tasks(todo)(net, batch([3, 7, 1]))
    other, _ = tasks(todo)(net, batch([1, 3, 7]))
    assert one.item() == pytest.approx(other.item())


@pytest.mark.parametrize("weighing", [None, 3])
def test_a_task_of_which_nothing_is_known_adds_nothing(weighing):
    net = model()
    own = None if weighing is None else UncertaintyWeights(weighing)
    if own is not None:
        nn.init.constant_(own.log_variances, 1.0)
    loss, logs = tasks(aims(missing=("kind", "price")), weighing=own)(net, batch())
    loss.backward()
    assert torch.isfinite(loss)
    assert float(logs["task/kind"]) == float(logs["task/price"]) == 0
    assert bool((net.weight.grad[[0, 1, 2, 5]] == 0).all())
    assert bool((net.weight.grad[3:5] != 0).any())
    if own is not None:
        assert own.log_variances.grad.tolist()[::2] == [0, 0]


def test_a_batch_without_any_label_is_no_loss():
    net = model()
    loss, _ = tasks(aims(missing=("kind", "tags", "price")))(net, batch())
    loss.backward()
    assert loss.item() == 0
    assert not net.weight.grad.any()


def test_mixed_images_have_mixed_losses():
    net, todo, data = model(), aims(), batch()
    torch.manual_seed(5)
    loss, _ = tasks(todo, mixup=0.4)(net, data)
    torch.manual_seed(5)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    partner = torch.randperm(N)
    outputs = net(share * data.inputs + (1 - share) * data.inputs[partner]).detach()
    expected = np.mean(
        [
            share * float(task_loss(aim, outputs[:, aim.columns], data.rows))
            + (1 - share) * float(task_loss(aim, outputs[:, aim.columns], data.rows[partner]))
            for aim in todo
        ]
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_learnt_weights_have_a_group_of_their_own():
    named = [*((f"head.{n}", p) for n, p in model().named_parameters())]
    named += [(f"weighing.{n}", p) for n, p in UncertaintyWeights(3).named_parameters()]
    found = groups(named, Rates(1e-5, 1e-5, 1.0, 0.05), lambda _: 0)
    (own,) = [group for group in found if group["where"] == "weighing"]
    assert own["names"] == ["weighing.log_variances"]
    assert own["weight_decay"] == 0
    assert own["lr"] > 1e-3, "or they would not move within a small training"
