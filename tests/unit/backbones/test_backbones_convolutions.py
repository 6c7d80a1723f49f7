"""Convolutions before the pooling: at first nothing changes, and the name rebuilds them."""

import pytest
import timm
import torch
from torch import nn

from regraft.backbones.catalogue import build_module
from regraft.backbones.convolutions import add_convolutions, added, split_convolutions, with_convolutions
from regraft.backbones.stages import stages
from regraft.errors import BackboneError, OptionError

NETWORKS = {  # architecture -> the module that pools
    "timm/test_resnet": "global_pool.pool",
    "timm/resnet18": "global_pool.pool",
    "timm/tf_efficientnet_lite0": "global_pool.pool",
    "timm/test_efficientnet": "global_pool.pool",
    "timm/convnext_atto": "head.global_pool.pool",
    "timm/mobilenetv3_small_050": "global_pool.pool",
    "timm/densenet121": "global_pool.pool",
    "timm/regnetx_002": "head.global_pool.pool",
    "torchvision/resnet18": "avgpool",
    "torchvision/mobilenet_v3_small": "avgpool",
    "torchvision/swin_t": "avgpool",
    "torchvision/squeezenet1_1": "classifier.3",
}


def features(module, side=64):
    with torch.no_grad():
        return module.eval()(torch.randn((2, 3, side, side), generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("architecture", "pooling"), NETWORKS.items())
def test_at_first_nothing_changes(architecture, pooling):
    module = build_module(architecture)
    expected = features(module)
    assert add_convolutions(module, 32) is module
    assert added(module) == f"{pooling}.0"
    torch.testing.assert_close(features(module), expected, rtol=1e-6, atol=1e-6)
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("architecture", ["timm/test_resnet", "timm/convnext_atto", "torchvision/mobilenet_v3_small"])
def test_a_trained_one_is_rebuilt_by_its_name(architecture, stir):
    module = stir(add_convolutions(build_module(architecture), 48))
    again = build_module(with_convolutions(architecture, 48))
    assert not torch.equal(features(again), features(module))
    again.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(features(again), features(module))


def test_the_block_learns_and_is_part_of_a_stage():
    module = add_convolutions(build_module("timm/test_resnet"), 16).train()
    module(torch.randn(4, 3, 64, 64)).square().sum().backward()
    block = module.get_submodule(added(module))
    assert block.bn3.weight.grad.abs().sum() > 0
    parts, _ = stages(module.eval(), (64, 64))
    counts = {part.name: part.parameters for part in parts}
    channels, width = 96, 16
    expected = 2 * channels * width + 9 * width * width + 2 * (2 * width + channels)
    assert block.conv1.in_channels == channels
    assert counts["global_pool"] == expected


def test_the_first_weights_depend_on_the_seed_alone():
    one, same, other = (add_convolutions(build_module("timm/test_resnet"), 16, seed=seed) for seed in (1, 1, 2))
    names = (one.get_submodule(added(one)), same.get_submodule(added(same)), other.get_submodule(added(other)))
    assert torch.equal(names[0].conv2.weight, names[1].conv2.weight)
    assert not torch.equal(names[0].conv2.weight, names[2].conv2.weight)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_transformer_has_no_place_for_it(name):
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=0)
    with pytest.raises(OptionError, match="does not end with a pooling"):
        add_convolutions(module)


def test_pooling_inside_the_network_is_not_its_end():
    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pool, self.last = nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.ReLU()

        def forward(self, images):
            maps = self.conv(images)
            return self.last(maps * self.pool(maps)).mean((2, 3))

    with pytest.raises(OptionError, match="does not end with a pooling"):
        add_convolutions(Squeezed())


def test_a_network_without_pooling_is_refused_by_name():
    with pytest.raises(OptionError, match="use a linear or mlp head"):
        build_module("torchvision/vgg11?conv=8")


@pytest.mark.parametrize(
    ("architecture", "bare", "width"),
    [
        ("timm/resnet18", "timm/resnet18", None),
        ("timm/resnet18?conv=256", "timm/resnet18", 256),
        ("timm/x?size=160", "timm/x?size=160", None),
        ("timm/x?size=160&conv=64", "timm/x?size=160", 64),
        ("timm/x?conv=64&size=160", "timm/x?size=160", 64),
    ],
)
def test_names(architecture, bare, width):
    assert split_convolutions(architecture) == (bare, width)
    assert split_convolutions(with_convolutions(architecture, 7)) == (bare, 7)


@pytest.mark.parametrize("query", ["conv=0", "conv=x", "conv=", "conv=-1", "conv=1&conv=2"])
def test_a_width_that_is_none(query):
    with pytest.raises(BackboneError, match="whole number"):
        build_module(f"timm/test_resnet?{query}")


def test_size_and_convolutions_go_together():
    module = build_module("timm/test_vit?size=96")
    assert module.patch_embed.img_size == (96, 96)
    with pytest.raises(OptionError, match="does not end with a pooling"):
        build_module("timm/test_vit?size=96&conv=8")
