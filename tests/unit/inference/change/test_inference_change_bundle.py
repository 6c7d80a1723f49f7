"""The bundle of a change model: what is written is read again, and damage is told in plain words."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regraft.backbones.cards import sha256
from regraft.errors import BundleError
from regraft.inference.bundle import read_bundle
from regraft.inference.change.bundle import is_change_model, read_change_bundle
from regraft.inference.change.predictor import ChangePredictor, load_change
from regraft.inference.checks import SELF, content_sha256

PYTHON_WORDS = re.compile(r"Error|NoneType|indices|argument|object|subscript|unhashable|Traceback|attribute")


@pytest.fixture(autouse=True)
def _one(one_thread):
    pass


def content_of(folder):
    return json.loads((folder / "bundle.json").read_text("utf-8"))


def edit(folder, change, *, signed=True):
    """Change the content of bundle.json; signed, as somebody who knows of the checksum would."""
    content = content_of(folder)
    change(content)
    if signed:
        content[SELF] = content_sha256(content)
    (folder / "bundle.json").write_text(json.dumps(content, indent=3), "utf-8")


def refusal(folder, read=read_change_bundle):
    with pytest.raises(BundleError) as caught:
        read(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert not PYTHON_WORDS.search(message), message
    return message


def test_what_is_written_is_read_again(change_bundle):
    folder, bundle, net = change_bundle()
    again = read_change_bundle(folder)
    for name in ("classes", "network", "card", "bands", "dtype", "scale", "tile", "threshold"):
        assert getattr(again, name) == getattr(bundle, name), name
    assert again.facts["strategy"] == "scratch"
    assert again.identity == content_of(folder)[SELF]
    built = again.build()
    assert not built.training
    assert built.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in built.state_dict().items())
    x = torch.randn(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(built(x), net(x))


@pytest.mark.parametrize("network", ["unet", "linear", "bit:neck=last,stages=3,tokens=pool"])
def test_every_network_survives(change_bundle, network):
    folder, _, net = change_bundle(network=network)
    built = read_change_bundle(folder).build()
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in built.state_dict().items())


def test_other_bands_and_classes_survive(change_bundle):
    folder, _, net = change_bundle(bands=5, dtype="uint16", classes=("unchanged", "class 1", "class 2"))
    built = read_change_bundle(folder).build()
    x = torch.randn(1, 2, 5, 32, 32)
    with torch.no_grad():
        assert built(x).shape == (1, 3, 32, 32)
        torch.testing.assert_close(built(x), net(x))


def test_a_run_or_its_bundle_may_be_named(change_bundle, tmp_path):
    folder, *_ = change_bundle()
    assert read_change_bundle(tmp_path).folder == read_change_bundle(folder).folder == folder
    assert is_change_model(tmp_path)
    assert is_change_model(folder)
    assert isinstance(load_change(str(tmp_path)), ChangePredictor)


def test_other_layout_of_the_same_json_is_no_change(change_bundle):
    folder, *_ = change_bundle()
    content = content_of(folder)
    (folder / "bundle.json").write_text(json.dumps(dict(reversed(content.items()))), "utf-8")
    assert read_change_bundle(folder).tile == 32


def test_a_reader_of_single_images_says_what_it_is(change_bundle):
    folder, *_ = change_bundle()
    assert "two dates" in refusal(folder, read_bundle)
    edit(folder, lambda c: c.update(format=2))
    assert "one image" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["classes"].reverse(),
        lambda c: c.update(threshold=0.1),
        lambda c: c["facts"].update(strategy="mine"),
        lambda c: c.update(more=1),
        lambda c: c.pop(SELF),
        lambda c: c.update({SELF: 5}),
    ],
)
def test_an_edit_is_noticed(change_bundle, change):
    folder, *_ = change_bundle()
    edit(folder, change, signed=False)
    assert "bundle.json was changed after it was written" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(classes=["a"]), "'classes' are not two names or more"),
        (lambda c: c.update(classes=["a", 2]), "'classes' are not two names"),
        (lambda c: c.update(classes={"a": 1, "b": 2}), "'classes' are not two names"),
        (lambda c: c.pop("classes"), "'classes' are not two names"),
        (lambda c: c.update(network=None), "'network' or its 'facts'"),
        (lambda c: c.update(facts=[]), "'network' or its 'facts'"),
        (lambda c: c.update(sha256=[]), "'sha256' is not a group"),
        (lambda c: c["sha256"].clear(), "no checksum of backbone.safetensors"),
        (lambda c: c["sha256"].update({"../x": "0"}), "does not belong"),
        (lambda c: c.update(backbones=[]), "do not describe one backbone"),
        (lambda c: c.update(backbones=c["backbones"] * 2), "do not describe one backbone"),
        (lambda c: c.update(backbones=[{"name": "x"}]), "do not describe one backbone"),
        (lambda c: c.update(bands=0), "'bands' is 0"),
        (lambda c: c.update(bands="3"), "'bands' is '3'"),
        (lambda c: c.update(bands=4), "'scale' is not of 4 bands"),
        (lambda c: c.update(tile=10**9), "'tile' is 1000000000"),
        (lambda c: c.update(tile=True), "'tile' is True"),
        (lambda c: c.update(dtype="colour"), "'dtype' is "),
        (lambda c: c.update(dtype="float64"), "'dtype' is "),
        (lambda c: c.update(dtype=None), "'dtype' is "),
        (lambda c: c.update(scale={}), "'scale' is not there"),
        (lambda c: c.update(scale=[1]), "'scale' is not there"),
        (lambda c: c["scale"].update(offset=["a", "b", "c"]), "'scale' is not there"),
        (lambda c: c["scale"].update(scale=[1.0]), "'scale' is not of 3 bands"),
        (lambda c: c["scale"].update(scale=[10**400] * 3), "'scale' is not there"),
        (lambda c: c["scale"].update(scale=[float("nan")] * 3), "'scale'"),
        (lambda c: c.update(threshold=1.5), "'threshold' is 1.5"),
        (lambda c: c.update(threshold=float("nan")), "'threshold' is nan"),
        (lambda c: c.update(threshold=None), "'threshold' is None"),
        (lambda c: c.update(threshold=True), "'threshold' is True"),
        (lambda c: c.update(format=4), "bundle format 4; this Regraft reads up to 3"),
        (lambda c: c.update(format="3"), "which format"),
    ],
)
def test_content_that_does_not_fit_is_damage_in_plain_words(change_bundle, change, words):
    folder, *_ = change_bundle()
    edit(folder, change)
    assert re.search(words, refusal(folder))


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"format": 3}', "[" * 100_000, "\xff"])
def test_no_bundle_json_at_all(change_bundle, text):
    folder, *_ = change_bundle()
    (folder / "bundle.json").write_bytes(text.encode("latin-1"))
    assert "damaged" in refusal(folder)


@pytest.mark.parametrize("name", ["head.safetensors", "backbone.safetensors"])
def test_files_that_changed_or_are_missing_are_named(change_bundle, name):
    folder, *_ = change_bundle()
    weights = folder / name
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert f"{name} was changed" in refusal(folder)
    weights.unlink()
    assert f"{name} is missing" in refusal(folder)


def test_what_is_not_there_is_said_to_be_not_there(tmp_path):
    assert f"{tmp_path / 'nowhere'} does not exist" in refusal(tmp_path / "nowhere")
    assert "holds no bundle" in refusal(tmp_path)
    assert "holds no bundle" in refusal(tmp_path, is_change_model)


@pytest.mark.parametrize(
    ("network", "words"),
    [("unet", "do not fit unet"), ("bit:stages=3", "do not fit"), ("mamba", "mamba"), ("bit:width=x", "bit:width=x")],
)
def test_weights_of_another_network_are_refused(change_bundle, network, words):
    folder, *_ = change_bundle()
    edit(folder, lambda c: c.update(network=network))
    assert words in refusal(folder, lambda place: read_change_bundle(place).build())


def test_weights_that_are_no_safetensors_are_refused(change_bundle):
    folder, *_ = change_bundle()
    path = folder / "head.safetensors"
    state = load_file(path)
    path.write_bytes(b"\x08" + path.read_bytes()[1:])
    edit(folder, lambda c: c["sha256"].update({path.name: sha256(path)}))
    assert "no whole safetensors file" in refusal(folder, lambda place: read_change_bundle(place).build())
    save_file({name: tensor for name, tensor in state.items() if "classifier" not in name}, path)
    edit(folder, lambda c: c["sha256"].update({path.name: sha256(path)}))
    assert "do not fit" in refusal(folder, lambda place: read_change_bundle(place).build())


def test_its_text_is_one_short_line(change_bundle):
    folder, bundle, _ = change_bundle()
    assert repr(bundle) == "ChangeBundle(bit:token_len=2 on torchvision/resnet18, 2 classes)"
    assert repr(read_change_bundle(folder)) == repr(bundle)[:-1] + f", {str(Path(folder))!r})"


def test_values_are_scaled_as_written(change_bundle):
    folder, bundle, _ = change_bundle()
    values = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(read_change_bundle(folder).scale.apply(values), bundle.scale.apply(values))
