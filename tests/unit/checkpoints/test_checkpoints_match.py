"""Matching: counts made independently, all or nothing, and nothing loaded silently."""

import random

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from regraft.checkpoints.init_from import init_from
from regraft.checkpoints.match import match, plan_match, require
from regraft.checkpoints.match_report import percent, stage_of, table
from regraft.errors import CheckpointError, OptionError, PartialMatch

pytestmark = pytest.mark.usefixtures("one_thread")


def _net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def _copy(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _parameters(module, *, under=""):
    """An independent count."""
    return sum(p.numel() for name, p in module.named_parameters() if name.startswith(under))


def test_a_complete_match_copies_every_number():
    source, target = _net(), _net()
    for buffer in source.buffers():
        buffer.add_(3)
    report = match(source.state_dict(), target)
    assert report.share == 1.0
    assert report.complete
    assert (report.missing, report.unexpected, report.mismatched, report.adapted) == ((), (), (), ())
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)
    assert report.size == (4 * 3 * 9 + 4) + 2 * 4 + (4 * 2 + 2)
    require(report, 1.0)


def test_what_does_not_fit_is_counted_exactly_and_left_alone():
    target = _net()
    before = target[3].weight.clone()
    state = _copy(_net())
    state["3.weight"] = torch.zeros(5, 4)
    state["extra.weight"] = state.pop("0.bias")
    report = match(state, target, allow_partial=0)
    assert report.missing == ("0.bias",)
    assert report.unexpected == ("extra.weight",)
    (mismatch,) = report.mismatched
    assert (mismatch.name, mismatch.found, mismatch.expected) == ("3.weight", (5, 4), (2, 4))
    assert report.size - report.loaded_size == 4 + 8
    assert torch.equal(target[3].weight, before)
    for part in ("0.bias", "extra.weight", "(5, 4)", "(2, 4)"):
        assert part in str(report)


def test_too_little_changes_nothing_at_all():
    target = models.resnet18(num_classes=3)
    before = _copy(target)
    state = {name: tensor for name, tensor in _copy(models.resnet18()).items() if not name.startswith("layer4")}
    with pytest.raises(PartialMatch, match=r"Only 24\.8 %.*at least 90 %.*missing layer4.*--allow-partial") as caught:
        match(state, target)
    assert caught.value.report.share == pytest.approx(1 - _parameters(target, under="layer4") / 11_176_512)
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_missing_batch_counter_is_no_miss():
    state = _copy(_net())
    del state["1.num_batches_tracked"]
    report = match(state, _net())
    assert report.missing == ()
    require(report, 1.0)


def test_missing_statistics_are_a_miss_although_they_are_no_parameters():
    state = _copy(_net())
    del state["1.running_var"]
    with pytest.raises(PartialMatch, match="running statistics"):
        match(state, _net())
    report = match(state, _net(), allow_partial=0.5)
    assert report.missing == ("1.running_var",)
    assert report.share == 1.0
    assert not report.complete
    with pytest.raises(CheckpointError, match=r"1\.running_var"):
        require(report, 1.0)


def test_integers_are_not_taken_for_weights():
    state = _copy(_net())
    state["3.weight"] = torch.zeros(2, 4, dtype=torch.uint8)
    report = match(state, _net(), allow_partial=0)
    assert [row.name for row in report.mismatched] == ["3.weight"]
    assert "torch.uint8 in the file, torch.float32" in str(report)


def test_half_precision_is_widened():
    source, target = _net(), _net()
    report = match({k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}, target)
    require(report, 1.0)
    assert target[0].weight.dtype == torch.float32
    torch.testing.assert_close(target[0].weight, source[0].weight, atol=1e-3, rtol=1e-3)


