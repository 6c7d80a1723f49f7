"""Matching: counts made independently, and nothing loaded silently."""

import pytest
import torch
from torch import nn

from regraft.checkpoints.match import match, require
from regraft.errors import CheckpointError


def _net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_a_complete_match_copies_every_number():
    source, target = _net(), _net()
    for buffer in source.buffers():
        buffer.add_(3)
    report = match(source.state_dict(), target)
    assert report.share == 1.0
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)
    assert report.size == (4 * 3 * 9 + 4) + 4 * 4 + (4 * 2 + 2)
    require(report, 1.0)


def test_what_does_not_fit_is_counted_exactly_and_left_alone():
    target = _net()
    before = target[3].weight.clone()
    state = _net().state_dict()
    state["3.weight"] = torch.zeros(5, 4)
    state["extra.weight"] = state.pop("0.bias")
    report = match(state, target)
    assert report.missing == ("0.bias",)
    assert report.unexpected == ("extra.weight",)
    (mismatch,) = report.mismatched
    assert (mismatch.name, mismatch.found, mismatch.expected) == ("3.weight", (5, 4), (2, 4))
    assert report.size - report.loaded_size == 4 + 8
    assert torch.equal(target[3].weight, before)
    for part in ("0.bias", "extra.weight", "(5, 4)", "(2, 4)"):
        assert part in str(report)


def test_a_missing_batch_counter_is_no_miss():
    state = _net().state_dict()
    del state["1.num_batches_tracked"]
    report = match(state, _net())
    assert report.missing == ()
    require(report, 1.0)


def test_missing_statistics_are_a_miss_although_they_are_no_parameters():
    state = _net().state_dict()
    del state["1.running_var"]
    report = match(state, _net())
    assert report.missing == ("1.running_var",)
    with pytest.raises(CheckpointError, match=r"1\.running_var"):
        require(report, 1.0)


def test_integers_are_not_taken_for_weights():
    state = _net().state_dict()
    state["3.weight"] = torch.zeros(2, 4, dtype=torch.uint8)
    report = match(state, _net())
    assert [m.found_dtype for m in report.mismatched] == ["torch.uint8"]
    assert "torch.uint8 in the file, torch.float32" in str(report)


def test_half_precision_is_widened():
    source, target = _net(), _net()
    report = match({k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}, target)
    require(report, 1.0)
    assert target[0].weight.dtype == torch.float32
    torch.testing.assert_close(target[0].weight, source[0].weight, atol=1e-3, rtol=1e-3)


def test_two_names_for_one_tensor_are_refused():
    state = {"a.weight": torch.zeros(1), "b.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"a\.weight and b\.weight"):
        match(state, _net(), lambda _: "0.weight")


def test_require_says_what_to_try_and_never_rounds_up():
    source = nn.Linear(1000, 100).state_dict()
    target = nn.ModuleDict({"weight": nn.Identity()})
    target.register_parameter("one", nn.Parameter(torch.zeros(1)))
    target.add_module("big", nn.Linear(1000, 100))
    report = match({f"big.{k}": v for k, v in source.items()}, target)
    with pytest.raises(CheckpointError, match=r"Only 99\.9 %.*missing one.*cut short"):
        require(report, 1.0)
    require(report, 0.99)


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, "another width"),
        ({"w": torch.zeros(2, 3), "b": torch.zeros(2)}, "prefix"),
        ({"weight": torch.zeros(2, 3)}, "cut short"),
    ],
)
def test_the_advice_follows_what_is_wrong(state, advice):
    with pytest.raises(CheckpointError, match=advice):
        require(match(state, nn.Linear(3, 2)), 1.0)
