"""A translated network computes what the source computes: torchvision and timm, both ways."""

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from unit.checkpoints.translated import carried, difference, stirred, timm_net, torchvision_net

TABLES = {"relative_position_index", "relative_coords_table"}


pytestmark = pytest.mark.usefixtures("one_thread")


def _both_ways(one, two, side, *, exact):
    """Carry over and back; the second time from other weights, so that nothing is left from the first."""
    for seed, (source, target) in enumerate([(one, two), (two, one)]):
        stirred(target.float(), side, seed=seed + 10)
        stirred(source.float(), side, seed=seed)
        if exact:  # without rounding what is left is the translation's own error
            source.double()
            target.double()
        _, left = carried(source, target)
        assert {name.rpartition(".")[2] for name in left} <= TABLES
        assert difference(source, target, side) < (1e-9 if exact else 1e-4)


ZOO = [
    ("mobilenet_v2", "mobilenetv2_100", 64),
    ("mobilenet_v3_small", "mobilenetv3_small_100", 64),
    ("efficientnet_b0", "efficientnet_b0", 64),
    ("mnasnet0_5", "mnasnet_050", 64),
    ("regnet_y_400mf", "regnety_004", 64),
    ("regnet_x_400mf", "regnetx_004_tv", 64),
]


@pytest.mark.parametrize(("ours", "theirs", "side"), ZOO)
def test_convolutional_networks(ours, theirs, side):
    _both_ways(torchvision_net(ours), timm_net(theirs), side, exact=False)


def test_the_difference_of_two_eps_is_moved_exactly():
    _both_ways(torchvision_net("mobilenet_v3_large"), timm_net("mobilenetv3_large_100"), 64, exact=True)


def _small_pairs():
    """Networks too large for every run, made small."""
    vit = {"depth": 2, "embed_dim": 24, "num_heads": 3, "patch_size": 8, "img_size": 32}
    yield (
        "ViT",
        models.VisionTransformer(32, 8, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=96),
        timm_net("vit_tiny_patch16_224", **vit),
        32,
    )
    swin = {"depths": (2, 2), "embed_dim": 24, "num_heads": (2, 3), "window_size": 4, "img_size": 64}
    block = models.swin_transformer
    yield (
        "Swin",
        models.SwinTransformer([4, 4], 24, [2, 2], [2, 3], [4, 4]),
        timm_net("swin_tiny_patch4_window7_224", **swin),
        64,
    )
    second = {"block": block.SwinTransformerBlockV2, "downsample_layer": block.PatchMergingV2}
    yield (
        "Swin 2",
        models.SwinTransformer([4, 4], 24, [2, 2], [2, 3], [4, 4], **second),
        timm_net("swinv2_tiny_window8_256", **swin),
        64,
    )
    stages = [(16, 32, 2), (32, 48, 1), (48, 64, 2), (64, None, 1)]
    yield (
        "ConvNeXt",
        models.ConvNeXt([models.convnext.CNBlockConfig(*stage) for stage in stages]),
        timm_net("convnext_tiny", depths=(2, 1, 2, 1), dims=(16, 32, 48, 64)),
        64,
    )


