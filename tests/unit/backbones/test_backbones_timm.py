"""timm's networks from caches made by code, loaded completely or not at all."""

import math

import pytest
import timm
import torch
from timm.data import create_transform, resolve_data_config
from timm.models import get_pretrained_cfg, model_entrypoint
from torchvision import transforms

from regraft.backbones import catalogue, timm_zoo
from regraft.errors import BackboneError, BackboneUnavailable, CheckpointError


def _features(source, images):
    with torch.inference_mode():
        return source.forward_head(source.forward_features(images), pre_logits=True)


def test_weights_in_the_hubs_cache_load_without_a_network(tiny_on_hub, cache, no_network):
    name, source, path = tiny_on_hub
    backbone = catalogue.build(name, cache)
    assert backbone.card.name == "timm/test_resnet.r160_in1k"
    assert backbone.card.architecture == "timm/test_resnet"
    assert backbone.card.weights_file == str(path)
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        features = backbone.module(images)
    assert features.shape == (2, backbone.card.feature_dim)
    torch.testing.assert_close(features, _features(source, images))
    assert not backbone.module.training
    assert no_network == []


def test_the_second_build_uses_the_card_and_gives_the_same(tiny_on_hub, cache, no_network):
    name, _, _ = tiny_on_hub
    first, second = catalogue.build(name, cache), catalogue.build(name, cache)
    assert first.card == second.card
    for left, right in zip(first.module.state_dict().values(), second.module.state_dict().values(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_a_transformer_and_both_of_the_hubs_file_names(put_on_hub, stir, cache, no_network, filename):
    source = stir(timm.create_model("test_vit.r160_in1k"))
    put_on_hub("timm/test_vit.r160_in1k", source.state_dict(), filename)
    backbone = catalogue.build("timm/test_vit.r160_in1k", cache)
    images = torch.randn(2, 3, *backbone.card.preprocessing.size)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.module(images), _features(source, images))


def test_weights_in_torchs_cache_are_found_by_the_urls_file_name(zoo_home, cache, no_network):
    source = timm.create_model("resnet18").eval()
    entry = next(e for e in timm_zoo.entries() if e.name == "timm/resnet18.a1_in1k")
    file = entry.url.rpartition("/")[2]
    torch.save({"state_dict": source.state_dict()}, zoo_home / "torch" / "hub" / "checkpoints" / file)
    backbone = catalogue.build("timm/resnet18.a1_in1k", cache)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.module(images), _features(source, images))


def _without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize("lost", ["conv1.0.weight", "bn1.running_var", "layer4.0.conv1.weight"])
def test_a_file_that_lacks_a_tensor_is_refused(put_on_hub, cache, lost):
    source = timm.create_model("test_resnet.r160_in1k")
    assert lost in source.state_dict()
    put_on_hub("timm/test_resnet.r160_in1k", _without(source.state_dict(), lost))
    with pytest.raises(CheckpointError, match=lost.replace(".", r"\.")):
        catalogue.card("timm/test_resnet", cache)
    assert not list((cache / "cards").glob("timm*"))


def test_a_lost_classifier_or_batch_counter_does_not_matter(put_on_hub, cache):
    state = timm.create_model("test_resnet.r160_in1k").state_dict()
    state = {k: v for k, v in state.items() if not k.startswith("fc.") and "num_batches" not in k}
    put_on_hub("timm/test_resnet.r160_in1k", state)
    assert catalogue.card("timm/test_resnet", cache).feature_dim > 0


@pytest.mark.parametrize(
    "state",
    [
        {"weight": torch.zeros(3, 3)},
        {"conv1.0.weight": torch.zeros(3, 3)},
    ],
)
def test_a_file_of_another_network_is_refused(put_on_hub, cache, state):
    put_on_hub("timm/test_resnet.r160_in1k", state)
    with pytest.raises(CheckpointError):
        catalogue.card("timm/test_resnet", cache)