def test_require_says_what_to_try_and_never_rounds_up():
    source = nn.Linear(1000, 100).state_dict()
    target = nn.ModuleDict({"weight": nn.Identity()})
    target.register_parameter("one", nn.Parameter(torch.zeros(1)))
    target.add_module("big", nn.Linear(1000, 100))
    report = match({f"big.{k}": v for k, v in source.items()}, target)
    with pytest.raises(CheckpointError, match=r"Only 99\.9 %.*missing one.*cut short"):
        require(report, 1.0)
    require(report, 0.99)
    assert percent(0.9999999) == "99.9 %"
    assert percent(1.0) == "100 %"


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, "another width"),
        ({"w": torch.zeros(2, 9), "b": torch.zeros(8)}, "inspect FILE"),
        ({"weight": torch.zeros(2, 3)}, "cut short"),
    ],
)
def test_the_advice_follows_what_is_wrong(state, advice):
    with pytest.raises(CheckpointError, match=advice):
        match(state, nn.Linear(3, 2), allow_partial=1)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "backbone.", "encoder.", "module.model.", "x9.trunk_of_mine."]
)
def test_what_wrappers_put_before_names_is_removed(prefix):
    source, target = models.resnet18(), models.resnet18()
    report = match({f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}, target, allow_partial=1)
    assert repr(prefix) in report.how
    assert torch.equal(target.layer3[1].conv2.weight, source.layer3[1].conv2.weight)


def test_a_head_beside_a_wrapped_trunk_and_a_part_that_was_saved_alone():
    source = models.mobilenet_v2()
    state = {f"backbone.{name}": tensor for name, tensor in source.features.state_dict().items()}
    target = models.mobilenet_v2(num_classes=5)
    report = match({**state, "my_head.weight": torch.zeros(5, 1280)}, target, allow_partial=1)
    assert torch.equal(target.features[18][0].weight, source.features[18][0].weight)
    assert report.unexpected == ("my_head.weight",)
    alone = models.mobilenet_v2()
    report = match(source.features.state_dict(), alone, allow_partial=1)
    assert "'features.' put before" in report.how
    assert torch.equal(alone.features[0][0].weight, source.features[0][0].weight)


def test_another_number_of_classes_leaves_the_head_as_it_was():
    source, target = models.resnet18(num_classes=1000), models.resnet18(num_classes=3)
    head = target.fc.weight.clone()
    report = match(source.state_dict(), target, allow_partial=1)
    assert report.share == 1.0
    assert [row.name for row in report.rows if row.head] == ["fc.weight", "fc.bias"]
    assert torch.equal(target.fc.weight, head)
    assert any("not loaded: it stays as it was initialised" in line for line in table(report))
    same = models.resnet18(num_classes=1000)
    match(source.state_dict(), same, allow_partial=1)
    assert torch.equal(same.fc.weight, source.fc.weight)


# ------------------------------------------------------------------ parts missing: numbers counted independently


def test_a_stage_removed():
    network = models.resnet50()
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("layer4.")}
    report = plan_match(state, models.resnet50()).report
    whole = _parameters(network) - _parameters(network, under="fc")
    lost = _parameters(network, under="layer4")
    assert (report.size, report.loaded_size) == (whole, whole - lost)
    shares = {stage.name: (stage.loaded_size, stage.size) for stage in report.stages}
    assert shares["layer4"] == (0, lost)
    for stage in ("conv1", "bn1", "layer1", "layer2", "layer3"):
        size = _parameters(network, under=f"{stage}.")
        assert shares[stage] == (size, size)
    open_names = [n for n in network.state_dict() if n.startswith("layer4.") and not n.endswith("num_batches_tracked")]
    assert list(report.missing) == open_names
    assert any("layer4" in line and "0 %" in line for line in table(report))


def test_two_stages_swapped_in_width():
    network = models.resnet18()
    state = _copy(network)
    wide = {n.replace("layer3", "layer2"): t for n, t in state.items() if n.startswith("layer3")}
    narrow = {n.replace("layer2", "layer3"): t for n, t in state.items() if n.startswith("layer2")}
    report = plan_match({**state, **wide, **narrow}, models.resnet18()).report
    swapped = [p.numel() for name, p in network.named_parameters() if name.startswith(("layer2.", "layer3."))]
    assert report.size - report.loaded_size == sum(swapped)
    floats = [n for n, t in state.items() if n.startswith(("layer2.", "layer3.")) and t.is_floating_point()]
    assert sorted(row.name for row in report.mismatched) == sorted(floats)
    for row in report.mismatched:
        assert row.expected == tuple(state[row.name].shape)
        assert row.found == tuple({**wide, **narrow}[row.name].shape)


