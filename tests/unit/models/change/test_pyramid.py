"""Backbones as feature pyramids, against what timm and torchvision give themselves."""

import copy
import weakref

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from regraft.backbones.backbone import Stage
from regraft.backbones.catalogue import build_module, preview
from regraft.errors import BackboneError
from regraft.models.change.levels import available_strides, levels_of
from regraft.models.change.pyramid import build_trunk


def images(height, width, bands=3):
    return torch.randn(2, bands, height, width, generator=torch.Generator().manual_seed(1))


def run(module, given):
    with torch.no_grad():
        return module(given)


@pytest.fixture
def resnet(stirred):
    torch.manual_seed(0)
    return stirred(build_module("timm/test_resnet"))


def test_maps_are_those_that_timm_gives(stirred):
    torch.manual_seed(0)
    network = stirred(build_module("timm/tf_efficientnet_lite0"))
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    theirs.load_state_dict(network.state_dict(), strict=False)
    trunk = build_trunk(network, finest=2)
    assert trunk.strides == (2, 4, 8, 16, 32)
    assert trunk.channels == tuple(theirs.feature_info.channels())
    for found, expected in zip(run(trunk, images(64, 96)), run(theirs, images(64, 96)), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("stages", [4, 5])
def test_a_kept_stride_is_that_of_timm(stirred, stages):
    torch.manual_seed(0)
    network = stirred(build_module("timm/tf_efficientnet_lite0"))
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=8).eval()
    theirs.load_state_dict(network.state_dict(), strict=False)
    trunk = build_trunk(network, stages, 8)
    assert trunk.strides == (8,)
    torch.testing.assert_close(run(trunk, images(64, 96))[0], run(theirs, images(64, 96))[stages - 1])


@pytest.mark.parametrize(("stages", "stride"), [(5, 8), (5, 16), (4, 8)])
def test_bottlenecks_are_dilated_as_by_torchvision(stirred, stages, stride):
    torch.manual_seed(0)
    network = stirred(models.resnet50(weights=None))
    theirs = models.resnet50(weights=None, replace_stride_with_dilation=[False, stride == 8, True]).eval()
    theirs.load_state_dict(network.state_dict())
    parts = [theirs.conv1, theirs.bn1, theirs.relu, theirs.maxpool, theirs.layer1, theirs.layer2, theirs.layer3]
    expected = run(nn.Sequential(*parts, *([theirs.layer4] if stages == 5 else [])), images(64, 96))
    found = run(build_trunk(network, stages, stride), images(64, 96))[0]
    assert found.shape[-2:] == (64 // stride, 96 // stride)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_basic_blocks_get_stride_one_and_nothing_else(name):
    torch.manual_seed(0)
    network = build_module(name)
    theirs = copy.deepcopy(network)
    for layer in (theirs.layer3, theirs.layer4):
        layer[0].conv1.stride = layer[0].downsample[0].stride = (1, 1)
    activation = theirs.relu if hasattr(theirs, "relu") else theirs.act1
    before = [theirs.conv1, theirs.bn1, activation, theirs.maxpool]
    expected = run(nn.Sequential(*before, theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), images(64, 96))
    trunk = build_trunk(network, 5, 8)
    assert {conv.dilation for conv in trunk.modules() if isinstance(conv, nn.Conv2d)} == {(1, 1)}
    assert torch.equal(run(trunk, images(64, 96))[0], expected)


def test_tokens_become_a_map_without_those_before_the_grid():
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2).eval()
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2, dynamic_img_size=True).eval()
    theirs.load_state_dict(network.state_dict())
    expected = run(theirs.forward_features, images(48, 80))[:, 1:].transpose(1, 2).reshape(2, 192, 3, 5)
    trunk = build_trunk(network)
    assert (trunk.strides, trunk.multiple) == ((16,), 16)
    torch.testing.assert_close(run(trunk, images(48, 80))[0], expected)


def test_channels_may_be_last_and_windows_of_any_image():
    options = {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 2, 2), "num_classes": 0}
    torch.manual_seed(0)
    network = timm.create_model("swin_tiny_patch4_window7_224", **options).eval()
    theirs = timm.create_model("swin_tiny_patch4_window7_224", strict_img_size=False, **options).eval()
    theirs.load_state_dict(network.state_dict())
    expected = run(lambda x: theirs.forward_intermediates(x, intermediates_only=True), images(64, 96))
    trunk = build_trunk(network, 4)
    for found, one in zip(run(trunk, images(64, 96)), expected[:3], strict=True):
        torch.testing.assert_close(found, one)


def test_what_comes_after_the_last_map_is_neither_kept_nor_run():
    trunk = build_trunk(models.resnet18(weights=None), 4)
    trunk.network.layer4.register_forward_hook(lambda *_: pytest.fail("it was run"))
    run(trunk, images(64, 64))
    kept = set(trunk.state_dict())
    assert not [name for name in kept if name.startswith(("network.layer4", "network.fc"))]
    assert kept == {f"network.{n}" for n in models.resnet18().state_dict() if not n.startswith(("layer4", "fc"))}


