"""Names between libraries."""

import re

import pytest
import timm
import torch

from regraft.checkpoints.match import match
from regraft.checkpoints.translate import early_torchvision, lukemelas_to_timm

lukemelas = pytest.importorskip("efficientnet_lite_pytorch", reason="the oracle for these names is not installed")


def _oracle(name):
    return lukemelas.EfficientNet.from_name(name)


@pytest.mark.parametrize("level", range(5))
def test_every_lite_depth_is_translated_completely(level):
    """The other library's own network of every size, with its own names, fills timm's network."""
    with torch.device("meta"):
        target = timm.create_model(f"tf_efficientnet_lite{level}")
        source = _oracle(f"efficientnet-lite{level}").state_dict()
    translate = lukemelas_to_timm(target.state_dict())
    assert {translate(name): tensor.shape for name, tensor in source.items()} == {
        name: tensor.shape for name, tensor in target.state_dict().items()
    }


def test_squeeze_and_excitation_is_translated_too():
    with torch.device("meta"):
        target = timm.create_model("tf_efficientnet_b1").state_dict()
        source = _oracle("efficientnet-b1").state_dict()
    translate = lukemelas_to_timm(target)
    assert {translate(name) for name in source} == set(target)


def test_a_block_too_many_is_reported_under_its_own_name():
    module = timm.create_model("tf_efficientnet_lite0")
    state = {"_blocks.99._bn1.weight": torch.zeros(3), "_blocks.0._expand_conv.weight": torch.zeros(3)}
    report = match(state, module, lukemelas_to_timm(module.state_dict()))
    assert report.unexpected == tuple(state)


def test_names_of_timm_itself_stay():
    names = list(timm.create_model("tf_efficientnet_lite0").state_dict())
    translate = lukemelas_to_timm(names)
    assert [translate(name) for name in names] == names


def test_early_torchvision_names():
    old = {
        "features.denseblock1.denselayer2.norm.1.running_mean": "features.denseblock1.denselayer2.norm1.running_mean",
        "features.denseblock4.denselayer16.conv.2.weight": "features.denseblock4.denselayer16.conv2.weight",
        "encoder.layers.encoder_layer_3.mlp.linear_1.weight": "encoder.layers.encoder_layer_3.mlp.0.weight",
        "encoder.layers.encoder_layer_3.mlp.linear_2.bias": "encoder.layers.encoder_layer_3.mlp.3.bias",
    }
    assert {name: early_torchvision(name) for name in old} == old


def test_todays_torchvision_names_stay():
    from torchvision import models

    with torch.device("meta"):
        names = [name for model in ("densenet121", "vit_b_16") for name in models.get_model(model).state_dict()]
    assert [early_torchvision(name) for name in names] == names
    assert any(re.search(r"denselayer\d+\.norm1", name) for name in names)
