import json
import re

import numpy as np
import pytest

from regraft import heads
from regraft.backbones.backbone import BackboneCard
from regraft.backbones.preprocessing import Preprocessing
from regraft.errors import BundleError
from regraft.inference.bundle import read_bundle
from regraft.inference.checks import SELF, content_sha256, read_card

PYTHON_WORDS = re.compile(r"Error|NoneType|indices|argument|object|subscript|unhashable|Traceback|attribute")
CARD = BackboneCard(
    name="timm/resnet10t.c3_in1k",
    architecture="timm/resnet10t",
    weights="c3_in1k",
    weights_file="/somewhere/model.safetensors",
    weights_sha256="ab" * 32,
    licence="apache-2.0",
    preprocessing=Preprocessing((224, 224), 256, "shorter", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    feature_dim=12,
    parameters=1_000,
    stages=(),
    versions={"timm": "1.0"},
)


def content_of(folder):
    return json.loads((folder / "bundle.json").read_text("utf-8"))


def edit(folder, change, *, signed=True):
    """Change the content of bundle.json; signed, as somebody who knows of the checksum would."""
    content = content_of(folder)
    change(content)
    if signed:
        content[SELF] = content_sha256(content)
    (folder / "bundle.json").write_text(json.dumps(content, indent=3), "utf-8")


def refusal(folder):
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    message = str(caught.value)
    assert str(folder) in message or "saved" in message
    assert not PYTHON_WORDS.search(message), message
    return message


@pytest.mark.parametrize("head", heads.NAMES)
def test_what_is_written_is_read_again(write, features, head):
    folder, bundle = write(head)
    again = read_bundle(folder)
    assert (again.classes, again.views, again.feature_dim) == (bundle.classes, "none", 12)
    assert again.facts["chosen"] == {"log_loss": 0.1, "5": [1, None]}
    np.testing.assert_array_equal(again.head.logits(features.X), bundle.head.logits(features.X))


def test_a_run_or_its_bundle_may_be_named(write, tmp_path):
    folder, _ = write()
    assert read_bundle(tmp_path).folder == read_bundle(folder).folder == folder


def test_other_layout_of_the_same_json_is_no_change(write):
    folder, _ = write()
    content = content_of(folder)
    (folder / "bundle.json").write_text(json.dumps(dict(reversed(content.items()))), "utf-8")
    assert read_bundle(folder).feature_dim == 12


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["classes"].reverse(),
        lambda c: c.update(views="flip"),
        lambda c: c["facts"].update(strategy="mine"),
        lambda c: c.update(more=1),
        lambda c: c.pop(SELF),
        lambda c: c.update({SELF: 5}),
    ],
)
def test_an_edit_is_noticed(write, change):
    folder, _ = write()
    edit(folder, change, signed=False)
    assert "bundle.json was changed after it was written" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["classes"].pop(), "names 2 classes, but its head is for 3"),
        (lambda c: c["head"]["settings"].update(n_classes=10**12), "names 3 classes"),
        (lambda c: (c["classes"].pop(), c["head"]["settings"].update(n_classes=2)), "into 2 classes"),
        (lambda c: c.update(classes=["a", "a", "b"]), "distinct names"),
        (lambda c: c.update(classes=["a", ["b"], {}]), "distinct names"),
        (lambda c: c.update(classes={"a": 1}), "'classes' is not a list"),
        (lambda c: c.update(classes=None), "'classes' is not a list"),
        (lambda c: c.update(feature_dim=13), "does not turn 13 features"),
        (lambda c: c.update(feature_dim=10**18), "does not turn"),
        (lambda c: c.update(feature_dim=-1), "'feature_dim' is -1"),
        (lambda c: c.update(feature_dim="12"), "'feature_dim' is not a whole number"),
        (lambda c: c.update(feature_dim=True), "'feature_dim' is not a whole number"),
        (lambda c: c.update(head=[1]), "'head' is not a group"),
        (lambda c: c["head"].update(name=["svm"]), "no name or no settings"),
        (lambda c: c["head"].update(settings=3), "no name or no settings"),
        (lambda c: c["head"].update(name="mamba"), r"head 'mamba'.*newer Regraft may be needed"),
        (lambda c: c["head"].update(name="knn"), "saved knn head does not have the parts"),
        (lambda c: c.update(views="upside-down"), "'views' is 'upside-down'; known: none, flip"),
        (lambda c: c.update(precision=32), "'precision' is not a text"),
        (lambda c: c.update(runtime="tpu"), "'runtime' is 'tpu'"),
        (lambda c: c.update(facts=[]), "'facts' is not"),
        (lambda c: c.pop("facts"), "'facts' is not"),
        (lambda c: c.update(sha256=7), "'sha256' is not"),
        (lambda c: c["sha256"].clear(), "no checksum of head.safetensors"),
        (lambda c: c["sha256"].update({"../x": "0"}), "does not belong"),
        (lambda c: c.update(backbones=[[]]), "does not describe a backbone"),
        (lambda c: c.update(backbones="resnet"), "'backbones' is not a list"),
        (lambda c: c.update(backbones=[{"name": "x"}]), "does not describe a backbone"),
        (lambda c: c.update(backbones=[{**CARD.to_dict(), "feature_dim": 64}]), "gives 64 features"),
        (lambda c: c.update(backbones=[CARD.to_dict()]), "no checksum of backbone.safetensors"),
        (lambda c: c.update(format=4), "bundle format 4; this Regraft reads up to 3"),
        (lambda c: c.update(format=3), "two dates"),
        (lambda c: c.update(format=[1]), "which format"),
    ],
)
def test_content_that_does_not_fit_is_damage_in_plain_words(write, change, words):
    folder, _ = write()
    edit(folder, change)
    assert re.search(words, refusal(folder))