def test_a_damaged_file_is_refused(put_on_hub, cache):
    path = put_on_hub("timm/test_resnet.r160_in1k", {"weight": torch.zeros(300, 3)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="truncated"):
        catalogue.card("timm/test_resnet", cache)


def test_without_weights_and_network_it_says_what_is_needed(zoo_home, cache, no_network):
    with pytest.raises(BackboneUnavailable) as caught:
        catalogue.card("timm/resnet34", cache)
    message = str(caught.value)
    for part in ("timm/resnet34.a1_in1k", "model.safetensors", "resnet34_a1_0-46f8f793.pth", str(zoo_home / "hf")):
        assert part in message
    assert "Available now: efficientnet_lite0" in message
    assert len(no_network) >= 1


def test_offline_is_honoured(zoo_home, cache, no_network, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BackboneUnavailable, match="HF_HUB_OFFLINE is set"):
        catalogue.card("timm/resnet34", cache)
    assert no_network == []


def test_encoders_without_pooling_are_said_to_be_unfit(tiny_on_hub, cache, monkeypatch):
    whole_map = timm.create_model("test_resnet", num_classes=0, global_pool="").eval()
    monkeypatch.setattr(timm_zoo, "load", lambda *_: whole_map)
    with pytest.raises(BackboneError, match="not a row of features"):
        catalogue.card("timm/test_resnet", cache)


def _published():
    return {entry.name: entry for entry in timm_zoo.entries()}


def test_every_published_name_is_an_entry_and_the_default_comes_first():
    entries = _published()
    assert set(entries) == {f"timm/{name}" for name in timm.list_pretrained()}
    first = {}
    for entry in entries.values():
        first.setdefault(entry.architecture, entry)
    for architecture, entry in first.items():
        assert entry.weights == get_pretrained_cfg(architecture.removeprefix("timm/")).tag


def test_preprocessing_is_what_timm_evaluates_with():
    """Against the steps of timm's own evaluation transform, for all published weights that resize and crop."""
    checked = 0
    for entry in list(_published().values())[::7]:
        preprocessing = timm_zoo.preprocessing(entry)
        config = resolve_data_config({}, pretrained_cfg=get_pretrained_cfg(entry.name[5:]).to_dict())
        steps = create_transform(**config).transforms
        normalise = next(s for s in steps if isinstance(s, transforms.Normalize))
        torch.testing.assert_close(torch.tensor(preprocessing.mean), normalise.mean.flatten().float())
        torch.testing.assert_close(torch.tensor(preprocessing.std), normalise.std.flatten().float())
        if preprocessing.mode == "shorter":
            assert steps[0].size == preprocessing.resize
            assert tuple(steps[1].size) == preprocessing.size
            assert steps[0].interpolation.value == preprocessing.interpolation
            checked += 1
        else:
            assert preprocessing.mode == {"squash": "squash", "border": "pad"}[config["crop_mode"]]
    assert checked > 100


def test_non_square_inputs_keep_their_order():
    entry = _published()["timm/vit_base_patch16_sapiens2.fb"]
    assert timm_zoo.preprocessing(entry).size == (1024, 768)


def _families():
    """All pooled networks by timm's source file."""
    chosen = {}
    for entry in timm_zoo.entries():
        model = entry.architecture.removeprefix("timm/")
        if "enc" not in model.split("_"):
            chosen.setdefault(model_entrypoint(model).__module__, []).append(entry)
    return chosen


@pytest.mark.nightly
@pytest.mark.parametrize("family", sorted(_families()))
def test_a_network_of_every_family_loads_completely(family, put_on_hub, stir, no_network):
    """Saved by timm with its classifier, loaded by us without: the same features."""
    sizes = {}
    for entry in _families()[family]:
        with torch.device("meta"):
            module = timm.create_model(entry.architecture.removeprefix("timm/"), num_classes=0)
        sizes[entry.name] = (sum(p.numel() for p in module.parameters()), entry)
    count, entry = min(sizes.values(), key=lambda item: item[0])
    if count > 300_000_000:
        pytest.skip(f"the smallest of {family} has {count:,} parameters")
    source = stir(timm.create_model(entry.name.removeprefix("timm/")))
    file = put_on_hub(entry.repo or "made/up", {k: v.clone() for k, v in source.state_dict().items()})
    module = timm_zoo.load(entry, file)
    preprocessing = timm_zoo.preprocessing(entry)
    images = torch.randn(1, 3, *preprocessing.size)
    with torch.inference_mode():
        features = module(images)
    expected = _features(source, images)
    assert features.ndim == 2
    assert math.isfinite(features.abs().max())
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)
