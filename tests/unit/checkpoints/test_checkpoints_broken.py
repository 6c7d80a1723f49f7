"""Broken and hostile files that run nothing, but lie: one clear error each, nothing left open or half read."""

import io
import json
import pickle
import struct
import sys
import tarfile
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import CARRIERS, call, name, text, tuple_of, whole
from safetensors.torch import save_file
from torch import nn

from regraft.checkpoints.read import read_checkpoint
from regraft.errors import CheckpointError

STORAGE = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x04tQ"
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
MANY = b"\x8a\x06\x00\x00\x00\x00\x00\x01"  # 2**40


def _number(value):
    return b"J" + struct.pack("<i", value)


def _claims(size, stride, offset=0, storage=STORAGE):
    """A pickle with one tensor over four stored numbers."""
    numbers = [b"(" + b"".join(part if isinstance(part, bytes) else _number(part) for part in row) + b"t"
               for row in (size, stride)]  # fmt: skip
    arguments = [storage, offset if isinstance(offset, bytes) else _number(offset), *numbers, b"\x89", b"}"]
    return whole(b"}(" + text("weight") + call(REBUILD, *arguments) + b"u")


def _saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def _state():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()


def _safetensors(header, numbers=b"\0" * 16):
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + numbers


def _entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def _archive(*entries, how=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for title, data in entries:
            archive.writestr(title, data)
    return buffer.getvalue()


def _npy(dtype, shape):
    """The header of an array, without any numbers."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _quantized():
    return _saved({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "b": torch.zeros(2)})


def _bomb():
    return _archive(("a/data.pkl", b"\0" * 100_000_000), ("a/data/0", b""), how=zipfile.ZIP_DEFLATED)


def _quoted_bomb():
    """An entry whose declared size is a lie: the directory says more than there is."""
    whole_file = bytearray(_saved({"a": torch.zeros(64)}))
    place = whole_file.rfind(b"data/0") - 46 - len("archive/")
    struct.pack_into("<II", whole_file, place + 20, 2_000_000_000, 2_000_000_000)
    return bytes(whole_file)


def _shifted():
    whole_file = bytearray(_saved(_state()))
    place = whole_file.rfind(b"PK\x01\x02")
    struct.pack_into("<I", whole_file, place + 42, 7)
    return bytes(whole_file)


def _tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for title in ("sys_info", "pickle", "storages"):
            archive.addfile(tarfile.TarInfo(title), io.BytesIO())
    return buffer.getvalue()


def _cyclic_only():
    ring = {}
    ring["self"], ring["list"] = ring, [ring]
    return _saved(ring)


def _hash_bomb():
    """A key of tuples in tuples, whose hash would take 2**60 steps."""
    return whole(b"}(" + b")" + b"2\x86" * 60 + b"K\x01u")


def _nested_dicts(depth):
    return whole(b"}" + b"".join(b"(X\x01\x00\x00\x00a}" for _ in range(depth)) + b"u" * depth)


def _expanded():
    return _saved({"tiny": torch.zeros(2), "huge": torch.zeros(1).expand(40_000, 40_000)})


def _many_views():
    base = torch.zeros(1_000_000)
    return _saved({f"t{place}": base.view(1000, 1000) for place in range(100)})


def _long_name():
    return _saved({"a" * 5000: torch.zeros(2, 2), "b": torch.zeros(2)})


BYTES = {
    "empty": lambda: b"",
    "one byte": lambda: b"\x80",
    "text": lambda: b"hello, not weights",
    "a web page": lambda: b"<!DOCTYPE html><html><head><title>404</title></head></html>",
    "a pointer of git lfs": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "zeros": lambda: b"\0" * 10_000,
    "json": lambda: b'{"a": 1}',
    "json cut short": lambda: b'{"weight_map": {"a": ',
    "json so deep": lambda: b'{"weight_map":' * 100_000,
    "tar of torch 0.1": _tar,
    "zip cut in half": lambda: _saved(_state())[:900],
    "zip without its end": lambda: _saved(_state())[:-30],
    "zip of something else": lambda: _archive(("readme.txt", b"hello")),
    "zip with a weights file in it": lambda: _archive(("model.pth", _saved(_state()))),
    "zip bomb": _bomb,
    "zip with repeated entries": lambda: _archive(*[("a/data.pkl", b"\x80\x02}.")] * 2),
    "zip whose entry lies about its size": _quoted_bomb,
    "zip whose entry lies elsewhere": _shifted,
    "zip of a big-endian machine": lambda: _archive(("a/data.pkl", b"\x80\x02}."), ("a/byteorder", b"big")),
    "legacy cut short": lambda: _saved(_state(), _use_new_zipfile_serialization=False)[:-10],
    "legacy cut in its pickles": lambda: _saved(_state(), _use_new_zipfile_serialization=False)[:60],
    "legacy of another version": lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(7, 2) * 4,
    "pickle of numbers": lambda: pickle.dumps({"a": 1}),
    "pickle that takes more than it gave": lambda: b"\x80\x02\x87.",
    "pickle with a huge memo": lambda: b"\x80\x02}r\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "pickle with a text of 4 GB": lambda: b"\x80\x02X\xff\xff\xff\xffabc.",
    "pickle with bytes of 2**62": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "pickle with a long number": lambda: b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "pickle with a number of a million digits": lambda: b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.",
    "pickle with an endless line": lambda: b"\x80\x02c" + b"a" * 100_000,
    "pickle with a key that never hashes": _hash_bomb,
    "pickle of bytes by the number": lambda: whole(call(name("builtins", "bytearray"), MANY)),
    "pickle 100 000 dicts deep": lambda: _nested_dicts(100_000),
    "pickle with extension codes": lambda: b"\x80\x02\x82\x01.",
    "pickle that calls a value": lambda: whole(b"K\x01)R"),
    "pickle that names state for a text": lambda: whole(text("a") + b"}b"),
    "numpy objects in a pickle": lambda: pickle.dumps({"a": np.array([{}, []], dtype=object)}, 2),
    "numpy array of a wrong size": lambda: pickle.dumps({"a": np.zeros(3)}, 2).replace(b"K\x03\x85", b"K\x09\x85"),
    "cyclic dicts": _cyclic_only,
    "no tensors": lambda: _saved({}),
    "a list": lambda: _saved([1, 2]),
    "a lone tensor": lambda: _saved(torch.zeros(2)),
    "numbers under numbers": lambda: _saved({1: torch.zeros(2), 2: torch.zeros(2)}),
    "only an optimiser": lambda: _saved(torch.optim.SGD([torch.zeros(2, 2)], momentum=0.9).state_dict()),
    "sparse": lambda: _saved({"a": torch.eye(3).to_sparse(), "b": torch.zeros(2)}),
    "meta": lambda: _saved({"a": torch.zeros(2, device="meta"), "b": torch.zeros(2)}),
    "quantized": _quantized,
    "a tensor far above its storage": _expanded,
    "a hundred tensors over one storage": _many_views,
    "a name that colours the terminal": lambda: _saved({"a\x1b[31m": torch.zeros(2), "b": torch.zeros(2)}),
    "a name with a line break": lambda: _saved({"a\nb": torch.zeros(2), "b": torch.zeros(2)}),
    "a name without an end": _long_name,
    "safetensors cut short": lambda: _safetensors({"a": _entry(0, 8), "b": _entry(8, 16)}, b"\0" * 9),
    "safetensors with a broken header": lambda: _safetensors(b"{" + b"x" * 60),
    "safetensors with a huge header": lambda: struct.pack("<Q", 90_000_000) + b'{"a":',
    "safetensors that overlap": lambda: _safetensors({"a": _entry(0, 8), "b": _entry(4, 12)}),
    "safetensors beyond the end": lambda: _safetensors({"a": _entry(0, 8), "b": _entry(8, 800, (198,))}),
    "safetensors of another shape": lambda: _safetensors({"a": _entry(0, 16, (2**40, 2**40))}),
    "safetensors of an unknown type": lambda: _safetensors({"a": _entry(0, 16, (4,), "F99")}),
    "npz with objects": lambda: _archive(("a.npy", _npy("|O", (1,)))),
    "npz of a wrong size": lambda: _archive(("a.npy", _npy("<f4", (2**40,)))),
    "npz bomb": lambda: _archive(("a.npy", b"\0" * 100_000_000), how=zipfile.ZIP_DEFLATED),
    "npz whose header is code": lambda: _archive(("a.npy", b"\x93NUMPY\x01\x00\x10\x00__import__('os')")),
}  # fmt: skip

TENSORS = {
    "a tensor beyond its numbers": _claims([100], [1]),
    "a tensor of 2**40 numbers": _claims([MANY], [1]),
    "a tensor whose stride leads outside": _claims([2, 2], [1000, 1]),
    "a tensor that starts outside": _claims([2], [1], 100),
    "a tensor of negative size": _claims([-1], [1]),
    "a tensor of negative stride": _claims([2], [-1]),
    "a tensor that starts before": _claims([2], [1], -1),
    "a tensor whose sizes are text": _claims([text("4")], [1]),
    "a tensor of sizes and strides that differ in number": _claims([2, 2], [1]),
    "a tensor whose numbers are text": _claims([2], [1], storage=text("numbers")),
    "a tensor whose numbers are missing": _claims([2], [1], storage=STORAGE.replace(text("0"), text("../9"))),
    "a tensor whose numbers are cut short": _claims([2], [1], storage=STORAGE.replace(b"K\x04", MANY)),
    "numbers of a type that is none": _claims([2], [1], storage=STORAGE.replace(b"FloatStorage", b"Size")),
    "numbers that are no storage": _claims([2], [1], storage=tuple_of(text("file"), text("/etc/passwd")) + b"Q"),
}


def _refused(path):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    assert len(message) < 2000
    return message


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", BYTES)
def test_a_broken_file_gives_one_error_with_its_path(tmp_path, kind):
    path = tmp_path / "w.pth"
    path.write_bytes(BYTES[kind]())
    _refused(path)


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_that_lies_gives_one_error(tmp_path, kind):
    path = tmp_path / "w.pth"
    CARRIERS["zip"](path, TENSORS[kind])
    _refused(path)


def test_the_tensor_of_these_pickles_is_read_when_it_is_right(tmp_path):
    """The same pickle with honest numbers: the errors above come from the lies alone."""
    path = tmp_path / "w.pth"
    CARRIERS["zip"](path, _claims([2, 2], [2, 1]))
    assert torch.equal(read_checkpoint(path).state_dict["weight"], torch.ones(2, 2))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..", "", "a/b.safetensors", "c:x", "a\nb"])
def test_an_index_stays_in_its_folder(tmp_path, name):
    save_file({"a": torch.zeros(2)}, tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": name}}))
    assert "outside of its folder" in _refused(path)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "part.safetensors").symlink_to(tmp_path / "secret.safetensors")
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "part.safetensors"}}))
    assert "outside of its folder" in _refused(path)


def test_an_index_that_names_itself_or_what_is_missing_is_refused(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": path.name}}))
    _refused(path)
    path.write_text(json.dumps({"weight_map": {"a": "none.safetensors"}}))
    assert "none.safetensors" in _refused(path)
    save_file({"b": torch.zeros(2)}, tmp_path / "one.safetensors")
    path.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    assert "should be in one.safetensors" in _refused(path)


def test_a_cycle_beside_the_weights_does_no_harm(tmp_path):
    content = OrderedDict(state_dict=_state())
    content["self"], content["list"] = content, [content]
    torch.save(content, tmp_path / "w.pth")
    read = read_checkpoint(tmp_path / "w.pth")
    assert [part.name for part in read.parts] == ["state_dict"]
    assert torch.equal(read.state_dict["0.weight"], content["state_dict"]["0.weight"])


def test_a_cycle_of_settings_is_walked_once(tmp_path):
    """Every setting leads back to all of them: each path would be walked, were it not for a memory."""
    content = {"weights": _state(), "arch": "resnet18"}
    names = ("args", "hparams", "hyper_parameters", "config", "cfg", "conf", "opt", "options", "params", "meta")
    content["args"] = settings = {"model": "vit"}
    settings |= dict.fromkeys(names, settings) | {f"x{place}": 0 for place in range(400)}
    torch.save(content, tmp_path / "w.pth")
    start = time.monotonic()
    assert read_checkpoint(tmp_path / "w.pth").hints == ("resnet18", "vit")
    assert time.monotonic() - start < 1


def test_small_expanded_and_shared_tensors_are_fine(tmp_path):
    base = torch.arange(6.0)
    content = {"wide": torch.ones(1).expand(4, 4), "a": base.view(2, 3), "b": base[2:4], "t": base.view(2, 3).T}
    torch.save(content, tmp_path / "w.pth")
    for key, tensor in read_checkpoint(tmp_path / "w.pth").state_dict.items():
        assert torch.equal(tensor, content[key])


def test_numbers_that_are_not_finite_are_noted_by_name(tmp_path):
    state = _state()
    state["0.weight"][0, 0, 0, 0] = float("nan")
    state["1.bias"][0] = float("-inf")
    big = {"half": torch.full((100,), 60000.0, dtype=torch.float16), "brain": torch.ones(3, dtype=torch.bfloat16)}
    torch.save(state | big, tmp_path / "w.pth")
    (note,) = read_checkpoint(tmp_path / "w.pth").notes
    assert "2 tensors: 0.weight, 1.bias" in note


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files by /proc")
def test_errors_leave_no_file_open_and_no_admitted_class_behind(tmp_path):
    path = tmp_path / "w.pth"
    admitted = torch.serialization.get_safe_globals()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for kind in ("zip cut in half", "zip bomb", "legacy cut short", "safetensors that overlap", "npz with objects"):
        path.write_bytes(BYTES[kind]())
        _refused(path)
    path.write_bytes(_saved(_state()))
    kept = read_checkpoint(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert torch.serialization.get_safe_globals() == admitted
    assert len(kept.state_dict) == 7


@pytest.mark.parametrize(
    "kind", ["zip bomb", "npz bomb", "pickle of bytes by the number", "pickle with a text of 4 GB"]
)
def test_what_would_fill_the_memory_does_not(tmp_path, kind):
    path = tmp_path / "w.pth"
    path.write_bytes(BYTES[kind]())
    tracemalloc.start()
    try:
        _refused(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
