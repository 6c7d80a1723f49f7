"""Names: what is listed, what is meant, what is suggested."""

import json
import subprocess
import sys

import pytest

from regraft.backbones import catalogue, lookup
from regraft.errors import BackboneError

_LIST = """
import json, sys
from pathlib import Path
from regraft.backbones import catalogue
found = [item.name for item in catalogue.names(sys.argv[1], Path(sys.argv[2]))]
print(json.dumps([found, catalogue.available(Path(sys.argv[2])), [m for m in ("torch", "timm") if m in sys.modules]]))
"""


def _list_in_a_process(pattern, cache):
    done = subprocess.run(
        [sys.executable, "-c", _LIST, pattern, str(cache)], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A cache folder in which both zoos have been listed."""
    folder = tmp_path_factory.mktemp("listed")
    catalogue.names("", folder)
    return folder


def test_a_packaged_name_imports_no_zoo(cache, zoo_home):
    found, available, heavy = _list_in_a_process("efficientnet_lite0", cache)
    assert found == ["efficientnet_lite0"]
    assert "efficientnet_lite0" in available
    assert heavy == []


def test_zoos_that_were_listed_before_are_not_imported_again(listed, zoo_home):
    found, _, heavy = _list_in_a_process("resnet34", listed)
    assert "timm/resnet34.a1_in1k" in found
    assert "torchvision/resnet34.IMAGENET1K_V1" in found
    assert heavy == []


def test_packaged_come_first_then_what_is_here(listed, zoo_home, put_on_hub):
    import torch

    put_on_hub("timm/tf_efficientnet_lite4.in1k", {"any": torch.zeros(1)})
    items = catalogue.names("lite", listed)
    here = [item.available for item in items if item.source != "packaged"]
    assert [item.name for item in items][:3] == ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    assert items[3].name == "timm/tf_efficientnet_lite4.in1k"
    assert here == [True] + [False] * (len(here) - 1)
    assert items[3].where.endswith("model.safetensors")
    assert items[4].where.startswith("hub repository timm/")
    assert "timm/tf_efficientnet_lite4.in1k" in catalogue.available(listed)


@pytest.mark.parametrize(
    ("pattern", "expected", "absent"),
    [
        ("resnet18*", {"timm/resnet18.a1_in1k", "torchvision/resnet18.IMAGENET1K_V1"}, {"timm/skresnet18.ra_in1k"}),
        ("ResNet18", {"timm/resnet18.a1_in1k", "timm/skresnet18.ra_in1k"}, set()),
        ("timm/resnet18.a?_*", {"timm/resnet18.a1_in1k"}, {"timm/resnet18.fb_ssl_yfcc100m_ft_in1k"}),
        ("*/resnet18.*", {"timm/resnet18.a1_in1k", "torchvision/resnet18.IMAGENET1K_V1"}, set()),
        ("vision/resnet18", {"torchvision/resnet18.IMAGENET1K_V1"}, {"timm/resnet18.a1_in1k"}),
        ("IMAGENET1K_V2", {"torchvision/resnet50.IMAGENET1K_V2"}, {"torchvision/resnet50.IMAGENET1K_V1"}),
    ],
)
def test_patterns(listed, pattern, expected, absent):
    found = {item.name for item in catalogue.names(pattern, listed)}
    assert expected <= found
    assert not absent & found


def test_a_pattern_of_one_zoo_does_not_list_the_other(cache):
    catalogue.names("torchvision/resnet*", cache)
    assert not (cache / "cards" / "index-timm.json").exists()


@pytest.mark.parametrize("pattern", ["no such thing at all", "[", "x" * 5000, "\n", "timm/\udcff", "*?*[!"])
def test_patterns_that_match_nothing_are_an_error_of_ours(listed, pattern):
    if pattern == "\n":  # only white space means all
        assert len(catalogue.names(pattern, listed)) > 1000
        return
    with pytest.raises(BackboneError, match="There is no backbone") as caught:
        catalogue.names(pattern, listed)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("resnet34", "timm/resnet34 or torchvision/resnet34"),
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k?"),
        ("timm/resnet34.nonsense", "timm/resnet34.a1_in1k or"),
        ("torchvision/resnet50.IMAGENET1K_V9", "torchvision/resnet50.IMAGENET1K_V2 or"),
        ("torchvision/ResNet50", "torchvision/resnet50"),
        ("efficientnet_lite3", "efficientnet_lite"),
        ("EfficientNet_Lite0", "efficientnet_lite0"),
        ("timn/resnet34", "timm/resnet34"),
        ("timm/resnet34\n", "timm/resnet34"),
        ("resnett34", "timm/resnet34"),
    ],
)
def test_unknown_names_suggest_close_ones(listed, name, suggested):
    with pytest.raises(BackboneError) as caught:
        catalogue.card(name, listed)
    assert suggested in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "timm/", "/", "../x", "a" * 9999, "é", "\0", "timm/\udcff", "x/y/z"])
def test_odd_names_are_errors_of_ours(listed, name):
    with pytest.raises(BackboneError, match="There is no backbone"):
        catalogue.card(name, listed)


def test_a_name_without_tag_means_the_default(listed):
    assert lookup.resolve("timm/resnet34", listed)[1].name == "timm/resnet34.a1_in1k"
    assert lookup.resolve("torchvision/resnet50", listed)[1].name == "torchvision/resnet50.IMAGENET1K_V2"
    chosen = lookup.resolve("torchvision/resnet50.IMAGENET1K_V1", listed)[1]
    assert chosen.url.endswith("resnet50-0676ba61.pth")


def test_a_list_of_another_version_is_made_anew(listed, tmp_path):
    path = listed / "cards" / "index-torchvision.json"
    kept = json.loads(path.read_text())
    other = tmp_path / "cards" / path.name
    other.parent.mkdir()
    other.write_text(json.dumps({"stamp": {**kept["stamp"], "torchvision": "0"}, "entries": []}))
    assert catalogue.names("torchvision/resnet18", tmp_path)
    assert json.loads(other.read_text()) == kept


@pytest.mark.parametrize("architecture", ["timm/nothing", "x/y", "nothing", ""])
def test_unknown_architectures(architecture):
    with pytest.raises(BackboneError, match="no network"):
        catalogue.build_module(architecture)