def test_a_finished_map_can_be_enlarged_instead():
    torch.manual_seed(0)
    network = models.resnet18(weights=None)
    theirs = copy.deepcopy(network)
    trunk = build_trunk(network, 4, 8, how="upsampling")
    coarse = run(build_trunk(theirs, 4), images(64, 96))[-1]
    expected = nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    assert trunk.strides == (8,)
    assert trunk.multiple == 16
    torch.testing.assert_close(run(trunk, images(64, 96))[0], expected)


def test_gradients_reach_every_parameter_in_training_and_under_autocast(resnet):
    trunk = build_trunk(resnet, finest=2).train().to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        maps = trunk(images(64, 64).contiguous(memory_format=torch.channels_last))
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in maps)
    sum(one.float().square().mean() for one in maps).backward()
    assert all(parameter.grad is not None for parameter in trunk.parameters())


def test_a_copy_works_by_itself_and_no_map_outlives_its_use(resnet):
    trunk = build_trunk(resnet)
    other = copy.deepcopy(trunk)
    expected = run(trunk, images(64, 64))
    with torch.no_grad():
        next(trunk.parameters()).zero_()
    assert all(torch.equal(a, b) for a, b in zip(run(other, images(64, 64)), expected, strict=True))
    kept = [weakref.ref(one) for one in other(images(64, 64))]
    assert not any(one() is not None for one in kept)
    assert not any(part._forward_hooks for part in other.modules())


def test_other_bands_see_the_same_in_equal_ones(resnet):
    theirs = copy.deepcopy(resnet)
    grey = images(64, 64, 1)
    expected = run(build_trunk(theirs), grey.expand(2, 3, 64, 64))
    for bands in (1, 6):
        trunk = build_trunk(copy.deepcopy(resnet), bands=bands)
        for found, one in zip(run(trunk, grey.expand(2, bands, 64, 64)), expected, strict=True):
            torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-5)


def test_a_card_says_which_strides_there_are(tmp_path):
    card = preview("efficientnet_lite0", tmp_path)
    assert available_strides(card) == {
        2: ("blocks.0", 16),
        4: ("blocks.1", 24),
        8: ("blocks.2", 40),
        16: ("blocks.4", 112),
        32: ("blocks.6", 320),  # not the classifier's 1280
    }


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([Stage("a", "Block", (197, 8), 9), Stage("b", "LayerNorm", (197, 8), 16)], (16, "b", 8, "tokens")),
        ([Stage("a", "Block", (261, 8), 9)], (14, "a", 8, "tokens")),  # class and four register tokens
        ([Stage("a", "Block", (7, 7, 8), 9)], (32, "a", 8, "last")),
        ([Stage("a", "Block", (8, 7, 7), 9), Stage("p", "AdaptiveAvgPool2d", (8, 7, 7), 0)], (32, "a", 8, "first")),
        (
            [Stage("c", "Conv2d", (64, 56, 56), 4160), Stage("d", "Conv2d", (192, 56, 56), 110784)],
            (4, "d", 192, "first"),
        ),
    ],
)
def test_levels_of_shapes(parts, expected):
    (level,) = levels_of(parts, (224, 224))
    assert (level.stride, level.name, level.channels, level.layout) == expected


class _Windows(nn.Module):
    """Stride 4, and only maps of a multiple of `cells` pixels."""

    def __init__(self, cells, side=None):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, 4)
        self.body = nn.Conv2d(4, 4, 1)
        self.cells, self.side = cells, side

    def forward(self, x):
        x = self.stem(x)
        if x.shape[-1] % self.cells or self.side not in {None, x.shape[-1]}:
            raise ValueError("height does not fit!")
        return self.body(x).mean((2, 3))


def test_the_multiple_is_found_by_trying():
    assert build_trunk(_Windows(1)).multiple == 4
    assert build_trunk(_Windows(2)).multiple == 8
    assert build_trunk(_Windows(7)).multiple == 28
    with pytest.raises(BackboneError, match=r"_Windows cannot serve as a pyramid: height does not fit\. Choose"):
        build_trunk(_Windows(1, side=56))


def test_what_a_network_cannot_do_is_said():
    with pytest.raises(BackboneError, match=r"no map at a stride from 4 to 8 \(stages=3\); its strides: 16"):
        build_trunk(build_module("timm/test_vit"), 3)
    for name in ("test_convnext", "test_vit"):
        with pytest.raises(BackboneError, match="keep=upsampling, or neck=pyramid"):
            build_trunk(build_module(f"timm/{name}"), 4, 8)
    with pytest.raises(BackboneError, match="no first convolution that could take 4 bands"):
        build_trunk(nn.Sequential(nn.Conv2d(3, 6, 4, 4, groups=3), nn.ReLU()), bands=4)
