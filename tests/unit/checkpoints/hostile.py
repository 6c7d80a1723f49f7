"""Pickles that would run a command, written operation by operation, and the files that can carry one.

Nothing here is run by the tests of the reader; `test_every_payload_is_live` runs each once with Python's own
unpickler, to show that the reader had something to refuse.
"""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import torch
from torch import nn

_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def tuple_of(*items):
    return b"(" + b"".join(items) + b"t"


def call(function, *arguments):
    return function + tuple_of(*arguments) + b"R"


def stack_name(module, attribute):
    """Both words go through the memo and back, so that they do not stand before the operation."""
    return (
        b"\x8c" + bytes([len(module)]) + module.encode() + b"\x94" + b"\x8c" + bytes([len(attribute)])
        + attribute.encode() + b"\x94" + b"00" + b"h\x00h\x01\x93"
    )  # fmt: skip


def payloads(marker):
    """id -> a pickle's operations (no start, no end) that would create the file `marker`."""
    shell = text(f"touch '{marker}'")
    python = text(f"open({str(marker)!r}, 'w').close()")
    module = call(name("importlib", "import_module"), text("posix"))
    imported = call(name("builtins", "__import__"), text("posix"))
    words = b"](" + text("touch") + text(str(marker)) + b"e"
    nested = _MAGIC + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + whole(call(name("posix", "system"), shell))
    return {
        "os.system": call(name("os", "system"), shell),
        "posix.system from the memo": stack_name("posix", "system") + tuple_of(shell) + b"R",
        "subprocess.Popen": call(name("subprocess", "Popen"), words),
        "eval": call(name("builtins", "eval"), python),
        "exec, python 2 name": call(name("__builtin__", "exec"), python),
        "__import__ and getattr": call(call(name("builtins", "getattr"), imported, text("system")), shell),
        "import_module and attrgetter": call(call(call(name("operator", "attrgetter"), text("system")), module), shell),
        "methodcaller": call(call(name("operator", "methodcaller"), text("system"), shell), module),
        "partial": call(call(name("functools", "partial"), name("os", "system"), shell)),
        "Path.touch": call(
            call(name("builtins", "getattr"), name("pathlib", "Path"), text("touch")),
            call(name("pathlib", "Path"), text(str(marker))),
        ),
        "deque of a map": call(
            name("collections", "deque"), call(name("builtins", "map"), name("os", "system"), b"](" + shell + b"e")
        ),
        "INST": b"(" + shell + b"iposix\nsystem\n",
        "OBJ": b"(" + name("posix", "system") + shell + b"o",
        "torch's own shell": call(name("torch.utils.collect_env", "run"), shell),
        "numpy's own exec": call(name("numpy.testing._private.utils", "runstring"), python, b"}"),
        "a torch file as bytes": call(
            name("torch.storage", "_load_from_bytes"), b"B" + struct.pack("<I", len(nested)) + nested
        ),
        "tensor of a type": call(
            name("torch._tensor", "_rebuild_from_type_v2"),
            name("os", "system"),
            name("torch", "Tensor"),
            tuple_of(shell),
            b"N",
        ),
    }


def whole(operations):
    return b"\x80\x02" + operations + b"."


def in_dict(operations):
    return whole(b"}(" + text("weight") + operations + b"u")


def _swapped(source, path, entry, data):
    """A copy of an archive with one entry replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            new.writestr(info, data if info.filename.endswith("/" + entry) else old.read(info))


def in_zip(path, data):
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2, 2)}, buffer)
    _swapped(buffer, path, "data.pkl", data)


def in_legacy(path, data):
    path.write_bytes(_MAGIC + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + data + pickle.dumps([], 2))


def in_legacy_machine(path, data):
    """Where the older form says how long the machine's numbers are."""
    path.write_bytes(_MAGIC + pickle.dumps(1001, 2) + data + pickle.dumps({}, 2) + pickle.dumps([], 2))


def in_pickle(path, data):
    path.write_bytes(data)


def in_npz(path, data):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + data)


def _script():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer


def in_script(path, data):
    _swapped(_script(), path, "data.pkl", data)


def in_script_constants(path, data):
    _swapped(_script(), path, "constants.pkl", data)


def in_shard(path, data):
    in_zip(path.with_name("shard.bin"), data)
    path.write_text(json.dumps({"weight_map": {"weight": "shard.bin"}}))


CARRIERS = {
    "zip": in_zip,
    "legacy": in_legacy,
    "legacy, first pickles": in_legacy_machine,
    "plain pickle": in_pickle,
    "npz": in_npz,
    "TorchScript": in_script,
    "TorchScript constants": in_script_constants,
    "shard": in_shard,
}