@pytest.mark.parametrize(("one", "two", "side"), [pytest.param(*pair[1:], id=pair[0]) for pair in _small_pairs()])
def test_transformers_and_convnext(one, two, side):
    _both_ways(one.eval(), two, side, exact=True)


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d])
def test_vgg(norm):
    """Narrow ones; timm's two large layers are convolutions, torchvision's are linear.

    The two agree where the features end 7 x 7 or smaller: larger ones torchvision pools to that, timm slides over.
    """
    plan = [8, "M", 16, "M"]
    with torch.device("meta"):  # its classifier has 120 million numbers whatever the features are
        one = models.VGG(nn.Sequential(), num_classes=10)
    one.features = models.vgg.make_layers(plan, batch_norm=norm is not None)
    one.classifier[0] = nn.Linear(16 * 7 * 7, 32)
    one.classifier[3] = nn.Linear(32, 4096)
    one.classifier[6] = nn.Linear(4096, 10)
    two = timm.models.VGG(plan, num_classes=10, mlp_ratio=32 / 4096, norm_layer=norm)
    _both_ways(one.eval(), two.eval(), 28, exact=True)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("mobilenet_v3_small", "mobilenetv3_small_100"), ("efficientnet_b0", "efficientnet_b0")]
)
def test_features_without_classifier_are_the_same(ours, theirs):
    source = stirred(torchvision_net(ours), 64)
    target = timm_net(theirs, num_classes=0)
    translation, left = carried(source, target)
    assert translation.target == "timm"
    assert left == set()
    source.classifier[-1] = nn.Identity()
    assert difference(source, target, 64) < 1e-4


# What follows is the whole of the two zoos: every pair that computes the same function.

_RESNETS = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]
_SAME_NAMES = [*_RESNETS, "densenet121", "densenet161", "densenet169", "densenet201"]
_LARGE = [
    *[
        (name, name, 64)
        for name in ("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")
    ],
    *[(f"efficientnet_b{level}", f"efficientnet_b{level}", 96) for level in range(1, 8)],
    *[(f"efficientnet_v2_{size}", f"efficientnetv2_{size}", 96) for size in "sml"],
    ("mobilenet_v3_large", "mobilenetv3_large_100", 96),
    ("mnasnet0_75", "mnasnet_075", 96),
    ("mnasnet1_0", "mnasnet_100", 96),
    ("regnet_x_800mf", "regnetx_008", 96),
    ("regnet_x_1_6gf", "regnetx_016", 96),
    ("regnet_x_3_2gf", "regnetx_032", 96),
    ("regnet_x_8gf", "regnetx_080", 96),
    ("regnet_x_16gf", "regnetx_160", 64),
    ("regnet_x_32gf", "regnetx_320", 64),
    ("regnet_y_800mf", "regnety_008_tv", 96),
    ("regnet_y_1_6gf", "regnety_016", 96),
    ("regnet_y_3_2gf", "regnety_032", 96),
    ("regnet_y_8gf", "regnety_080_tv", 96),
    ("regnet_y_16gf", "regnety_160", 64),
    ("regnet_y_32gf", "regnety_320", 64),
    ("vit_b_16", "vit_base_patch16_224", 224),
    ("vit_b_32", "vit_base_patch32_224", 224),
    ("vit_l_16", "vit_large_patch16_224", 224),
    ("vit_l_32", "vit_large_patch32_224", 224),
    *[(f"convnext_{size}", f"convnext_{size}", 96) for size in ("tiny", "small", "base", "large")],
    *[(f"swin_{size[0]}", f"swin_{size}_patch4_window7_224", 224) for size in ("tiny", "small", "base")],
    *[(f"swin_v2_{size[0]}", f"swinv2_{size}_window8_256", 256) for size in ("tiny", "small", "base")],
]


@pytest.mark.nightly
@pytest.mark.parametrize(("ours", "theirs", "side"), _LARGE)
def test_every_other_pair(ours, theirs, side):
    _both_ways(torchvision_net(ours), timm_net(theirs, num_classes=1000), side, exact=True)


@pytest.mark.nightly
@pytest.mark.parametrize("name", _SAME_NAMES)
def test_families_with_the_same_names_compute_the_same(name):
    source = stirred(torchvision_net(name), 64)
    target = timm_net(name)
    target.load_state_dict(source.state_dict())
    assert difference(source, target, 64) < 1e-4


@pytest.mark.nightly
def test_inception_is_the_same_beside_its_second_classifier():
    source = stirred(torchvision_net("inception_v3"), 160)
    target = timm_net("inception_v3")
    target.load_state_dict({k: v for k, v in source.state_dict().items() if not k.startswith("AuxLogits")})
    assert difference(source, target, 160) < 1e-4
