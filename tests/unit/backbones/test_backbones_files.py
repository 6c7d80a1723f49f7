"""Backbones from a person's own file: recognised, filled, and everything that was found kept in the card."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from regraft.backbones import catalogue, files
from regraft.backbones.backbone import BackboneCard
from regraft.backbones.file_preprocessing import published
from regraft.backbones.files import card_and_builder
from regraft.backbones.lookup import entries_of
from regraft.backbones.recognise import FileOptions, split_name
from regraft.errors import BackboneError, CheckpointError, OptionError, PartialMatch


@pytest.fixture
def save(tmp_path, stir):
    def write(network, name="w.pth", **options):
        module = stir(network)
        torch.save({"state_dict": module.state_dict(), **options}, tmp_path / name)
        return module, tmp_path / name

    return write


def test_a_file_becomes_a_backbone_with_the_same_outputs(save, cache):
    source, path = save(models.resnet18(num_classes=7))
    card, build = card_and_builder(f"file:{path}", cache)
    assert card.architecture == "torchvision/resnet18"
    assert (card.feature_dim, card.parameters) == (512, 11_176_512)
    assert card.preprocessing == catalogue.preview("torchvision/resnet18", cache).preprocessing
    assert card.checkpoint["match"]["share"] == 1.0
    assert "assumed" in card.checkpoint["preprocessing"]
    images = torch.rand(2, 3, 64, 64)
    source.fc = torch.nn.Identity()
    with torch.inference_mode():
        assert torch.equal(build().module(images), source(images))
    assert BackboneCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card


def test_the_second_question_is_answered_from_the_card(save, cache, monkeypatch):
    _, path = save(timm.create_model("test_resnet"))
    card, _ = card_and_builder(f"file:{path}", cache)
    monkeypatch.setattr(files, "_load", lambda *_: pytest.fail("it was read again"))
    assert card_and_builder(f"file:{path}", cache)[0] == card


def test_a_changed_file_and_other_options_are_looked_at_anew(save, cache):
    _, path = save(timm.create_model("test_resnet"))
    first, _ = card_and_builder(f"file:{path}", cache)
    sized, _ = card_and_builder(f"file:{path}", cache, FileOptions(size=96, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0)))
    assert sized.preprocessing.size == (96, 96)
    assert (sized.preprocessing.mean, sized.preprocessing.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert sized.preprocessing.resize == round(first.preprocessing.resize * 96 / first.preprocessing.size[0])
    save(timm.create_model("test_resnet", num_classes=2))
    assert card_and_builder(f"file:{path}", cache)[0].weights_sha256 != first.weights_sha256


def test_the_part_that_was_asked_for_is_loaded(tmp_path, stir, cache):
    raw, ema = stir(timm.create_model("test_resnet"), 1), stir(timm.create_model("test_resnet"), 2)
    path = tmp_path / "w.pth"
    torch.save({"state_dict": raw.state_dict(), "state_dict_ema": ema.state_dict()}, path)
    for part, source in ((None, ema), ("state_dict", raw), ("state_dict_ema", ema)):
        card, build = card_and_builder(f"file:{path}", cache, FileOptions(part=part))
        assert torch.equal(build().module.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
        assert card.checkpoint["part"] == (part or "state_dict_ema")
    with pytest.raises(CheckpointError, match="state_dict_ema"):
        card_and_builder(f"file:{path}", cache, FileOptions(part="nothing"))


def test_a_transformer_trained_at_another_size_is_built_for_it(save, cache):
    source, path = save(timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=3))
    card, build = card_and_builder(f"file:{path}", cache)
    assert card.architecture == "timm/vit_tiny_patch16_224?size=96"
    assert card.preprocessing.size == (96, 96)
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        expected = source.forward_head(source.forward_features(images), pre_logits=True)
        assert torch.equal(build().module(images), expected)
    assert card.checkpoint["match"]["adapted"] == {}
    again = catalogue.build_module(card.architecture)
    assert again.pos_embed.shape == (1, 37, 192)
    larger, _ = card_and_builder(f"file:{path}", cache, FileOptions(size=128))
    assert larger.checkpoint["match"]["adapted"] == {"pos_embed": "positions interpolated from 6x6 to 8x8"}


def test_what_is_missing_stays_random_but_the_same_each_time(tmp_path, cache):
    state = {n: t for n, t in models.resnet18().state_dict().items() if not n.startswith("layer4")}
    path = tmp_path / "w.pth"
    torch.save(state, path)
    with pytest.raises(PartialMatch, match=r"24\.8 %"):
        card_and_builder(f"file:{path}", cache)
    one = card_and_builder(f"file:{path}", cache, FileOptions(allow_partial=0.2))[1]().module
    two = card_and_builder(f"file:{path}", cache, FileOptions(allow_partial=0.2))[1]().module
    assert torch.equal(one.layer4[1].conv2.weight, two.layer4[1].conv2.weight)
    card, _ = card_and_builder(f"file:{path}", cache, FileOptions(allow_partial=0.2))
    assert len(files.warnings(card)) == 1
    assert "left as initialised" in files.warnings(card)[0]


def test_a_file_that_fits_two_functions_is_warned_of_and_can_be_chosen(save, cache):
    _, path = save(timm.create_model("efficientnet_lite0"))
    card, _ = card_and_builder(f"file:{path}", cache)
    assert any("tf_efficientnet_lite0" in warning for warning in files.warnings(card))
    chosen, _ = card_and_builder(f"file:{path}@timm/tf_efficientnet_lite0", cache)
    assert chosen.architecture == "timm/tf_efficientnet_lite0"
    assert files.warnings(chosen) == []


def test_the_packaged_files_go_the_same_way(cache):
    """As any file: recognised by their tensors, loaded by a translation, with the packaged preprocessing."""
    from regraft.backbones import packaged

    for name in packaged.NAMES:
        own, build = card_and_builder(f"file:{packaged.weights_path(name)}", cache)
        assert own.architecture == f"timm/tf_{name}"
        assert own.preprocessing == catalogue.card(name, cache).preprocessing
        assert own.checkpoint["match"]["share"] == 1.0
        expected = catalogue.build(name, cache).module
        for left, right in zip(build().module.parameters(), expected.parameters(), strict=True):
            assert torch.equal(left, right)


def test_a_converted_file_tells_its_architecture_and_preprocessing(tmp_path, stir, cache):
    module = stir(timm.create_model("test_resnet", num_classes=0))
    facts = {"mean": [0.1, 0.1, 0.1], "std": [0.2, 0.2, 0.2], "size": [64, 64], "resize": 70}
    facts |= {"mode": "shorter", "interpolation": "bilinear"}
    told = {"regraft.architecture": "timm/test_resnet", "regraft.preprocessing": json.dumps(facts)}
    save_file(module.state_dict(), tmp_path / "w.safetensors", metadata=told)
    card, _ = card_and_builder(f"file:{tmp_path / 'w.safetensors'}", cache)
    assert card.preprocessing.to_dict() == {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    broken = {**told, "regraft.preprocessing": "[" * 5000}
    save_file(module.state_dict(), tmp_path / "b.safetensors", metadata=broken)
    with pytest.raises(CheckpointError, match="preprocessing"):
        card_and_builder(f"file:{tmp_path / 'b.safetensors'}", cache)
    save_file(module.state_dict(), tmp_path / "c.safetensors", metadata={"regraft.architecture": "timm/no_such"})
    with pytest.raises(BackboneError, match="no_such"):
        card_and_builder(f"file:{tmp_path / 'c.safetensors'}", cache)


def test_a_changed_shard_is_noticed(tmp_path, stir, cache):
    """The index is the same, one of the files that it names is not."""
    names = {}
    for number, seed in ((0, 1), (1, 2)):
        state = stir(timm.create_model("test_resnet"), seed).state_dict()
        part = dict(list(state.items())[number::2])
        save_file(part, tmp_path / f"part-{number}.safetensors")
        names |= dict.fromkeys(part, f"part-{number}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    first, _ = card_and_builder(f"file:{tmp_path}", cache)
    assert first.weights_file == str(index)
    state = stir(timm.create_model("test_resnet"), 3).state_dict()
    last = [name for name, file in names.items() if file.endswith("1.safetensors")]
    save_file({name: state[name] for name in last}, tmp_path / "part-1.safetensors")
    second, build = card_and_builder(f"file:{tmp_path}", cache)
    assert second.weights_sha256 != first.weights_sha256
    assert torch.equal(build().module.state_dict()[last[0]], state[last[0]])


@pytest.mark.parametrize(
    ("name", "path", "architecture"),
    [
        ("file:a.pth", "a.pth", ""),
        ("file:a.pth@timm/resnet18", "a.pth", "timm/resnet18"),
        ("file:odd@name.pth@torchvision/vgg16", "odd@name.pth", "torchvision/vgg16"),
    ],
)
def test_names_are_taken_apart(name, path, architecture):
    found, named = split_name(name)
    assert (str(found), named) == (path, architecture)


def test_a_name_without_a_file_is_an_error():
    for name in ("file:", "file: "):
        with pytest.raises(OptionError, match="names no file"):
            split_name(name)


def test_named_weights_bring_their_own_preprocessing(save, cache):
    _, path = save(timm.create_model("resnet18"))
    for weights in ("timm/resnet18.a1_in1k", "timm/resnet18.tv_in1k"):
        card, _ = card_and_builder(f"file:{path}@{weights}", cache)
        assert card.preprocessing == catalogue.preview(weights, cache).preprocessing
        assert card.checkpoint["preprocessing"] == f"of {weights}"


def test_a_zoo_is_asked_once_what_its_weights_expect(cache, monkeypatch):
    zoo, entries = entries_of("timm/test_resnet", cache)
    first = published(zoo, entries[0], cache)
    assert first == zoo.preprocessing(entries[0])
    monkeypatch.setattr(zoo, "preprocessing", lambda _: pytest.fail("asked again"))
    assert published(zoo, entries[0], cache) == first


def test_an_at_sign_in_a_file_that_exists_is_no_separator(tmp_path):
    path = tmp_path / "mine@home.pth"
    path.write_bytes(b"")
    assert split_name(f"file:{path}") == (path, "")


@pytest.mark.parametrize(
    ("options", "word"),
    [({"allow_partial": 90}, "allow-partial"), ({"size": 0}, "size"), ({"std": (0.0, 1.0, 1.0)}, "std")],
)
def test_options_that_cannot_be_meant_are_errors(save, cache, options, word):
    _, path = save(timm.create_model("test_resnet"))
    with pytest.raises(OptionError, match=word):
        card_and_builder(f"file:{path}", cache, FileOptions(**options))


def test_unknown_architectures_and_unknown_tensors_are_errors(tmp_path, save, cache):
    _, path = save(timm.create_model("test_resnet"))
    with pytest.raises(BackboneError, match="resnet18"):
        card_and_builder(f"file:{path}@timm/resnet_18", cache)
    torch.save({"a.weight": torch.zeros(3, 4), "b.weight": torch.zeros(5, 3)}, tmp_path / "mlp.pth")
    with pytest.raises(CheckpointError, match="Name its architecture"):
        card_and_builder(f"file:{tmp_path / 'mlp.pth'}", cache)
