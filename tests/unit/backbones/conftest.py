"""Weights caches made by code, and a network that is off."""

import socket

import pytest
import timm
import torch
from safetensors.torch import save_file


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """These networks are small."""


@pytest.fixture
def no_network(monkeypatch):
    """Name resolution fails at once, as on a machine without a network; what was asked for is kept."""
    asked = []

    def refuse(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.fixture
def zoo_home(tmp_path, monkeypatch):
    """Empty weights caches of both zoos, under one folder."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


def _stir(module, seed=0):
    """Change every number that is saved a little, so that nothing equals its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.mul_(1 + noise / 10).add_(noise / 1000)
    return module.eval()


@pytest.fixture
def stir():
    return _stir


@pytest.fixture
def put_on_hub(zoo_home):
    """Put a state dict into the hub's cache, laid out as its library does; returns the file's path."""

    def put(repo, state, filename="model.safetensors", revision="main"):
        folder = zoo_home / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
        blob, commit = folder / "blobs" / "ab12", "0123456789abcdef0123456789abcdef01234567"
        snapshot = folder / "snapshots" / commit
        for parent in (blob.parent, snapshot, folder / "refs"):
            parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
        if filename.endswith(".safetensors"):
            save_file(state, blob)
        else:
            torch.save(state, blob)
        (snapshot / filename).symlink_to(blob)
        return snapshot / filename

    return put


@pytest.fixture
def tiny_on_hub(put_on_hub):
    """A very small timm network with random weights in the hub's cache: its name, the source, the file."""
    source = _stir(timm.create_model("test_resnet.r160_in1k"))
    path = put_on_hub("timm/test_resnet.r160_in1k", source.state_dict())
    return "timm/test_resnet", source, path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"
