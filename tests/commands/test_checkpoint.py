"""`regraft checkpoint` and backbones from files and runs, end to end."""

import csv
import json
import random
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from torchvision import models

pytestmark = pytest.mark.usefixtures("one_thread")


def _stirred(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + torch.rand(tensor.shape, generator=generator) / 10)
    return network.eval()


@pytest.fixture
def model_pth():
    """A training checkpoint as people are handed: wrapped names, averaged weights beside, an optimiser."""
    network = _stirred(models.resnet18(num_classes=7))
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    average = {f"module.{name}": tensor for name, tensor in _stirred(network, 1).state_dict().items()}
    optimiser = {"state": {}, "param_groups": [{"lr": 0.1}]}
    content = {"state_dict": state, "state_dict_ema": average, "optimizer": optimiser, "epoch": 12}
    torch.save(content, "model.pth")
    return Path("model.pth")


def test_inspect_says_what_it_is(regraft, model_pth):
    said = regraft("checkpoint", "inspect", model_pth)
    assert said.code == 0, said.err
    for words in (
        "torch zip",
        "state_dict_ema: 122 tensors",
        "<- used",
        "--part",
        "optimizer",
        "epoch: 12",
        "torchvision/resnet18 = timm/resnet18",
        "wrapper        module.",
        "512 features",
        "7 classes",
        "3 channels",
        "--mean, --std, --size",
        "regraft train DATA --backbone file:model.pth",
    ):
        assert words in said.out, words


def test_match_tells_stages_and_with_all_tensors(regraft, model_pth):
    said = regraft("checkpoint", "match", model_pth, "--to", "timm/resnet18")
    assert said.code == 0, said.err
    assert "layer1 to 4" in said.out
    assert "100 % of 11,176,512 parameters loaded" in said.out
    assert "the file's head is not needed: module.fc.weight, module.fc.bias" in said.out
    assert len(said.out.splitlines()) < 12
    every = regraft("checkpoint", "match", model_pth, "--to", "timm/resnet18", "--all")
    assert sum(line.startswith("  ") for line in every.out.splitlines()) == 122 - 2
    assert "layer3.1.bn2.running_var" in every.out


def test_too_little_is_an_error_after_the_report(regraft, model_pth):
    said = regraft("checkpoint", "match", model_pth, "--to", "timm/resnet34")
    assert said.code == 2
    assert "layer3" in said.out
    assert "52.5 %" in said.err
    assert "--allow-partial" in said.err
    allowed = regraft("checkpoint", "match", model_pth, "--to", "timm/resnet34", "--allow-partial", "0.5")
    assert allowed.code == 0
    assert allowed.out.splitlines()[1:] == said.out.splitlines()


def test_convert_writes_a_clean_file_that_knows_what_it_is(regraft, model_pth):
    said = regraft("checkpoint", "convert", model_pth, "-o", "clean.safetensors")
    assert said.code == 0, said.err
    with safe_open("clean.safetensors", "pt") as handle:
        assert handle.metadata()["regraft.architecture"] == "torchvision/resnet18"
        names = set(handle.keys())
        weight = handle.get_tensor("layer1.0.conv1.weight")
    assert names == {name for name in models.resnet18().state_dict() if not name.startswith("fc.")}
    averaged = torch.load(model_pth, weights_only=True)["state_dict_ema"]["module.layer1.0.conv1.weight"]
    assert torch.equal(weight, averaged)
    again = regraft("checkpoint", "convert", model_pth, "-o", "clean.safetensors")
    assert again.code == 2
    assert "--overwrite" in again.err
    raw = regraft("checkpoint", "convert", model_pth, "-o", "clean.safetensors", "--overwrite", "--part", "state_dict")
    assert raw.code == 0, raw.err
    assert regraft("checkpoint", "convert", model_pth, "-o", "clean.pth").code == 2
    other = regraft("checkpoint", "convert", model_pth, "-o", "timm.safetensors", "--to", "timm/resnet18")
    assert other.code == 0, other.err


