"""Frozen is frozen: after training steps, after train(), in copies; and undone it is as if nothing had been."""

import copy
import itertools

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from regraft.backbones.backbone import Stage
from regraft.backbones.stages import stages
from regraft.errors import OptionError
from regraft.models.freezing import (
    depth_of,
    freezable,
    freeze,
    freeze_statistics,
    frozen_tensors,
    last_stage,
    thaw,
    thaw_order,
)

SIDE = 64


def small():
    """A residual network of a few thousand numbers with BatchNorm."""
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=0)


def steps(module, count=2):
    """Train a little on noise; everything that may change does."""
    module.train()
    learning = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=0.01, weight_decay=0.1)
    for seed in range(count):
        images = torch.randn((4, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed)) + 1
        optimiser.zero_grad()
        module(images).square().mean().backward()
        optimiser.step()


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def test_frozen_parts_do_not_change_by_a_bit_and_the_others_do():
    module = small()
    freeze(module, ["conv1", "bn1", "layer1"])
    before, promised = state(module), set(frozen_tensors(module))
    steps(module)
    moved = changed(before, module)
    assert promised == {name for name in before if name.startswith(("conv1.", "bn1.", "layer1."))}
    assert moved == set(before) - promised


def test_frozen_parts_stay_in_eval_mode():
    module = small()
    freeze(module, ["layer1"])
    for mode in (True, False, True):
        module.train(mode)
        assert not any(part.training for part in module.layer1.modules())
        assert all(part.training == mode for part in module.layer2.modules())
    assert module.train() is module
    assert module.layer1.train() is module.layer1
    assert not module.layer1.training


def test_everything_can_be_frozen_and_a_part_of_it_thawed():
    module = small()
    freeze(module, [""])
    before = state(module)
    assert set(frozen_tensors(module)) == set(before)
    thaw(module, ["layer4"])
    steps(module)
    assert changed(before, module) == {name for name in before if name.startswith("layer4.")}


def test_thawing_undoes_freezing():
    module, untouched = small(), small()
    freeze(module, ["conv1", "layer1"])
    freeze(module, ["layer1", "layer2"])
    thaw(module, ["conv1", "layer1", "layer2"])
    assert not frozen_tensors(module)
    for part, other in zip(module.train().modules(), untouched.train().modules(), strict=True):
        assert part.__dict__.keys() == other.__dict__.keys()
    steps(module)
    steps(untouched)
    assert all(torch.equal(a, b) for a, b in zip(state(module).values(), state(untouched).values(), strict=True))


def test_what_did_not_learn_before_does_not_learn_after():
    module = small()
    module.layer1.requires_grad_(False)
    freeze(module, ["layer1", "layer2"])
    thaw(module, ["layer1", "layer2"])
    assert not any(p.requires_grad for p in module.layer1.parameters())
    assert all(p.requires_grad for p in module.layer2.parameters())


def test_thawing_what_is_not_frozen_changes_nothing():
    module = small()
    thaw(module, ["", "layer1"])
    assert not frozen_tensors(module)
    assert "train" not in module.layer1.__dict__


def test_a_copy_is_frozen_by_itself():
    module = small()
    freeze(module, ["layer1"])
    freeze_statistics(module)
    other = copy.deepcopy(module)
    thaw(module, ["layer1"])
    module.train()
    other.train()
    assert set(frozen_tensors(other)) > set(frozen_tensors(module))
    assert not any(part.training for part in other.layer1.modules())
    assert other.layer1.train.__self__ is other.layer1
    before = state(other)
    steps(other)
    assert not any(name.startswith("layer1.") for name in changed(before, other))


def test_state_dicts_have_the_same_names():
    module = small()
    names = list(module.state_dict())
    freeze(module, ["layer1"])
    freeze_statistics(module)
    assert list(module.state_dict()) == names


def test_statistics_stay_while_scales_learn():
    module = small()
    freeze_statistics(module)
    before = state(module)
    steps(module)
    moved = changed(before, module)
    statistics = {name for name, _ in module.named_buffers()}
    assert statistics
    assert moved == set(before) - statistics
    assert set(frozen_tensors(module)) == statistics


