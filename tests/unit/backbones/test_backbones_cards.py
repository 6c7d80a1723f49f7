"""Cards: read without torch, believed only while nothing has changed."""

import json
import subprocess
import sys

import pytest
import timm

from regraft.backbones import cards, catalogue, index
from regraft.backbones.backbone import BackboneCard
from regraft.errors import BackboneError

_ASK = """
import json, sys, time
from pathlib import Path
from regraft.backbones import catalogue
seconds = []
for _ in range(3):
    begun = time.perf_counter()
    card = catalogue.card(sys.argv[1], Path(sys.argv[2]))
    seconds.append(time.perf_counter() - begun)
heavy = [m for m in ("torch", "timm", "torchvision", "huggingface_hub", "safetensors") if m in sys.modules]
print(json.dumps({"first": seconds[0], "best": min(seconds), "heavy": heavy, "card": card.to_dict()}))
"""


def _ask(name, cache):
    done = subprocess.run(
        [sys.executable, "-c", _ASK, name, str(cache)], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def test_a_known_card_needs_no_heavy_import_and_under_a_tenth_of_a_second(cache):
    made = catalogue.card("efficientnet_lite0", cache)
    answer = _ask("efficientnet_lite0", cache)
    assert answer["heavy"] == []
    assert answer["best"] < 0.1
    assert BackboneCard.from_dict(answer["card"]) == made


def test_the_card_of_a_zoo_needs_no_import_either_with_or_without_tag(tiny_on_hub, cache):
    name, _, _ = tiny_on_hub
    made = catalogue.card(name, cache)
    for asked in (name, made.name):
        answer = _ask(asked, cache)
        assert answer["heavy"] == []
        assert BackboneCard.from_dict(answer["card"]) == made


def _count_makes(monkeypatch):
    made = []
    make = catalogue._make
    monkeypatch.setattr(catalogue, "_make", lambda *args: made.append(args) or make(*args))
    return made


def test_a_card_is_made_once(tiny_on_hub, cache, monkeypatch):
    name, _, _ = tiny_on_hub
    made = _count_makes(monkeypatch)
    first = catalogue.card(name, cache)
    assert catalogue.card(name, cache) == first
    assert len(made) == 1


def test_other_weights_under_the_same_name_give_another_card(tiny_on_hub, put_on_hub, stir, cache):
    name, _, path = tiny_on_hub
    first = catalogue.card(name, cache)
    path.unlink()
    source = stir(timm.create_model("test_resnet.r160_in1k"), seed=1)
    put_on_hub("timm/test_resnet.r160_in1k", source.state_dict())
    second = catalogue.card(name, cache)
    assert second.weights_sha256 != first.weights_sha256
    assert second.stages == first.stages


@pytest.mark.parametrize("damage", ["truncated", "not json", "a list", "other code", "other name", "no card"])
def test_a_kept_card_that_cannot_be_believed_is_made_again(tiny_on_hub, cache, monkeypatch, damage):
    name, _, _ = tiny_on_hub
    first = catalogue.card(name, cache)
    path = cache / "cards" / "timm%2Ftest_resnet.json"
    text = path.read_text()
    kept = json.loads(text)
    changed = {
        "truncated": text[:100],
        "not json": "\0\xff",
        "a list": "[1]",
        "other code": json.dumps({**kept, "code": "0"}),
        "other name": json.dumps({**kept, "asked": "timm/Test_ResNet"}),
        "no card": json.dumps({**kept, "card": {"name": 1}}),
    }[damage]
    path.write_text(changed)
    made = _count_makes(monkeypatch)
    assert catalogue.card(name, cache) == first
    assert len(made) == 1
    assert path.read_text() == text


@pytest.mark.parametrize("what", ["version", "code"])
def test_other_versions_make_a_new_card(tiny_on_hub, cache, monkeypatch, what):
    name, _, _ = tiny_on_hub
    catalogue.card(name, cache)
    if what == "version":
        monkeypatch.setattr(index, "_version", lambda _: "9.9")
    else:
        monkeypatch.setattr(cards, "code_version", lambda: "other")
    assert cards.read_card(name, cache) is None
    made = _count_makes(monkeypatch)
    again = catalogue.card(name, cache)
    assert len(made) == 1
    assert what == "code" or again.versions == {"torch": "9.9", "timm": "9.9"}


def test_versions_are_those_of_the_libraries():
    assert index.versions(("timm", "no-such-package")) == {"timm": timm.__version__, "no-such-package": "not installed"}


def test_a_cache_that_cannot_be_written_only_costs_time(tiny_on_hub, tmp_path, caplog):
    name, _, _ = tiny_on_hub
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert catalogue.card(name, blocked).name == "timm/test_resnet.r160_in1k"
    assert "could not be written" in caplog.text


def test_a_name_cannot_leave_the_cache_folder(cache):
    with pytest.raises(BackboneError, match="There is no backbone"):
        catalogue.card("../../outside", cache)
    assert cards._path("../../outside", cache).parent == cache / "cards"
