"""torchvision's networks without classifier, against torchvision's own with it."""

import pytest
import torch
from torch import nn
from torchvision import models

from regraft.backbones import catalogue, torchvision_zoo
from regraft.backbones.stages import stages
from regraft.checkpoints.match import match, require
from regraft.errors import BackboneError, CheckpointError

ALL = models.list_models(module=models)
FAMILIES = [  # the smallest of each way of ending in a classifier, of auxiliary heads and of pooling
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "vit_b_32",
]


def _source(model, **options):
    if model in {"googlenet", "inception_v3"}:  # as torchvision builds them for their published weights
        options = {"aux_logits": True, "transform_input": True, "init_weights": False}
    torch.manual_seed(0)
    return models.get_model(model, weights=None, **options).eval()


def _last_layer(module):
    outputs = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    return [m for m in outputs if m.weight.shape[0] == 1000][-1]


def _check_features(entry):
    """Features must be what the last layer of torchvision's own network is given."""
    model = entry.architecture.removeprefix("torchvision/").partition(".")[0]
    size = torchvision_zoo.preprocessing(entry).size
    source = _source(model, **({"image_size": size[0]} if "." in entry.architecture else {}))
    given = []
    _last_layer(source).register_forward_hook(lambda _m, inputs, _o: given.append(inputs[0]))
    module = torchvision_zoo.build_module(entry.architecture)
    report = match(source.state_dict(), module)
    require(report, 1.0)
    assert all(name.startswith(("classifier", "fc", "head", "aux", "AuxLogits")) for name in report.unexpected)
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        source(image)
        features = module(image)
    expected = given[0].mean((2, 3)) if given[0].ndim == 4 else given[0]
    assert features.dtype == torch.float32
    assert not module.training
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


def _entries():
    return {entry.architecture: entry for entry in reversed(torchvision_zoo.entries())}


def test_every_model_that_torchvision_lists_is_offered_with_its_default_first():
    first = {}
    for entry in torchvision_zoo.entries():
        first.setdefault(entry.name.partition(".")[0], entry)
    assert [name.removeprefix("torchvision/") for name in first] == ALL
    for model in ALL:
        assert first[f"torchvision/{model}"].weights == models.get_model_weights(model).DEFAULT.name


@pytest.mark.parametrize("model", FAMILIES)
def test_features_are_what_the_classifier_is_given(model):
    _check_features(_entries()[f"torchvision/{model}"])


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", list(_entries()))
def test_features_of_every_network(architecture):
    _check_features(_entries()[architecture])


def test_networks_give_one_row_of_features_on_the_meta_device():
    """Nothing is computed on `meta`, so large ones can be seen too; regnet needs numbers to be built."""
    entries = [e for e in _entries().values() if "regnet" not in e.architecture]
    for entry in entries[::8]:
        with torch.device("meta"):
            module = torchvision_zoo.build_module(entry.architecture)
        _, shape = stages(module, torchvision_zoo.preprocessing(entry).size)
        assert len(shape) == 1, entry.architecture


def test_preprocessing_is_that_of_the_weights_transforms():
    for entry in torchvision_zoo.entries():
        model, _, tag = entry.name.removeprefix("torchvision/").partition(".")
        preset = models.get_model_weights(model)[tag].transforms()
        preprocessing = torchvision_zoo.preprocessing(entry)
        assert list(preprocessing.size) == preset.crop_size * 2
        assert [preprocessing.resize] == preset.resize_size
        assert list(preprocessing.mean) == preset.mean
        assert list(preprocessing.std) == preset.std
        assert preprocessing.interpolation == preset.interpolation.value
        assert preprocessing.mode == "shorter"


def test_weights_for_larger_images_keep_their_tag_in_the_architecture():
    entries = {entry.name: entry.architecture for entry in torchvision_zoo.entries()}
    larger = "torchvision/vit_b_16.IMAGENET1K_SWAG_E2E_V1"
    assert entries[larger] == larger
    assert entries["torchvision/vit_b_16.IMAGENET1K_V1"] == "torchvision/vit_b_16"
    assert entries["torchvision/regnet_y_16gf.IMAGENET1K_SWAG_E2E_V1"] == "torchvision/regnet_y_16gf"


def _cached(zoo_home, entry, state):
    path = zoo_home / "torch" / "hub" / "checkpoints" / entry.url.rpartition("/")[2]
    torch.save(state, path)
    return path


def test_weights_in_torchs_cache_load_without_a_network(zoo_home, cache, no_network):
    """A file of random weights under the published name, with densenet's layers named as in that file."""
    source = _source("densenet121")
    given = []
    source.classifier.register_forward_hook(lambda _m, inputs, _o: given.append(inputs[0]))
    old_names = {
        "norm1": "norm.1",
        "norm2": "norm.2",
        "conv1": "conv.1",
        "conv2": "conv.2",
    }
    state = {
        ".".join(old_names.get(part, part) if "denselayer" in name else part for part in name.split(".")): tensor
        for name, tensor in source.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    entry = _entries()["torchvision/densenet121"]
    path = _cached(zoo_home, entry, state)
    backbone = catalogue.build("torchvision/densenet121", cache)
    assert backbone.card.weights_file == str(path)
    assert backbone.card.name == "torchvision/densenet121.IMAGENET1K_V1"
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        source(image)
        torch.testing.assert_close(backbone.module(image), given[0])
    assert no_network == []
    assert "torchvision/densenet121.IMAGENET1K_V1" in catalogue.available(cache)


def test_a_file_that_lacks_a_tensor_is_refused_and_leaves_no_card(zoo_home, cache):
    state = _source("mobilenet_v3_small").state_dict()
    del state["features.0.0.weight"]
    _cached(zoo_home, _entries()["torchvision/mobilenet_v3_small"], state)
    with pytest.raises(CheckpointError, match=r"features\.0\.0\.weight"):
        catalogue.card("torchvision/mobilenet_v3_small", cache)
    assert [path.name for path in (cache / "cards").iterdir()] == ["index-torchvision.json"]


@pytest.mark.parametrize("architecture", ["torchvision/nothing", "torchvision/resnet50.NOTHING", "torchvision/"])
def test_unknown_architectures_are_errors_of_ours(architecture):
    with pytest.raises(BackboneError, match="no classification network"):
        catalogue.build_module(architecture)


def test_a_network_without_a_classifier_cannot_be_stripped():
    with pytest.raises(BackboneError, match="1000 outputs"):
        torchvision_zoo._remove_classifier(models.squeezenet1_1(num_classes=7))
