"""The index of fingerprints against the installed zoos, from which it was made."""

import functools
import lzma
from importlib import metadata
from pathlib import Path

import pytest
import torch

from regraft.backbones import catalogue, fingerprint_build, fingerprints
from regraft.backbones.fingerprint_collect import architectures, build, record
from regraft.backbones.fingerprint_twins import functions, twin_groups
from regraft.backbones.fingerprints import ANY, BODY, HEAD, POSITION, STEM, decode, shipped
from regraft.errors import CheckpointError

SAMPLE = [
    "torchvision/googlenet",
    "torchvision/mobilenet_v3_small",
    "torchvision/regnet_y_400mf",
    "torchvision/squeezenet1_1",
    "torchvision/vit_b_32",
    "timm/crossvit_tiny_240",
    "timm/deit_tiny_distilled_patch16_224",
    "timm/mixer_s32_224",
    "timm/mobilenetv3_small_100",
    "timm/resnet18",
    "timm/swin_tiny_patch4_window7_224",
    "timm/vgg11_bn",
]


def _same_versions():
    for name, version in shipped().versions.items():
        if metadata.version(name) != version:
            pytest.skip(f"the index is of {name} {version}, installed is {metadata.version(name)}")


@functools.cache
def _networks():
    return {network.architecture: network for network in shipped().networks}


def _roles(architecture, role):
    return {slot.name for slot in shipped().slots(_networks()[architecture]) if slot.role == role}


def test_every_network_of_the_zoos_is_in_the_index():
    _same_versions()
    assert list(_networks()) == architectures()


@pytest.mark.parametrize("architecture", SAMPLE)
def test_an_entry_is_what_the_zoo_builds_today(architecture):
    _same_versions()
    network, fresh = _networks()[architecture], record(architecture)
    assert tuple(shipped().slots(network)) == fresh.slots
    for field in ("architecture", "family", "published", "size", "width", "parameters"):
        assert getattr(network, field) == getattr(fresh, field)
    assert network.modules <= set(fresh.modules)


@pytest.mark.parametrize(
    "architecture", ["torchvision/mobilenet_v3_small", "timm/mobilenetv3_small_050", "timm/test_vit"]
)
def test_width_and_parameters_are_those_of_the_network_without_its_classifier(architecture):
    module = catalogue.build_module(architecture)
    with torch.inference_mode():
        features = module(torch.zeros(1, 3, *_networks()[architecture].size))
    assert features.shape == (1, _networks()[architecture].width)
    assert sum(p.numel() for p in module.parameters()) == _networks()[architecture].parameters


def test_the_order_is_the_state_dicts_and_counters_are_in_it():
    state = build("torchvision/resnet18").state_dict()
    slots = shipped().slots(_networks()["torchvision/resnet18"])
    assert [(s.name, s.shape) for s in slots] == [(name, tuple(t.shape)) for name, t in state.items()]
    assert [s.integer for s in slots] == [not t.is_floating_point() for t in state.values()]


def test_parts_are_told_apart():
    deit = "timm/deit_tiny_distilled_patch16_224"
    assert _roles(deit, HEAD) == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    assert _roles(deit, STEM) == {"patch_embed.proj.weight"}
    assert _roles(deit, POSITION) == {"pos_embed"}
    assert _roles("torchvision/squeezenet1_1", HEAD) == {"classifier.1.weight", "classifier.1.bias"}
    assert {name.partition(".")[0] for name in _roles("torchvision/googlenet", HEAD)} == {"aux1", "aux2", "fc"}
    assert "classifier.0.weight" in _roles("torchvision/vgg16", BODY)
    assert _roles("timm/vit_small_patch14_dinov2", HEAD) == {"head.weight", "head.bias"}
    slot = next(s for s in shipped().slots(_networks()[deit]) if s.name == "pos_embed")
    assert (slot.shape, slot.larger, slot.pattern) == ((1, 198, 192), (1, 786, 192), (1, ANY, 192))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("torchvision/resnet18", "timm/resnet18", True),
        ("timm/resnet18", "timm/resnetblur18", False),
        ("timm/vit_tiny_patch16_224", "timm/deit_tiny_patch16_224", True),
        ("timm/mobilenetv3_small_075", "timm/tf_mobilenetv3_small_075", False),
    ],
)
def test_twins_are_one_function_or_not(one, other, same):
    first, second = functions([record(one), record(other)])
    assert (first == second) is same
    kept = _networks()
    assert kept[one].body == kept[other].body
    assert (kept[one].function == kept[other].function) is same


def _made(names):
    records = [record(name) for name in names]
    groups = twin_groups(records)
    return fingerprint_build.encode(records, groups, [[0] * len(group) for group in groups]), records


def test_an_index_comes_back_as_it_was_written_and_always_as_the_same_bytes():
    names = ["torchvision/resnet18", "timm/resnet18", "timm/test_vit"]
    first, records = _made(names)
    assert _made(names)[0] == first
    index = decode(first)
    assert [network.architecture for network in index.networks] == names
    assert [network.body for network in index.networks] == [0, 0, 1]
    for network, one in zip(index.networks, records, strict=True):
        assert tuple(index.slots(network)) == one.slots
    assert "layer1.0.drop_block" in index.networks[1].modules
    assert "layer1.0.relu" in index.networks[0].modules


@pytest.mark.parametrize("content", [None, b"", b"no index", lzma.compress(b"nor this")])
def test_a_damaged_index_is_one_clear_error(tmp_path, monkeypatch, content):
    path = Path(tmp_path, "fingerprints.xz")
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(fingerprints, "_FILE", path)
    shipped.cache_clear()
    try:
        with pytest.raises(CheckpointError, match=r"fingerprints\.xz.*reinstall"):
            shipped()
    finally:
        shipped.cache_clear()


def test_the_index_stays_small():
    assert Path(fingerprints.__file__).with_name("fingerprints.xz").stat().st_size < 1_500_000


@pytest.mark.nightly
def test_building_anew_gives_the_shipped_bytes():
    _same_versions()
    assert fingerprint_build.make() == Path(fingerprints.__file__).with_name("fingerprints.xz").read_bytes()