def test_convert_to_another_zoo_translates(regraft):
    torch.save(_stirred(models.mobilenet_v3_small()).state_dict(), "m.pth")
    said = regraft("checkpoint", "convert", "m.pth", "-o", "t.safetensors", "--to", "timm/mobilenetv3_small_100")
    assert said.code == 0, said.err
    assert "torchvision MobileNetV3 -> timm" in said.out
    with safe_open("t.safetensors", "pt") as handle:
        assert set(handle.keys()) == set(timm.create_model("mobilenetv3_small_100", num_classes=0).state_dict())


def test_convert_does_not_turn_a_guess_into_a_certainty(regraft):
    torch.save(timm.create_model("efficientnet_lite0").state_dict(), "w.pth")
    said = regraft("checkpoint", "convert", "w.pth", "-o", "c.safetensors")
    assert said.code == 0, said.err
    assert "tf_efficientnet_lite0" in said.out
    listed = regraft("backbones", "file:c.safetensors")
    assert "tf_efficientnet_lite0 has the same tensors" in listed.out
    named = regraft("checkpoint", "convert", "w.pth", "-o", "n.safetensors", "--to", "timm/efficientnet_lite0")
    assert named.code == 0, named.err
    assert "tf_" not in regraft("backbones", "file:n.safetensors").out
    assert Path("c.safetensors").stat().st_mode == Path("w.pth").stat().st_mode


def test_a_network_nobody_knows_is_converted_as_it_is(regraft):
    torch.save({"net": {f"w.a{n}.weight": torch.rand(n + 1, 3) for n in range(4)}}, "own.pth")
    inspected = regraft("checkpoint", "inspect", "own.pth")
    assert inspected.code == 0
    assert "unknown" in inspected.out
    said = regraft("checkpoint", "convert", "own.pth", "-o", "own.safetensors")
    assert said.code == 0, said.err
    with safe_open("own.safetensors", "pt") as handle:
        assert set(handle.keys()) == {f"a{n}.weight" for n in range(4)}


