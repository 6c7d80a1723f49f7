"""State dicts are found by what they hold, wherever they stand, and the right one comes first."""

import copy
from argparse import Namespace

import pytest
import torch
from torch import nn

from regraft.checkpoints.read import read_checkpoint
from regraft.errors import CheckpointError


def _net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


RAW = _net(0).state_dict()
AVERAGE = _net(1).state_dict()


def _read(tmp_path, content, **options):
    torch.save(content, tmp_path / "w.pth")
    return read_checkpoint(tmp_path / "w.pth", **options)


def _same(left, right):
    assert list(left) == list(right)
    assert all(torch.equal(left[name], right[name]) for name in left)


def _under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def _tree(state):
    root = {}
    for name, tensor in state.items():
        *words, last = name.split(".")
        place = root
        for word in words:
            place = place.setdefault(word, {})
        place[last] = tensor
    return root


@pytest.mark.parametrize(
    "key",
    ["state_dict", "state_dict_ema", "model", "model_ema", "model_state_dict", "model_G_state_dict", "net", "module",
     "teacher", "student", "any other key", "my.key"],
)  # fmt: skip
def test_one_state_dict_under_any_key(tmp_path, key):
    read = _read(
        tmp_path, {"epoch": 3, key: RAW, "optimizer": {"state": {0: {"a": torch.ones(9)}}, "param_groups": []}}
    )
    assert [part.name for part in read.parts] == [key]
    _same(read.state_dict, RAW)
    assert read.notes == ()
    assert read.extras == {"epoch": "3", "optimizer": "dict with 2 entries"}


def test_deep_and_in_lists(tmp_path):
    read = _read(tmp_path, [{"a": {"b": {"weights": RAW}}}, {"lr": 0.1}])
    assert [part.name for part in read.parts] == ["0.a.b.weights"]
    _same(read.state_dict, RAW)


@pytest.mark.parametrize(
    ("raw", "average"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("net", "ema"), ("student", "teacher"),
     ("model", "averaged_model"), ("model", "swa_model"), ("state_dict", "EMA"), ("model", "modelEma")],
)  # fmt: skip
def test_averages_come_first_and_the_other_can_be_chosen(tmp_path, raw, average):
    content = {raw: RAW, average: AVERAGE, "epoch": 1}
    read = _read(tmp_path, content)
    assert [part.name for part in read.parts] == [average, raw]
    _same(read.state_dict, AVERAGE)
    (note,) = read.notes
    assert f"2 sets of weights are inside: {average}, {raw}. Used: {average}" in note
    assert "--part" in note
    chosen = _read(tmp_path, content, part=raw)
    _same(chosen.state_dict, RAW)
    assert f"Used: {raw}" in chosen.notes[0]
    with pytest.raises(CheckpointError, match=f"no part nothing.*{average}, {raw}"):
        _read(tmp_path, content, part="nothing")


def test_a_small_average_of_something_else_is_not_preferred(tmp_path):
    read = _read(tmp_path, {"model": RAW, "loss_ema": {"a": torch.ones(2), "b": torch.ones(3)}})
    assert read.part.name == "model"


@pytest.mark.parametrize(
    ("first", "second"),
    [("teacher", "student"), ("model_ema", "model"), ("ema_model", "model"), ("ema", "model"),
     ("encoder_q", "encoder_k"), ("online_encoder", "target_encoder"), ("base_encoder", "momentum_encoder")],
)  # fmt: skip
@pytest.mark.parametrize("start", ["", "module."])
def test_two_networks_in_one_flat_state_dict_are_split(tmp_path, first, second, start):
    one, other = _under(f"{start}{first}.", AVERAGE), _under(f"{start}{second}.", RAW)
    read = _read(tmp_path, {**other, **one, f"{start}queue": torch.zeros(3, 7)})
    assert [part.name for part in read.parts] == [start + first, start + second]
    _same(read.state_dict, one)
    _same(read.parts[1].state_dict, other)
    assert any(f"Left out of {start + first}: {start}queue" in note for note in read.notes)


