"""Reading weights files: by content, without running anything, with one clear error for what is none."""

import io
import json
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from regraft.checkpoints.read import read_state_dict
from regraft.errors import CheckpointError


@pytest.fixture
def state():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()


def _same(left, right):
    assert list(left) == list(right)
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=0)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_torch_files_are_read_with_and_without_wrapper(tmp_path, state, zipped, wrapper):
    path = tmp_path / "weights.anything"
    content = {wrapper: state, "epoch": 3} if wrapper else state
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    _same(read_state_dict(path), state)


def test_safetensors_are_told_by_content(tmp_path, state):
    path = tmp_path / "weights.pth"
    save_file(state, path)
    read = read_state_dict(path)
    assert set(read) == set(state)
    for name, tensor in state.items():
        assert torch.equal(read[name], tensor)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are unicode")
@pytest.mark.parametrize("writer", [torch.save, save_file])
def test_names_that_are_not_utf8_work(tmp_path, state, writer):
    writer(state, tmp_path / "w")
    path = (tmp_path / "w").rename(tmp_path / b"w\xff\xe9.pth".decode(errors="surrogateescape"))
    read = read_state_dict(path)
    assert set(read) == set(state)
    assert torch.equal(read["0.weight"], state["0.weight"])


def _truncated(whole, path):
    path.write_bytes(whole[: len(whole) // 2])


class _Command:
    def __reduce__(self):
        return (Path.touch, (Path(self.target),))


def _broken(kind, path, state):
    """Write a file that must be refused."""
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization="legacy" not in kind)
    whole = buffer.getvalue()
    if kind in {"truncated zip", "truncated legacy"}:
        _truncated(whole, path)
    elif kind == "truncated safetensors":
        save_file(state, path)
        _truncated(path.read_bytes(), path)
    elif kind == "safetensors header":
        path.write_bytes((50).to_bytes(8, "little") + b"{" + b"x" * 60)
    elif kind == "foreign zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "a")
    elif kind == "legacy list":
        torch.save([torch.zeros(2)], path)
    else:
        content = {
            "empty": b"",
            "text": b"hello, not weights",
            "short": b"\x80",
            "json": json.dumps({"a": 1}).encode(),
            "pickle of numbers": pickle.dumps({"a": 1}),
        }
        path.write_bytes(content[kind])


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "text",
        "short",
        "json",
        "pickle of numbers",
        "truncated zip",
        "truncated legacy",
        "truncated safetensors",
        "safetensors header",
        "foreign zip",
        "legacy list",
    ],
)
def test_what_is_no_weights_file_gives_one_error_with_its_path(tmp_path, state, kind):
    path = tmp_path / "w.pth"
    _broken(kind, path, state)
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path, zipped):
    command = _Command()
    command.target = str(tmp_path / "executed")
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(1), "b": command}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="never runs"):
        read_state_dict(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no tensors"),
        ({"a": 1}, "no tensors.*start with a"),
        ({1: torch.zeros(1)}, "no tensors.*start with 1"),
        ({"steps": torch.zeros(3, dtype=torch.int64)}, "no tensors"),
        (torch.zeros(1), "a single tensor"),
        ({"a": torch.zeros(2).to_sparse()}, "dense"),
        ({"a": torch.zeros(2, device="meta")}, "dense"),
        ({"model": [1]}, "no tensors.*start with model"),
    ],
)
def test_content_that_is_no_state_dict_is_said(tmp_path, content, message):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(path)


def test_missing_files_and_folders_are_errors_of_ours(tmp_path):
    for path in (tmp_path, tmp_path / "none.pth", tmp_path / "nul\0l"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_state_dict(path)


def test_what_was_downloaded_instead_is_named(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        read_state_dict(path)
    path.write_bytes(b"\n<!DOCTYPE html><html></html>")
    with pytest.raises(CheckpointError, match="web page"):
        read_state_dict(path)


def test_a_safetensors_header_of_any_length_is_told_from_json(tmp_path, state):
    """Its length comes first and may spell a space and a brace, as JSON starts."""
    path = tmp_path / "w.safetensors"
    wanted = int.from_bytes(b" {", "little")
    save_file(state, path, {"fill": ""})
    length = int.from_bytes(path.read_bytes()[:8], "little")
    save_file(state, path, {"fill": "x" * (wanted - length)})
    assert path.read_bytes()[:2] == b" {"
    assert set(read_state_dict(path)) == set(state)
