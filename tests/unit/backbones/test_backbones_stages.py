"""What a network is made of, in forward order."""

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from regraft.backbones.stages import stages


def _names(module, side):
    with torch.device("meta"):
        built = module()
    return stages(built.eval(), (side, side))


def test_a_residual_network_shows_its_layers():
    parts, output = _names(lambda: timm.create_model("resnet34", num_classes=0), 224)
    shapes = {part.name: part.shape for part in parts}
    assert [n for n in shapes if n.startswith("layer")] == ["layer1", "layer2", "layer3", "layer4"]
    assert shapes["conv1"] == (64, 112, 112)
    assert [shapes[f"layer{i}"] for i in (1, 2, 3, 4)] == [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    assert output == (512,)
    counts = {part.name: part.parameters for part in parts}
    assert counts["conv1"] == 64 * 3 * 49
    assert counts["layer1"] == 3 * (2 * 64 * 64 * 9 + 4 * 64)


def test_a_transformer_shows_its_blocks():
    parts, output = _names(lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0), 224)
    names = [part.name for part in parts]
    assert names[0] == "patch_embed"
    assert [n for n in names if n.startswith("blocks.")] == [f"blocks.{i}" for i in range(12)]
    assert {part.shape for part in parts if part.name.startswith("blocks.")} == {(197, 192)}
    assert output == (192,)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("vit_b_32", ["conv_proj", "encoder.dropout", "encoder.layers.encoder_layer_0"]),
        ("swin_t", ["features.0", "features.1", "features.2"]),
        ("vgg11", ["features.0", "features.1", "features.2"]),
        ("convnext_tiny", ["features.0", "features.1", "features.2"]),
        ("shufflenet_v2_x0_5", ["conv1", "maxpool", "stage2"]),
        ("densenet121", ["features.conv0", "features.norm0", "features.relu0"]),
        ("maxvit_t", ["stem", "blocks.0", "blocks.1"]),
    ],
)
def test_containers_are_opened(model, expected):
    parts, _ = _names(lambda: models.get_model(model), 224)
    assert [part.name for part in parts][:3] == expected


def test_every_name_can_be_looked_up_and_nothing_is_counted_twice():
    module = timm.create_model("mobilenetv3_small_050", num_classes=0).eval()
    parts, _ = stages(module, (64, 96))
    for part in parts:
        found = module.get_submodule(part.name)
        assert type(found).__name__ == part.kind
        assert part.parameters == sum(p.numel() for p in found.parameters())
    assert sum(part.parameters for part in parts) == sum(p.numel() for p in module.parameters())
    assert parts[0].shape[1:] == (32, 48)


class _Odd(nn.Module):
    """Called in another order than defined; one part returns a dict, one is used without being called."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.table = nn.Linear(4, 4, bias=False)
        self.unused = nn.Identity()
        self.first = nn.Conv2d(3, 4, 1)
        self.pair = _Pair()

    def forward(self, images):
        pooled = self.pair(self.first(images))["values"][0].mean((2, 3))
        return self.last(pooled @ self.table.weight)


class _Pair(nn.Module):
    def forward(self, maps):
        return {"none": None, "values": (maps, maps)}


def test_odd_networks():
    parts, output = stages(_Odd().eval(), (5, 6))
    assert [(part.name, part.shape) for part in parts] == [
        ("first", (4, 5, 6)),
        ("pair", (4, 5, 6)),
        ("last", (2,)),
        ("table", ()),
    ]
    assert output == (2,)


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()).eval()
    stages(module, (2, 2))
    assert not any(part._forward_hooks for part in module.modules())