def test_ten_random_tensors_of_other_shapes():
    network = models.densenet121()
    state = _copy(network)
    rng = random.Random(3)
    body = [n for n, t in state.items() if t.is_floating_point() and not n.startswith("classifier")]
    changed = rng.sample(body, 10)
    for name in changed:
        state[name] = torch.zeros([side + rng.randint(1, 5) for side in state[name].shape])
    report = plan_match(state, models.densenet121()).report
    parameters = dict(network.named_parameters())
    lost = sum(parameters[name].numel() for name in changed if name in parameters)
    # Another number of input channels in the first convolution would be adapted; here its outputs differ too.
    assert {row.name for row in report.mismatched} == set(changed)
    assert report.size - report.loaded_size == lost
    assert report.size == _parameters(network) - _parameters(network, under="classifier")
    json = report.to_json()
    assert json["parameters_loaded"] == report.size - lost
    assert set(json["mismatched"]) == set(changed)
    assert sum(done for done, _ in json["stages"].values()) == report.loaded_size


# ------------------------------------------------------------------------------------- names that say nothing


def _scrambled(state, seed=0):
    rng = random.Random(seed)
    return {"".join(rng.choices("abcdefghijk", k=14)): tensor for tensor in state.values()}


def test_scrambled_names_load_by_structure_and_say_so():
    source, target = models.resnet18(num_classes=9), models.resnet18(num_classes=4)
    report = match(_scrambled(source.state_dict()), target, allow_partial=1)
    assert "structure" in report.how
    assert any("order and shapes alone" in note for note in report.notes)
    for name, parameter in source.named_parameters():
        if not name.startswith("fc"):
            assert torch.equal(parameter, target.get_parameter(name))


def test_where_two_alignments_are_equally_good_neither_is_loaded_without_the_flag():
    source, target = _scrambled(models.resnet101().state_dict()), models.resnet50()
    before = _copy(target)
    with pytest.raises(PartialMatch, match="several ways"):
        match(source, target)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    report = match(source, target, allow_ambiguous=True)
    assert report.share == 1.0


def test_torchvision_tensors_are_not_put_into_a_network_that_pads_otherwise():
    state = models.efficientnet_b0().state_dict()
    with pytest.raises(PartialMatch, match="pads its images as TensorFlow"):
        match(state, timm.create_model("tf_efficientnet_b0"))
    assert match(state, timm.create_model("efficientnet_b0"), allow_partial=1).complete


# --------------------------------------------------------------------------------------------------- the rest


class _Own(nn.Module):
    def __init__(self, weights=None):
        super().__init__()
        self.trunk = models.resnet18(num_classes=2)
        self.report = init_from(self.trunk, weights) if weights is not None else None


def test_a_constructor_can_start_from_a_checkpoint(tmp_path):
    source = models.resnet18()
    torch.save({"model": source.state_dict(), "epoch": 1}, tmp_path / "w.pth")
    for weights in (tmp_path / "w.pth", source.state_dict()):
        own = _Own(weights)
        assert own.report.share == 1.0
        assert torch.equal(own.trunk.conv1.weight, source.conv1.weight)
    with pytest.raises(PartialMatch):
        _Own({"conv1.weight": source.conv1.weight})


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("layer1.0.conv1.weight", "layer1"),
        ("conv1.weight", "conv1"),
        ("blocks.3.0.bn1.bias", "blocks.3"),
        ("features.denseblock1.denselayer2.norm1.weight", "features.denseblock1"),
        ("encoder.layers.encoder_layer_0.ln_1.weight", "encoder.layers.encoder_layer_0"),
        ("cls_token", "cls_token"),
    ],
)
def test_stages_are_told_by_names(name, stage):
    assert stage_of(name) == stage