def test_queries_and_keys_of_attention_are_no_two_networks(tmp_path):
    state = {f"{word}.{end}": torch.ones(4) for word in ("to_q", "to_k", "to_v") for end in ("weight", "bias")}
    assert [part.name for part in _read(tmp_path, state).parts] == [""]


@pytest.mark.parametrize("wrapper", [None, "params"])
def test_a_dict_for_each_layer_is_joined(tmp_path, wrapper):
    read = _read(tmp_path, {wrapper: _tree(RAW), "epoch": 3} if wrapper else _tree(RAW))
    assert [part.name for part in read.parts] == [wrapper or ""]
    _same(read.state_dict, RAW)
    assert read.extras == ({"epoch": "3"} if wrapper else {})


def test_two_trees_beside_each_other(tmp_path):
    read = _read(tmp_path, {"model": _tree(RAW), "model_ema": copy.deepcopy(_tree(AVERAGE))})
    assert [part.name for part in read.parts] == ["model_ema", "model"]
    _same(read.state_dict, _under("model_ema.", AVERAGE))


def test_entries_that_are_no_tensors_are_left_out_and_named(tmp_path):
    read = _read(tmp_path, {"model": {**RAW, "version": 3, "_extra_state": {"a": 1}, 7: "x"}})
    _same(read.state_dict, RAW)
    assert read.notes == ("Left out of model: version, _extra_state, 7.",)


def test_a_flat_file_with_extras(tmp_path):
    read = _read(tmp_path, {**RAW, "epoch": 3, "arch": "resnet18"})
    _same(read.state_dict, RAW)
    assert (read.part.name, read.extras, read.hints) == ("", {"epoch": "3", "arch": "resnet18"}, ("resnet18",))


def test_numbers_of_the_training_are_no_weights(tmp_path):
    content = {
        "model": RAW,
        "best": torch.tensor(0.9),
        "mean": torch.ones(3),
        "optimizer_state_dict": {"momentum": {"a": torch.ones(90), "b": torch.ones(90)}},
        "lr_scheduler": {"a": torch.ones(90), "b": torch.ones(90)},
        "scaler": {"scale": torch.ones(2), "growth": torch.ones(90)},
        "opt": torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict(),
    }
    read = _read(tmp_path, content)
    assert [part.name for part in read.parts] == ["model"]
    assert set(read.extras) == set(content) - {"model"}
    assert read.extras["mean"] == "tensor of shape (3,)"


def test_one_dict_under_two_keys_is_one_part(tmp_path):
    assert len(_read(tmp_path, {"model": RAW, "net": RAW}).parts) == 1


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ({"arch": "resnet50"}, "resnet50"),
        ({"args": Namespace(model="vit_small_patch16_224", lr=1)}, "vit_small_patch16_224"),
        ({"hyper_parameters": {"backbone": "convnext_tiny"}}, "convnext_tiny"),
        ({"config": {"model": {"name": "timm/efficientnet_b0.ra_in1k"}}}, "timm/efficientnet_b0.ra_in1k"),
        ({"arch": "a\x1b[31mb"}, None),
        ({"arch": "x" * 500}, None),
        ({"epoch": "resnet50"}, None),
    ],
)
def test_what_the_file_says_of_its_architecture(tmp_path, content, hint):
    assert _read(tmp_path, {"weights": RAW} | content).hints == ((hint,) if hint else ())


def test_descriptions_cannot_break_a_terminal(tmp_path):
    extras = {"\x1b[2J": "a\nb", "long": "y" * 5000, "number": 10**5000}
    read = _read(tmp_path, {"model": RAW} | extras)
    assert all(key.isprintable() and value.isprintable() and len(value) < 150 for key, value in read.extras.items())
    assert read.extras["number"] == "a long number"
