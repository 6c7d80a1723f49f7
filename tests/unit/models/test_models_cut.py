"""What follows a cut computes what the whole network computes, or it is said why not."""

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from regraft.backbones.stages import stages
from regraft.errors import BackboneError
from regraft.models.cut import activations, bypassed, why_not_cut
from regraft.models.depthwise import fast_depthwise
from regraft.models.freezing import freezable, freeze, freeze_statistics, last_stage, thaw_order

SIZE = (64, 64)


def torchvision_vit():
    return models.VisionTransformer(64, 16, 4, 2, 32, 64)


NETWORKS = {
    "resnet18": lambda: timm.create_model("resnet18", num_classes=0),
    "lite0": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=0),
    "vit_tiny": lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0),
    "convnext": lambda: timm.create_model("convnext_atto", num_classes=0),
    "swin_tiny": lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=64, num_classes=0),
    "densenet121": lambda: timm.create_model("densenet121", num_classes=0),
    "mobilenetv3": lambda: timm.create_model("mobilenetv3_small_050", num_classes=0),
    "torchvision_resnet18": models.resnet18,
    "torchvision_vit": torchvision_vit,
    "torchvision_mobilenet": models.mobilenet_v3_small,
}


class Divided:
    """A network with its beginning frozen, as a recipe prepares it."""

    def __init__(self, module, start=None):
        self.module = module.eval()
        self.stages, _ = stages(module, SIZE)
        self.frozen, self.learning = freezable(self.stages, start or last_stage(self.stages))
        self.shapes = {stage.name: stage.shape for stage in self.stages}
        self.cut = [name for name in self.frozen if self.shapes[name]][-1]
        freeze(module, self.frozen)

    def bypassed(self):
        return bypassed(self.module, self.frozen, self.cut, self.shapes, SIZE)

    def why_not(self):
        return why_not_cut(self.module, self.frozen, self.cut, self.shapes, SIZE)


@pytest.fixture(params=NETWORKS)
def divided(request, stirred):
    torch.manual_seed(0)
    return Divided(stirred(NETWORKS[request.param]()))


def images(count=3, seed=1):
    return torch.randn((count, 3, *SIZE), generator=torch.Generator().manual_seed(seed))


def gradients(module, inputs):
    module.zero_grad()
    module(inputs).square().sum().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_features_and_gradients_are_those_of_the_whole_network(divided):
    assert divided.why_not() is None
    stored = activations(divided.module, divided.cut, images())
    assert tuple(stored.shape[1:]) == divided.shapes[divided.cut]
    expected = divided.module(images()).detach()
    whole = gradients(divided.module, images())
    with divided.bypassed():
        assert torch.equal(divided.module(stored).detach(), expected)
        part = gradients(divided.module, stored)
    assert whole.keys() == part.keys()
    assert whole.keys() == {name for name, p in divided.module.named_parameters() if p.requires_grad}
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_training_after_the_cut_is_training_the_whole_network(divided):
    """With statistics held and dropout as random as it is: three steps give the same weights."""

    def train(module, inputs):
        freeze_statistics(module)
        module.train()
        torch.manual_seed(5)
        optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3)
        for _ in range(3):
            optimiser.zero_grad()
            module(inputs).square().mean().backward()
            optimiser.step()
        return module.state_dict()

    stored = activations(divided.module, divided.cut, images())
    whole = train(copy.deepcopy(divided.module), images())
    with divided.bypassed():
        part = train(divided.module, stored)
    for name in whole:
        torch.testing.assert_close(part[name], whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "lite0", "vit_tiny", "torchvision_vit"])
def test_every_phase_of_gradual_thawing_has_its_cut(name, stirred):
    torch.manual_seed(0)
    module = stirred(NETWORKS[name]())
    for start in thaw_order(stages(module.eval(), SIZE)[0])[:-1]:
        assert Divided(copy.deepcopy(module), start).why_not() is None


@pytest.mark.parametrize("name", NETWORKS)
def test_the_whole_backbone_can_be_cut_away(name, stirred):
    """Only the head learns: features are stored and come back."""
    module = stirred(NETWORKS[name]())
    parts, output = stages(module, SIZE)
    names, shapes = [part.name for part in parts], {part.name: part.shape for part in parts}
    cut = [name for name in names if shapes[name]][-1]
    freeze(module, names)
    assert why_not_cut(module, names, cut, shapes, SIZE) is None
    with bypassed(module, names, cut, shapes, SIZE):
        assert module(torch.randn(2, *shapes[cut])).shape == (2, *output)


