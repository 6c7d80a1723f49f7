"""The two classic forms: a state dict alone, and structure with weights as a bundle; no pickle of structure."""

import json
import pickle

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision import models

import regraft
from odd_images import simple_folder
from regraft.errors import BundleError, CheckpointError, OptionError, RunExists

pytestmark = pytest.mark.usefixtures("one_thread")


def _trained(network):
    """A network in eval mode whose numbers are none of its initial ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + torch.rand(tensor.shape, generator=generator) / 10)
    return network.eval()


def _logits(network, images):
    with torch.inference_mode():
        return network(images)


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("make", [models.resnet18, lambda **options: timm.create_model("test_vit", **options)])
def test_a_state_dict_alone_round_trips_with_its_head(tmp_path, ending, make):
    source = _trained(make(num_classes=4))
    path = regraft.save_model(source, tmp_path / f"w{ending}")
    loaded = regraft.load_model(path)
    assert not loaded.training
    images = torch.rand(2, 3, 160, 160)
    assert torch.equal(_logits(loaded, images), _logits(source, images))


def test_without_a_head_features_come_out(tmp_path):
    source = _trained(timm.create_model("test_resnet", num_classes=0))
    path = regraft.save_model(source, tmp_path / "w.safetensors")
    images = torch.rand(1, 3, 64, 64)
    loaded = regraft.load_model(path, architecture="timm/test_resnet")
    assert torch.equal(_logits(loaded, images), _logits(source, images))


@pytest.mark.parametrize(
    ("network", "architecture"),
    [
        (lambda: models.resnet18(num_classes=3), "torchvision/resnet18"),
        (lambda: models.mobilenet_v3_small(num_classes=3), "torchvision/mobilenet_v3_small"),
        (lambda: timm.create_model("test_vit", num_classes=3), "timm/test_vit"),
    ],
    ids=["resnet18", "mobilenet_v3_small", "test_vit"],
)
def test_a_bundle_predicts_what_the_network_says(tmp_path, network, architecture):
    source = _trained(network())
    folder = regraft.save_model(source, tmp_path / "model", architecture=architecture, classes=["a", "b", "c"])
    assert {path.name for path in folder.iterdir()} == {"bundle.json", "head.safetensors", "backbone.safetensors"}
    rng = np.random.default_rng(0)
    for name in ("one.png", "two.png"):
        Image.fromarray(rng.integers(0, 256, (200, 240, 3), dtype=np.uint8)).save(tmp_path / name)
    predictor = regraft.load(folder)
    answers = predictor.predict([tmp_path / "one.png", tmp_path / "two.png"])
    preprocessing = predictor.bundle.cards[0].preprocessing
    for answer in answers:
        pixels = preprocessing(Image.open(answer.path).convert("RGB"))
        images = torch.from_numpy(preprocessing.normalise(pixels[None]))
        expected = _logits(source, images).softmax(1)[0]
        assert list(answer.probabilities) == ["a", "b", "c"]
        np.testing.assert_allclose(list(answer.probabilities.values()), expected.numpy(), atol=1e-4)
        again = _logits(regraft.load_model(folder), images)
        torch.testing.assert_close(again, _logits(source, images), atol=1e-4, rtol=1e-4)


def test_what_training_left_can_be_loaded_as_a_network(tmp_path):
    simple_folder(tmp_path / "photos", classes=3, per_class=8)
    run = regraft.train(tmp_path / "photos", run=tmp_path / "run")
    network = regraft.load_model(run)
    predictor = regraft.load(run)
    image = next((tmp_path / "photos").rglob("*.jpg"))
    preprocessing = predictor.bundle.cards[0].preprocessing
    images = torch.from_numpy(preprocessing.normalise(preprocessing(Image.open(image).convert("RGB"))[None]))
    (answer,) = predictor.predict(image)
    probabilities = _logits(network, images).softmax(1)[0].numpy()
    np.testing.assert_allclose(probabilities, list(answer.probabilities.values()), atol=1e-3)
    other = regraft.train(tmp_path / "photos", strategy="knn", run=tmp_path / "knn")
    with pytest.raises(BundleError, match="knn"):
        regraft.load_model(other)


class _TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = models.resnet18()
        self.trunk.fc = nn.Identity()
        self.fc = nn.Linear(512, 3)

    def forward(self, images):
        return self.fc(torch.relu(self.trunk(images) - 0.5))


def test_a_network_that_is_not_what_it_is_called_is_refused(tmp_path):
    own = _trained(_TwoLayers())
    with pytest.raises(CheckpointError, match="does not give what its architecture"):
        regraft.save_model(own, tmp_path / "m", architecture="torchvision/resnet18", classes=["a", "b", "c"])
    deep = models.resnet18()
    deep.fc = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(CheckpointError, match="one linear layer"):
        regraft.save_model(deep, tmp_path / "m", architecture="torchvision/resnet18", classes=["a", "b", "c"])
    with pytest.raises(CheckpointError, match="in the checkpoint, expected"):
        regraft.save_model(models.resnet18(), tmp_path / "m", architecture="torchvision/resnet34", classes=["a"])
    with pytest.raises(OptionError, match="architecture="):
        regraft.save_model(own, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_silently(tmp_path):
    network = models.resnet18(num_classes=2)
    path = regraft.save_model(network, tmp_path / "w.pth")
    with pytest.raises(RunExists):
        regraft.save_model(network, path)
    regraft.save_model(network, path, overwrite=True)
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunExists):
        regraft.save_model(network, tmp_path / "folder", overwrite=True)


def test_a_whole_pickled_network_needs_trust(tmp_path):
    source = _trained(models.resnet18(num_classes=2))
    torch.save(source, tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match="--trust"):
        regraft.load_model(tmp_path / "whole.pth")
    loaded = regraft.load_model(tmp_path / "whole.pth", trust=True)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(_logits(loaded, images), _logits(source, images))


def test_bundles_hold_no_pickle(tmp_path):
    network = models.resnet18(num_classes=2)
    folder = regraft.save_model(network, tmp_path / "m", architecture="torchvision/resnet18", classes=["a", "b"])
    json.loads((folder / "bundle.json").read_text())
    for path in folder.glob("*.safetensors"):
        with pytest.raises((pickle.UnpicklingError, KeyError, ValueError, EOFError, IndexError)):
            pickle.loads(path.read_bytes())


def test_what_is_no_network_with_numbers_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(OptionError, match="not a OrderedDict"):
        regraft.save_model(models.resnet18().state_dict(), tmp_path / "w.pth")
    with torch.device("meta"):
        absent = models.resnet18()
    for module in (absent, nn.Sequential(nn.LazyLinear(2))):
        with pytest.raises(OptionError, match="no numbers"):
            regraft.save_model(module, tmp_path / "w.pth")
    network = models.resnet18(num_classes=2)
    for classes in ("ab", ["a", "a"]):
        with pytest.raises(OptionError, match="distinct"):
            regraft.save_model(network, tmp_path / "m", architecture="torchvision/resnet18", classes=classes)
    with pytest.raises(CheckpointError, match="float32"):
        regraft.save_model(network.half(), tmp_path / "m", architecture="torchvision/resnet18", classes=["a", "b"])
    assert list(tmp_path.iterdir()) == []