@pytest.mark.parametrize("value", [0, -1.0, "warm", None, float("nan"), True])
def test_a_temperature_is_a_number_above_zero(write, value):
    folder, _ = write("svm-linear")
    edit(folder, lambda c: c["head"]["settings"].update(temperature=value))
    assert "temperature" in refusal(folder)


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"format": 1}', "[" * 100_000, "\xff"])
def test_no_bundle_json_at_all(write, text):
    folder, _ = write()
    (folder / "bundle.json").write_bytes(text.encode("latin-1"))
    assert "damaged" in refusal(folder)


def test_files_that_changed_or_are_missing_are_named(write):
    folder, _ = write()
    weights = folder / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert "head.safetensors was changed" in refusal(folder)
    weights.unlink()
    assert "head.safetensors is missing" in refusal(folder)


def test_what_is_not_there_is_said_to_be_not_there(tmp_path):
    assert f"{tmp_path / 'nowhere'} does not exist" in refusal(tmp_path / "nowhere")
    assert "holds no bundle" in refusal(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": None},
        {"preprocessing": {**CARD.to_dict()["preprocessing"], "size": "large"}},
        {"stages": [{"name": "x"}]},
        {"stages": 3},
        {"parameters": "many"},
        {"licence": None},
        {"versions": []},
        {"further": 1},
    ],
)
def test_a_card_of_wrong_types_is_no_card(change):
    values = json.loads(json.dumps(CARD.to_dict()))
    values["preprocessing"]["size"] = [224, 224]
    assert read_card(values).feature_dim == 12
    assert read_card({**values, **change}) is None


def test_its_text_is_one_short_line(write):
    folder, bundle = write()
    assert repr(bundle) == "Bundle(linear-probe on a feature file, 3 classes)"
    assert repr(read_bundle(folder)) == f"Bundle(linear-probe on a feature file, 3 classes, {str(folder)!r})"


def test_bundles_of_the_first_format_are_read(write):
    folder, bundle = write()
    edit(folder, lambda c: (c.update(format=1, backbone=None), c.pop("backbones")))
    found = read_bundle(folder)
    assert found.cards == ()
    assert found.head.arrays().keys() == bundle.head.arrays().keys()
    edit(folder, lambda c: c.update(backbone={**CARD.to_dict(), "feature_dim": 64}))
    assert re.search("gives 64 features", refusal(folder))


def test_features_of_several_backbones_add_up(write):
    folder, _ = write()
    halves = [{**CARD.to_dict(), "feature_dim": 5}, {**CARD.to_dict(), "feature_dim": 6}]
    edit(folder, lambda c: c.update(backbones=halves))
    assert re.search("gives 5 and 6 features, but its 'feature_dim' is 12", refusal(folder))
    halves[1]["feature_dim"] = 7
    edit(folder, lambda c: c.update(backbones=halves))
    assert re.search("no checksum of backbone(-2)?.safetensors", refusal(folder))