@pytest.mark.parametrize("name", ["lite0", "convnext", "mobilenetv3", "resnet18"])
def test_channels_last_and_fast_depthwise_convolutions_change_nothing(name, stirred):
    divided = Divided(stirred(NETWORKS[name]()).to(memory_format=torch.channels_last))
    with fast_depthwise(divided.module):
        assert divided.why_not() is None
        stored = activations(divided.module, divided.cut, images())
        with divided.bypassed():
            found = divided.module(stored)
    assert torch.equal(found, divided.module(images()))


def test_frozen_stages_do_not_run():
    divided = Divided(NETWORKS["resnet18"]())
    stored = activations(divided.module, divided.cut, images())
    ran = []
    for name in ("conv1", "layer1.0.conv1", "layer3.0.conv1", "layer4.0.conv1"):
        divided.module.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    with divided.bypassed():
        divided.module(stored)
    assert ran == ["conv1", "layer4.0.conv1"]  # conv1 is a stage itself: its stand-in has run


def test_what_comes_after_the_stage_does_not_run_for_its_activations():
    module = NETWORKS["resnet18"]()
    ran = []
    module.layer4.register_forward_hook(lambda *_: ran.append("layer4"))
    activations(module, "layer3", images())
    assert not ran


def test_activations_are_those_of_eval_mode_without_gradients_and_the_mode_stays():
    module = NETWORKS["resnet18"]().train()
    module.layer2.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    stored = activations(module, "layer1", images())
    assert not stored.requires_grad
    assert module.training
    assert module.layer1[0].training
    assert not module.layer2[0].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    module.eval()
    expected = module.layer1(module.maxpool(module.act1(module.bn1(module.conv1(images())))))
    assert torch.equal(stored, expected)


def test_nothing_is_left_behind_even_after_an_error():
    divided = Divided(NETWORKS["vit_tiny"]())
    before = {name: dict(part.__dict__) for name, part in divided.module.named_modules()}
    names = list(divided.module.state_dict())
    expected = divided.module(images())
    with pytest.raises(KeyError), divided.bypassed():
        assert list(divided.module.state_dict()) == names
        raise KeyError
    for name, part in divided.module.named_modules():
        assert part.__dict__.keys() == before[name].keys()
    assert torch.equal(divided.module(images()), expected)


def test_a_copy_made_meanwhile_works_with_its_own_weights(stirred):
    divided = Divided(stirred(NETWORKS["resnet18"]()))
    stored = activations(divided.module, divided.cut, images())
    with divided.bypassed():
        expected = divided.module(stored).detach()
        other = copy.deepcopy(divided.module)
        nn.init.zeros_(divided.module.layer4[1].bn2.weight)
        assert torch.equal(other(stored), expected)
        assert not torch.equal(divided.module(stored), expected)


def test_an_earlier_change_of_a_stages_forward_comes_back():
    divided = Divided(NETWORKS["resnet18"]())

    def forward(maps):
        return maps

    divided.module.layer3.forward = forward
    with divided.bypassed():
        assert divided.module.layer3.forward is not forward
    assert divided.module.layer3.forward is forward


class Odd(nn.Module):
    """Three convolutions, joined in a way that a cut may not go with."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), Pair(how), nn.Conv2d(4, 4, 1)

    def forward(self, maps):
        first = self.a(maps)
        second = self.b(first)
        second = second[0] if isinstance(second, tuple) else second
        if self.how == "around":
            second = second + first.mean((2, 3), keepdim=True)
        if self.how == "images":
            second = second + maps.mean((1, 2, 3), keepdim=True)
        if self.how == "mended":  # the same features, but gradients only where the images were seen
            second = second if maps.abs().sum() else second.detach()
            return (self.c(second) if maps.abs().sum() else self.c(second).detach()).mean((2, 3))
        return self.c(second).mean((2, 3))


class Pair(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, maps):
        found = self.conv(maps)
        return (found, maps) if self.how == "tuple" else found


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("plain", None),
        ("around", "something before b is used again after it"),
        ("images", "something before b is used again after it"),
        ("tuple", "the stage b gives no tensor"),
        ("mended", "gradients would not reach c"),
    ],
)
def test_where_a_cut_cannot_be_is_told(how, reason):
    torch.manual_seed(0)
    divided = Divided(Odd(how), "c")
    assert divided.cut == "b"
    found = divided.why_not()
    assert found is None if reason is None else reason in found


def test_a_stage_that_is_never_called_gives_nothing_to_store():
    module = Odd("plain")
    module.unused = nn.Linear(2, 2)
    with pytest.raises(BackboneError, match="unused"):
        activations(module, "unused", images())


def test_the_check_leaves_random_numbers_and_modes_alone():
    divided = Divided(NETWORKS["lite0"]())
    divided.module.train()
    modes = [part.training for part in divided.module.modules()]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert divided.why_not() is None
    assert torch.equal(torch.rand(2), expected)
    assert [part.training for part in divided.module.modules()] == modes
    assert all(p.grad is None for p in divided.module.parameters())
