"""Every container gives back what was written: the same names, types and numbers, with torch and numpy as judges."""

import json
import pickle
import sys
import types
import warnings
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from regraft.checkpoints.read import read_checkpoint
from regraft.errors import CheckpointError

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")]


def _net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.Linear(4, 2))


@pytest.fixture
def state():
    return _net().state_dict()


def _same(left, right):
    assert list(left) == list(right)
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype, name
        assert torch.equal(tensor, right[name]), name


def _training(state):
    """A training checkpoint with all that is admitted beside weights."""
    return {
        "state_dict": state,
        "epoch": 3,
        "args": Namespace(arch="resnet18", lr=np.float32(0.1), out=Path("runs/a"), shape=(1, 2)),
        "best": np.float64(0.5),
        "when": np.array([1, 2, 3]),
        "words": np.array(["a", "bc"]),
        "windows": PureWindowsPath("c:/runs"),
        "groups": defaultdict(list, {"a": [1]}),
        "counts": Counter("aab"),
        "last": deque([1, 2], maxlen=3),
        "settings": types.SimpleNamespace(a=1),
        "random": np.random.RandomState(0).get_state(),
        "rng_state": torch.get_rng_state(),
        "size": torch.Size([1, 2]),
        "device": torch.device("cuda:0"),
        "dtype": torch.bfloat16,
        "seen": {1, "a"},
        "raw": [b"ab\xff", bytearray(b"c"), 1j, None, True, 2**80, -1.5, frozenset({1})],
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_training_checkpoints_of_every_protocol(tmp_path, state, protocol, zipped):
    path = tmp_path / "w.pth"
    torch.save(_training(state), path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path)
    _same(read.state_dict, state)
    assert read.container == ("torch zip" if zipped else "torch legacy")
    assert [part.name for part in read.parts] == ["state_dict"]
    assert read.hints == ("resnet18",)
    assert read.extras["epoch"] == "3"
    assert read.extras["best"] == "0.5"
    assert read.extras["windows"] == "c:\\runs"
    assert read.extras["args"] == "argparse.Namespace with 4 entries"
    assert set(read.extras) == set(_training(state)) - {"state_dict"}


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_what_torchs_own_safe_loader_gives(tmp_path, zipped):
    """Types, views, parameters and shared numbers, against `torch.load(weights_only=True)`."""
    base = torch.arange(24.0)
    content = {
        "view": base.view(4, 6),
        "transposed": base.view(4, 6).T,
        "slice": base[3:9:2],
        "channels": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.rand(3)),
        "scalar": torch.tensor(2.5),
        "nothing": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
        "expanded": torch.ones(1).expand(3, 3),
    }
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
             torch.uint8, torch.complex64, torch.complex128]  # fmt: skip
    kinds += [torch.uint16] if zipped else []  # of the older form, torch itself does not read these
    content |= {str(kind): torch.ones(3).to(kind) for kind in kinds}
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    expected = torch.load(path, weights_only=True)
    read = read_checkpoint(path).state_dict
    _same(read, expected)
    assert {name: tensor.stride() for name, tensor in read.items()} == {n: t.stride() for n, t in expected.items()}
    assert type(read["parameter"]) is torch.Tensor
    assert not any(tensor.requires_grad for tensor in read.values())


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_can_be_changed_and_the_file_stays(tmp_path, state, zipped):
    path = tmp_path / "w.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    before = path.read_bytes()
    for tensor in read_checkpoint(path).state_dict.values():
        tensor.zero_()
    assert path.read_bytes() == before
    _same(read_checkpoint(path).state_dict, state)


def test_names_of_modules_are_kept(tmp_path):
    net = _net()
    torch.save({"model": net.state_dict()}, tmp_path / "w.pth")
    expected = tuple(name for name, _ in net.named_modules() if name)
    assert read_checkpoint(tmp_path / "w.pth").part.modules == expected
    assert "1.1" in expected  # a ReLU, which has no tensors


@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 4))])
def test_torchscript_gives_its_state_dict_without_its_code(tmp_path, make):
    net = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3))).eval()
    script = make(net)
    path = tmp_path / "w.pt"
    script.save(str(path))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "code.pt", "w") as new:
        for info in old.infolist():
            new.writestr(info, b"this is no code (" if "/code/" in info.filename else old.read(info))
    for file in (path, tmp_path / "code.pt"):
        read = read_checkpoint(file)
        _same(read.state_dict, script.state_dict())
        assert read.container == "TorchScript"
        assert read.part.modules == tuple(name for name, _ in net.named_modules() if name)
        assert read.hints == ("torch.nn.modules.container.Sequential",)
    with pytest.raises(RuntimeError):
        torch.jit.load(tmp_path / "code.pt")


def test_frozen_torchscript_says_why_it_has_no_names(tmp_path):
    torch.jit.freeze(torch.jit.script(nn.Linear(2, 2).eval())).save(str(tmp_path / "w.pt"))
    with pytest.raises(CheckpointError, match="frozen"):
        read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    arrays = {
        "Transformer/block_0/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">f4"),
        "half": np.ones(2, np.float16),
        "words": np.array(["a"]),
    }
    save(tmp_path / "w.npz", **arrays)
    read = read_checkpoint(tmp_path / "w.npz")
    assert read.container == "npz"
    assert list(read.state_dict) == [name for name in arrays if name != "words"]
    for name, tensor in read.state_dict.items():
        assert np.array_equal(tensor.numpy(), arrays[name])


