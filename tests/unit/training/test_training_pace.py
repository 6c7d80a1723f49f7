"""Schedules, groups of parameters, averages and the table of defaults, against closed forms and torch's own."""

import math

import pytest
import torch
from torch import nn

from regraft.errors import OptionError
from regraft.training import average as averages
from regraft.training.parameters import Rates, groups, make_optimiser, optimiser_tensors, restore_optimiser
from regraft.training.rules import PACES, RULES, augmentation_for, pace_for, rule_for
from regraft.training.schedules import Schedule, parse_schedule, warm_up


def torch_schedule(make, steps):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimiser)
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return found


def test_cosine_is_torchs():
    expected = torch_schedule(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40), 40)
    assert [Schedule("cosine").at(s, 40, 8) for s in range(40)] == pytest.approx(expected, abs=1e-12)


def test_step_is_torchs_step_lr_by_epoch():
    expected = torch_schedule(lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.1), 25)
    schedule = parse_schedule("step:7:0.1")
    assert [schedule.at(8 * e + 3, 200, 8) for e in range(25)] == pytest.approx(expected)


def test_linear_and_constant():
    assert [Schedule("linear").at(s, 4, 1) for s in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert Schedule("constant").at(3, 4, 1) == 1


@pytest.mark.parametrize(
    "text", ["", "cos", "step", "step:7", "step:0:0.1", "step:7:2", "step:a:b", "cosine:3", "step:7:nan"]
)
def test_other_schedules_are_refused(text):
    with pytest.raises(OptionError, match=r"step:7:0\.1"):
        parse_schedule(text)


def test_warm_up_rises_in_equal_parts():
    assert [warm_up(s, 4) for s in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert warm_up(0, 0) == 1


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1))
        self.head = nn.Linear(5, 2)


def test_groups_have_rates_by_depth_and_spare_norms_and_biases():
    model = Small()
    depth = {"0": 2, "1": 1, "2": 0}
    model.backbone[1].weight.requires_grad_(False)
    found = groups(model.named_parameters(), Rates(0.1, 1.0, 0.5, 0.05), lambda name: depth[name[0]])
    by_name = {name: group for group in found for name in group["names"]}
    assert set(by_name) == {n for n, p in model.named_parameters() if p.requires_grad}
    rates = {"backbone.0": 0.025, "backbone.1": 0.05, "backbone.2": 0.1, "head": 1.0}
    for name, group in by_name.items():
        assert group["lr"] == group["peak"] == pytest.approx(rates[name.rpartition(".")[0]])
        assert group["weight_decay"] == (
            0.05 if name in {"backbone.0.weight", "backbone.2.weight", "head.weight"} else 0
        )
        assert group["where"] == ("head" if name.startswith("head") else "backbone")


def test_what_is_fresh_learns_as_the_head():
    model = Small()
    found = groups(model.named_parameters(), Rates(0.1, 1.0), lambda _: 0, {"2.weight"})
    (group,) = [g for g in found if "backbone.2.weight" in g["names"]]
    assert group["lr"] == 1.0


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_an_optimiser_restored_by_names_takes_the_same_steps(name):
    def make():
        torch.manual_seed(0)
        model = Small()
        return model, make_optimiser(name, groups(model.named_parameters(), Rates(0.01, 0.1), lambda _: 0))

    def steps(model, optimiser, start, stop):
        for step in range(start, stop):
            torch.manual_seed(step)
            optimiser.zero_grad()
            model.head(model.backbone(torch.randn(4, 3, 2, 2)).mean((2, 3))).square().sum().backward()
            optimiser.step()

    model, optimiser = make()
    steps(model, optimiser, 0, 6)
    other, another = make()
    steps(other, another, 0, 3)
    tensors = {key: value.clone() for key, value in optimiser_tensors(another).items()}
    fresh = make_optimiser(name, groups(other.named_parameters(), Rates(0.01, 0.1), lambda _: 0))
    restore_optimiser(fresh, tensors)
    steps(other, fresh, 3, 6)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(OptionError, match="adamw or sgd"):
        make_optimiser("adam", [{"params": [nn.Parameter(torch.zeros(1))]}])


def test_the_average_is_the_closed_form():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = averages.start_average(model)
    expected = 0.0
    for step in range(50):
        with torch.no_grad():
            model.weight.fill_(float(step))
        averages.update_average(average, model, step, decay=0.9)
        share = min(0.9, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * step
    assert average["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_the_average_is_used_inside_only():
    model = nn.BatchNorm1d(2)
    average = averages.start_average(model)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(5)
    with averages.using(average, model):
        assert model.weight.tolist() == [1, 1]
        assert model.num_batches_tracked == 0
    assert model.weight.tolist() == [3, 3]
    assert model.num_batches_tracked == 5


def test_every_number_of_images_has_a_rule_and_more_images_never_mean_more_epochs():
    numbers = [1, 10, 1_000, 1_001, 10_000, 50_000, 10**6, 10**8]
    found = [rule_for(n) for n in numbers]
    assert [r.epochs for r in found] == sorted((r.epochs for r in found), reverse=True)
    assert [r.batch for r in found] == sorted(r.batch for r in found)
    assert found[0] is RULES[0]
    assert found[-1] is RULES[-1]


def test_an_own_rate_scales_all_of_them():
    usual = PACES["finetune"]
    own = pace_for("finetune", optimiser="adamw", batch=64, lr=usual.lr / 2)
    assert own.lr == usual.lr / 2
    assert own.head_lr == pytest.approx(usual.head_lr / 2)
    assert pace_for("finetune", optimiser="adamw", batch=64, lr=None).lr == pytest.approx(2 * usual.lr)
    assert not math.isnan(pace_for("scratch", optimiser="sgd", batch=16, lr=None).lr)


def test_small_pictures_are_augmented_lightly():
    assert augmentation_for(28, 28) == "light"
    assert augmentation_for(224, 224) == "default"