def test_a_plan_on_meta_is_the_same_as_on_real_tensors():
    state = {f"module.{name}": tensor for name, tensor in models.resnet18(num_classes=7).state_dict().items()}
    with torch.device("meta"):
        absent = timm.create_model("resnet18", num_classes=0)
    real = timm.create_model("resnet18", num_classes=0)
    assert plan_match(state, absent, head=()).report == match(state, real, head=())


# ------------------------------------------------------------------------------- modules and tensors of all kinds


def test_a_tensor_that_cannot_be_copied_changes_nothing():
    source = _copy(_net())
    for name, broken in {
        "3.bias": torch.zeros(2, device="meta"),
        "3.weight": torch.zeros(2, 4).to_sparse(),
    }.items():
        target = _net()
        before = _copy(target)
        with pytest.raises(CheckpointError, match=f"{name} cannot be copied.*Nothing was changed"):
            match({**source, name: broken}, target)
        assert all(torch.equal(tensor, before[key]) for key, tensor in target.state_dict().items())
    expanded = _net()
    expanded[3].bias = nn.Parameter(torch.zeros(1).expand(2))
    with pytest.raises(CheckpointError, match="expanded"):
        match(source, expanded)


def test_a_network_without_numbers_is_not_said_to_be_filled():
    state = _copy(_net())
    with pytest.raises(CheckpointError, match="no tensors"):
        match(state, nn.Identity(), allow_partial=0)
    with pytest.raises(CheckpointError, match="lazy"):
        match(state, nn.Sequential(nn.LazyLinear(3)))
    with torch.device("meta"):
        absent = _net()
    with pytest.raises(CheckpointError, match="meta"):
        match(state, absent)
    only_buffers = nn.BatchNorm1d(3, affine=False)
    with pytest.raises(PartialMatch, match="Only 0 %"):
        match({"other": torch.zeros(3)}, only_buffers)


def test_complex_numbers_do_not_lose_their_imaginary_part_silently():
    report = match({"weight": torch.zeros(2, 3, dtype=torch.complex64)}, nn.Linear(3, 2), allow_partial=0)
    assert [row.name for row in report.mismatched] == ["weight"]


def test_numbers_in_names_that_are_out_of_order_are_believed():
    """Equal layers, file order reversed: by order and shape alone every one of them would be loaded wrongly."""
    source = nn.Sequential(*(nn.Linear(8, 8) for _ in range(12)))
    for name in ("layer_{}_{}", "fc{}{}", "{1}{0}"):
        state = {
            name.format(n, kind): getattr(source[n], kind) for n in reversed(range(12)) for kind in ("weight", "bias")
        }
        target = nn.Sequential(*(nn.Linear(8, 8) for _ in range(12)))
        with pytest.raises(PartialMatch, match="Only 0 %"):
            match(state, target)
        in_order = dict(reversed([*state.items()]))
        pairs = {f"{n}.{kind}": in_order[name.format(n, kind)] for n in range(12) for kind in ("weight", "bias")}
        match({name.format(*key.split(".")): tensor for key, tensor in pairs.items()}, target)
        assert torch.equal(target[11].weight, source[11].weight)


def test_half_precision_does_not_overflow_silently():
    state = {"weight": torch.full((2, 3), 1e6), "bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="float16"):
        match(state, nn.Linear(3, 2).half())


@pytest.mark.parametrize(
    ("arguments", "options", "word"),
    [
        ((None, nn.Linear(3, 2)), {}, "state dict"),
        (({"state_dict": {}}, nn.Linear(3, 2)), {}, "read_checkpoint"),
        (({}, None), {}, "network"),
        (({}, nn.Linear(3, 2)), {"allow_partial": 90}, "share"),
        (({}, nn.Linear(3, 2)), {"allow_partial": -1}, "share"),
        (({}, nn.Linear(3, 2)), {"head": "fc"}, "tuple"),
    ],
)
def test_arguments_that_cannot_be_meant_are_told(arguments, options, word):
    with pytest.raises(OptionError, match=word):
        match(*arguments, **options)
