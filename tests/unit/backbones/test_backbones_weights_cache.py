"""Weights files: where they are looked for, and how a download goes wrong."""

import hashlib
import io
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest
import torch

from regraft.backbones import weights_cache
from regraft.backbones.zoo import Entry
from regraft.errors import BackboneUnavailable

_BYTES = b"weights" * 1000
_HASH = hashlib.sha256(_BYTES).hexdigest()


def _entry(**where):
    return Entry(name="timm/x.y", architecture="timm/x", weights="y", **where)


@pytest.mark.parametrize(
    ("variables", "hub", "torch_hub"),
    [
        ({}, "home/.cache/huggingface/hub", "home/.cache/torch/hub/checkpoints"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/hub", "/xdg/torch/hub/checkpoints"),
        ({"HF_HOME": "/hf", "TORCH_HOME": "/t"}, "/hf/hub", "/t/hub/checkpoints"),
        ({"HF_HOME": "/hf", "HF_HUB_CACHE": "/cache"}, "/cache", "home/.cache/torch/hub/checkpoints"),
    ],
)
def test_folders_follow_the_libraries_variables(monkeypatch, tmp_path, variables, hub, torch_hub):
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert weights_cache.hub_folder() == tmp_path / hub
    assert weights_cache.torch_folder() == tmp_path / torch_hub


def test_the_hubs_own_library_finds_the_same_file(put_on_hub, zoo_home):
    from huggingface_hub import try_to_load_from_cache

    path = put_on_hub("org/repo", {"a": torch.zeros(1)})
    assert weights_cache.find(_entry(repo="org/repo")) == path
    assert try_to_load_from_cache("org/repo", "model.safetensors", cache_dir=weights_cache.hub_folder()) == str(path)


def test_revisions_and_own_file_names_are_followed(put_on_hub):
    path = put_on_hub("org/repo", {"a": torch.zeros(1)}, "other.safetensors", revision="v2")
    assert weights_cache.find(_entry(repo="org/repo@v2", filename="other.safetensors")) == path
    assert weights_cache.find(_entry(repo="org/repo@" + path.parent.name, filename="other.safetensors")) == path
    assert weights_cache.find(_entry(repo="org/repo")) is None


def test_the_torch_cache_is_the_second_place(zoo_home):
    path = zoo_home / "torch" / "hub" / "checkpoints" / "x-0123abcd.pth"
    entry = _entry(repo="org/repo", url="https://host/folder/x-0123abcd.pth?download=true")
    assert weights_cache.find(entry) is None
    assert not weights_cache.anything_cached()
    path.write_bytes(b"x")
    assert weights_cache.find(entry) == path
    assert weights_cache.anything_cached()


class _Answer(io.BytesIO):
    def __init__(self, content, length):
        super().__init__(content)
        self.headers = Message()
        self.headers["Content-Length"] = str(length)


def _serve(monkeypatch, answer):
    asked = []

    def urlopen(request, timeout):
        asked.append((getattr(request, "full_url", request), timeout))
        return answer(request) if callable(answer) else answer

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_a_download_lands_in_torchs_cache(zoo_home, monkeypatch):
    asked = _serve(monkeypatch, _Answer(_BYTES, len(_BYTES)))
    path = weights_cache.fetch(_entry(url=f"https://host/x-{_HASH[:8]}.pth"))
    assert path == zoo_home / "torch" / "hub" / "checkpoints" / f"x-{_HASH[:8]}.pth"
    assert path.read_bytes() == _BYTES
    assert asked[0][1] <= 10


@pytest.mark.parametrize(
    ("name", "length", "message"),
    [("x-00000000.pth", len(_BYTES), "hash"), ("x.pth", len(_BYTES) + 1, "length")],
)
def test_a_damaged_download_leaves_no_file(zoo_home, monkeypatch, name, length, message):
    _serve(monkeypatch, _Answer(_BYTES, length))
    with pytest.raises(BackboneUnavailable, match=message):
        weights_cache.fetch(_entry(url=f"https://host/{name}"))
    assert list((zoo_home / "torch" / "hub" / "checkpoints").iterdir()) == []


def test_only_https_is_downloaded(zoo_home, monkeypatch):
    asked = _serve(monkeypatch, None)
    for url in ("http://host/x.pth", "file:///etc/passwd"):
        with pytest.raises(BackboneUnavailable, match="https"):
            weights_cache.fetch(_entry(url=url))
    assert asked == []


def _not_found(request):
    raise urllib.error.HTTPError(request.full_url, 404, "not found", Message(), io.BytesIO())


def test_a_repository_without_the_files_is_said(zoo_home, monkeypatch):
    asked = _serve(monkeypatch, _not_found)
    with pytest.raises(BackboneUnavailable, match="org/repo has no such file"):
        weights_cache.fetch(_entry(repo="org/repo"))
    assert [url.rpartition("/")[2] for url, _ in asked] == ["model.safetensors", "pytorch_model.bin"]


def test_the_hubs_library_downloads_what_exists(zoo_home, monkeypatch):
    import huggingface_hub

    _serve(monkeypatch, lambda request: io.BytesIO())
    seen = {}

    def download(repo, filename, **options):
        seen.update(options, repo=repo, filename=filename)
        return str(zoo_home / "got.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert weights_cache.fetch(_entry(repo="org/repo@v1")) == zoo_home / "got.safetensors"
    assert (seen["repo"], seen["filename"], seen["revision"]) == ("org/repo", "model.safetensors", "v1")
    assert seen["cache_dir"] == weights_cache.hub_folder()


def test_a_refusal_of_the_hub_is_an_error_of_ours(zoo_home, monkeypatch):
    import huggingface_hub

    class GatedError(Exception):
        pass

    def refuse(*_args, **_options):
        raise GatedError("access to this model is restricted\nsecond line")

    _serve(monkeypatch, lambda request: io.BytesIO())
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(BackboneUnavailable, match=r"Not downloaded: access to this model is restricted\.$"):
        weights_cache.fetch(_entry(repo="org/repo"))


def test_without_a_network_it_fails_within_seconds(zoo_home, no_network):
    begun = time.monotonic()
    with pytest.raises(BackboneUnavailable) as caught:
        weights_cache.fetch(_entry(repo="org/repo", url="https://host/x-0123abcd.pth"))
    assert time.monotonic() - begun < 15
    for part in ("model.safetensors or pytorch_model.bin", "org/repo", "x-0123abcd.pth", "Name or service not known"):
        assert part in str(caught.value)