def test_training_on_a_file_then_predicting_and_training_on_the_run(regraft, photos, model_pth):
    said = regraft("train", photos, "--backbone", f"file:{model_pth}", "--run", "first")
    assert said.code == 0, said.err
    for words in ("state_dict_ema", "100 % of 11,176,512 parameters loaded", "preprocessing", "assumed"):
        assert words in said.err, words
    card = json.loads(Path("first/bundle/bundle.json").read_text())["backbones"][0]
    assert card["checkpoint"]["match"]["share"] == 1.0
    assert card["checkpoint"]["part"] == "state_dict_ema"
    model_pth.unlink()  # the bundle is all that is needed from here on
    predicted = regraft("predict", "first", photos, "-o", "p.csv")
    assert predicted.code == 0, predicted.err
    with Path("p.csv").open(newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 42
    again = regraft("train", photos, "--backbone", "run:first", "--run", "second")
    assert again.code == 0, again.err
    assert "42 from the store, 0 computed" in again.err
    first, second = (json.loads(Path(run, "metrics.json").read_text()) for run in ("first", "second"))
    assert first["accuracy"] == second["accuracy"]
    assert second["backbone"].startswith("run:")
    moved = Path("first").rename("moved")
    assert regraft("evaluate", moved).code == 0


def test_a_part_of_a_network_stays_random_only_when_that_is_allowed(regraft, photos):
    state = {n: t for n, t in models.resnet18().state_dict().items() if not n.startswith("layer4")}
    torch.save(state, "cut.pth")
    refused = regraft("train", photos, "--backbone", "file:cut.pth")
    assert refused.code == 2
    assert "24.8 %" in refused.err
    assert not Path("runs").exists()
    said = regraft("train", photos, "--backbone", "file:cut.pth", "--allow-partial", "0.2", "--run", "r")
    assert said.code == 0, said.err
    assert "warning: 20 tensors" in said.err or "warning: 25 tensors" in said.err
    match = json.loads(Path("r/bundle/bundle.json").read_text())["backbones"][0]["checkpoint"]["match"]
    assert match["share"] == pytest.approx(0.2489, abs=1e-3)
    assert "layer4.0.conv1.weight" in match["missing"]


def test_preprocessing_of_a_file_is_shown_and_can_be_given(regraft, photos, model_pth):
    own = ["--mean", "0.1", "0.2", "0.3", "--std", "1", "1", "1", "--size", "64"]
    said = regraft("train", photos, "--backbone", f"file:{model_pth}", *own, "--run", "r")
    assert said.code == 0, said.err
    assert "crop 64x64" in said.err
    assert "mean, std, size as given" in said.err
    bundle = json.loads(Path("r/bundle/bundle.json").read_text())
    assert bundle["backbones"][0]["preprocessing"]["mean"] == [0.1, 0.2, 0.3]
    command = json.loads(Path("r/config.json").read_text())["command"]
    assert "--mean 0.1 0.2 0.3" in command
    for backbone in ("efficientnet_lite0", "run:r"):
        refused = regraft("train", photos, "--backbone", backbone, "--mean", "0.1", "0.2", "0.3", "--size", "64")
        assert refused.code == 2
        assert "--mean" in refused.err
    # The size of the input is anybody's to choose, where the network takes any.
    said = regraft("train", photos, "--backbone", "efficientnet_lite0", "--size", "96", "--run", "s")
    assert said.code == 0, said.err
    assert json.loads(Path("s/bundle/bundle.json").read_text())["backbones"][0]["preprocessing"]["size"] == [96, 96]


def test_a_pickled_network_needs_the_one_flag(regraft, photos):
    torch.save(_stirred(models.resnet18(num_classes=2)), "whole.pth")
    refused = regraft("train", photos, "--backbone", "file:whole.pth")
    assert refused.code == 2
    assert "torchvision.models.resnet.ResNet" in refused.err
    assert "--trust" in refused.err
    said = regraft("train", photos, "--backbone", "file:whole.pth", "--trust", "--run", "r")
    assert said.code == 0, said.err


def test_a_file_is_taken_apart_like_any_backbone(regraft, model_pth):
    said = regraft("backbones", f"file:{model_pth}")
    assert said.code == 0, said.err
    assert "layer4" in said.out
    assert "11,176,512" in said.out


def test_a_run_is_taken_apart_too_and_is_not_mistaken_for_a_file(regraft, photos, model_pth):
    assert regraft("train", photos, "--backbone", f"file:{model_pth}", "--run", "r").code == 0
    assert "layer4" in regraft("backbones", "run:r").out
    for place in ("r", "r/bundle"):
        said = regraft("train", photos, "--backbone", f"file:{place}")
        assert said.code == 2
        assert f"run:{place}" in said.err


def test_embedding_takes_files_too(regraft, photos, model_pth):
    said = regraft("embed", photos, "--backbone", f"file:{model_pth}@timm/resnet18", "-o", "f.npz")
    assert said.code == 0, said.err
    assert "512 features" in said.err


def test_scrambled_names_are_matched_by_structure_with_a_warning_to_look(regraft):
    rng = random.Random(0)
    state = _stirred(models.resnet18()).state_dict()
    torch.save({"".join(rng.choices("abcdefgh", k=12)): tensor for tensor in state.values()}, "s.pth")
    said = regraft("checkpoint", "match", "s.pth", "--to", "torchvision/resnet18")
    assert said.code == 0, said.err
    assert "by structure" in said.out
    assert "before you trust it" in said.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["inspect", "none.pth"], "none.pth"),
        (["inspect", "text.pth"], "text.pth"),
        (["match", "model.pth", "--to", "timm/resnet_18"], "Did you mean"),
        (["match", "model.pth", "--to", "resnet18"], "Did you mean"),
        (["match", "model.pth", "--allow-partial", "90"], "share from 0 to 1"),
        (["match", "model.pth", "--part", "nope"], "state_dict_ema"),
        (["convert", "model.pth", "-o", "text.pth/x.safetensors"], "cannot be written"),
        (["inspect", "."], "."),
    ],
)
@pytest.mark.usefixtures("model_pth")
def test_mistakes_are_told_in_a_sentence(regraft, words, told):
    Path("text.pth").write_text("hello")
    said = regraft("checkpoint", *words)
    assert said.code == 2
    assert told in said.err


def test_a_run_without_a_backbone_cannot_be_one(regraft, photos):
    assert regraft("embed", photos, "-o", "f.npz").code == 0
    assert regraft("train", "--features", "f.npz", "--run", "r").code == 0
    said = regraft("train", photos, "--backbone", "run:r")
    assert said.code == 2
    assert "feature file" in said.err
    assert regraft("train", photos, "--backbone", "run:nothing").code == 2