def test_statistics_outlive_thawing_and_leave_out_what_is_new():
    module = small()
    freeze_statistics(module, besides=["layer4"])
    freeze(module, ["layer1"])
    thaw(module, ["layer1"])
    module.train()
    norms = {name: part.training for name, part in module.named_modules() if isinstance(part, nn.BatchNorm2d)}
    assert norms
    assert all(training == name.startswith("layer4.") for name, training in norms.items())
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize(
    ("build", "names", "direct"),
    [
        (lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0), ["patch_embed"], {"pos_embed", "cls_token"}),
        (
            lambda: models.VisionTransformer(32, 16, 2, 1, 8, 16),
            ["conv_proj", "encoder.layers.encoder_layer_0"],
            {"class_token", "encoder.pos_embedding"},
        ),
    ],
)
def test_parameters_that_no_part_owns_are_frozen_with_any_part(build, names, direct):
    with torch.device("meta"):
        module = build()
    freeze(module, names)
    frozen = set(frozen_tensors(module))
    assert frozen == direct | {n for n in module.state_dict() if n.startswith(tuple(f"{name}." for name in names))}
    thaw(module, names[:-1])
    assert set(frozen_tensors(module)) >= direct
    thaw(module, names)
    assert not frozen_tensors(module)


def test_dropout_in_a_frozen_part_drops_nothing():
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 8))
    freeze(module, ["0"])
    module.train()
    rows = torch.ones(4, 8)
    assert torch.equal(module[0](rows), rows)


def listed(name, zoo=timm):
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=0) if zoo is timm else models.get_model(name)
    return stages(module.eval(), (224, 224))[0]


@pytest.mark.parametrize(
    ("name", "zoo", "last"),
    [
        ("tf_efficientnet_lite0", timm, "blocks.6"),
        ("resnet18", timm, "layer4"),
        ("resnet18", models, "layer4"),
        ("convnext_tiny", timm, "stages.3"),
        ("densenet121", timm, "features.denseblock4"),
        ("vit_tiny_patch16_224", timm, "blocks.8"),
        ("mobilenetv3_small_050", timm, "blocks.5"),  # more than a quarter lies after the pooling, in conv_head
    ],
)
def test_the_last_stage_is_a_quarter_of_the_network_and_begins_before_the_pooling(name, zoo, last):
    assert last_stage(listed(name, zoo)) == last


STAGES = tuple(
    Stage(name, kind, (8, 4, 4), parameters)
    for name, kind, parameters in [
        ("stem", "Conv2d", 10),
        ("bn1", "BatchNormAct2d", 2),
        ("pool", "MaxPool2d", 0),
        ("blocks.0", "Block", 100),
        ("blocks.1", "Conv2dNormActivation", 100),
        ("blocks.10", "Block", 100),
        ("norm", "LayerNorm", 4),
        ("head_drop", "Dropout", 0),
    ]
)
NAMES = [stage.name for stage in STAGES]


@pytest.mark.parametrize(("asked", "first"), [("blocks", 3), ("blocks.1", 4), ("blocks.10", 5), ("stem", 0)])
def test_stages_are_divided_by_name_or_beginning(asked, first):
    assert freezable(STAGES, asked) == (tuple(NAMES[:first]), tuple(NAMES[first:]))


@pytest.mark.parametrize("asked", ["blocks.2", "block", "blocks.1.conv", "", "b"])
def test_an_unknown_stage_is_told_with_all_there_are(asked):
    with pytest.raises(OptionError, match=f"no stage '{asked}'") as caught:
        freezable(STAGES, asked)
    assert all(name in str(caught.value) for name in NAMES)
    assert "\n" not in str(caught.value)


def test_close_matches_come_first():
    with pytest.raises(OptionError, match=r"there are norm, "):
        freezable(STAGES, "norn")


def test_depth_counts_parts_from_the_end():
    depths = {name: depth_of(f"{name}.weight", STAGES) for name in NAMES if name not in {"pool", "head_drop"}}
    assert depths == {"norm": 0, "blocks.10": 0, "blocks.1": 1, "blocks.0": 2, "bn1": 3, "stem": 3}
    assert depth_of("pos_embed", STAGES) == 3
    assert depth_of("pool.0.conv1.weight", STAGES) == 3  # put there later
    assert depth_of("head_drop.0.conv1.weight", STAGES) == 0


def test_thawing_goes_from_the_end_to_everything():
    assert thaw_order(STAGES, 4) == ("blocks.10", "blocks.1", "blocks.0", "stem")
    assert thaw_order(STAGES, 2) == ("blocks.1", "stem")
    assert thaw_order(STAGES, 1) == ("stem",)
    assert thaw_order(STAGES, 99) == thaw_order(STAGES, 4)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "densenet121"])
def test_each_phase_of_thawing_adds_parts(name):
    found = listed(name)
    order = thaw_order(found)
    trained = [freezable(found, start)[1] for start in order]
    assert len(order) == 4
    assert all(set(one) < set(two) for one, two in itertools.pairwise(trained))
    assert freezable(found, order[-1])[0] == ()