def test_npz_keeps_bfloat16_that_numpy_does_not_know(tmp_path):
    numbers = torch.tensor([1.5, -2.0, 3.25], dtype=torch.bfloat16)
    np.savez(tmp_path / "w.npz", a=numbers.view(torch.int16).numpy().view("V2"), b=np.zeros(2, np.float32))
    assert torch.equal(read_checkpoint(tmp_path / "w.npz").state_dict["a"], numbers)


@pytest.mark.parametrize("as_numpy", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_pickles_of_arrays_and_tensors(tmp_path, state, as_numpy, protocol):
    content = {"model": {k: v.numpy() if as_numpy else v for k, v in state.items()}, "__author__": "someone"}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol))
    read = read_checkpoint(tmp_path / "w.pkl")
    _same(read.state_dict, state)
    assert read.container == "pickle"
    assert read.extras == {"__author__": "someone"}


def test_safetensors_with_metadata(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors", {"arch": "resnet18", "note": "a\x1b[31m"})
    read = read_checkpoint(tmp_path / "w.safetensors")
    assert read.metadata == {"arch": "resnet18", "note": "a\x1b[31m"}  # as written: whoever prints it escapes it
    assert read.hints == ("resnet18",)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_joined(tmp_path, state, kind):
    names = list(state)
    places = {name: f"part-{place % 2}.{kind}" for place, name in enumerate(names)}
    for file in set(places.values()):
        shard = {name: state[name] for name in names if places[name] == file}
        (save_file if kind == "safetensors" else torch.save)(shard, tmp_path / file)
    path = tmp_path / f"model.{kind}.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}, indent=2))
    for named in (path, tmp_path, str(path)):
        read = read_checkpoint(named)
        _same(read.state_dict, state)
    assert read.container == ("safetensors in 2 files" if kind == "safetensors" else "torch zip in 2 files")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_shards_in_a_cache_of_links_are_read(tmp_path, state):
    """As download caches lay them out: a folder of links into a folder of files, index and shards alike."""
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    folder.mkdir(parents=True)
    save_file(state, blobs / "1")
    (blobs / "2").write_text(json.dumps({"weight_map": dict.fromkeys(state, "model.safetensors")}))
    (folder / "model.safetensors").symlink_to("../../blobs/1")
    (folder / "model.safetensors.index.json").symlink_to("../../blobs/2")
    _same(read_checkpoint(folder).state_dict, state)


def test_a_folder_with_one_weights_file_may_be_named(tmp_path, state):
    torch.save(state, tmp_path / "a.pth")
    (tmp_path / "config.json").write_text("{}")
    _same(read_checkpoint(tmp_path).state_dict, state)
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"exactly one.*a\.pth, b\.pth"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("writer", ["zip", "legacy", "pickle"])
def test_a_whole_model_needs_trust(tmp_path, state, writer):
    path = tmp_path / "w.pth"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(_net()))
    else:
        torch.save(_net(), path, _use_new_zipfile_serialization=writer == "zip")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.conv\.Conv2d.*--trust") as caught:
        read_checkpoint(path)
    for kind in ("batchnorm.BatchNorm2d", "activation.ReLU", "linear.Linear", "container.Sequential"):
        assert kind in str(caught.value)
    read = read_checkpoint(path, trust=True)
    _same(read.state_dict, state)
    assert read.container == "pickled model"


def test_a_model_inside_a_dict_needs_trust_too(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save({"model": _net(), "epoch": 3}, path)
    read = read_checkpoint(path, trust=True)
    _same(read.state_dict, state)
    assert (read.part.name, read.extras) == ("model", {"epoch": "3"})


def test_trust_says_which_module_is_missing(tmp_path):
    module = types.ModuleType("a_project_of_someone")
    module.Net = type("Net", (nn.Linear,), {"__module__": module.__name__})
    sys.modules[module.__name__] = module
    try:
        torch.save(module.Net(2, 2), tmp_path / "w.pth")
    finally:
        del sys.modules[module.__name__]
    with pytest.raises(CheckpointError, match=r"asks for a_project_of_someone\.Net"):
        read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="module a_project_of_someone, which is not installed"):
        read_checkpoint(tmp_path / "w.pth", trust=True)


def test_trust_changes_nothing_for_a_file_that_needs_none(tmp_path, state):
    torch.save(OrderedDict(state), tmp_path / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = read_checkpoint(tmp_path / "w.pth", trust=True)
    assert read.container == "torch zip"
    _same(read.state_dict, state)


def test_a_deflated_archive_is_read(tmp_path, state):
    """torch stores, but other tools pack again."""
    torch.save(state, tmp_path / "stored.pth")
    with (
        zipfile.ZipFile(tmp_path / "stored.pth") as old,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    _same(read_checkpoint(tmp_path / "w.pth").state_dict, state)
