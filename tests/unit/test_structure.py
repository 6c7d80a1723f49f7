"""Imports point downward only, and light modules stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import regraft

SOURCE = Path(regraft.__file__).parent

# Each row may import from the rows below it; rooms of one row do not import each other.
ROWS = [
    {"cli"},
    {"recipes"},
    {"training", "inference"},
    {"features", "evaluation"},
    {"models"},
    {"backbones"},
    {"data", "checkpoints", "losses", "heads"},
    {"atomic"},
    {"errors"},
]
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
HEAVY = {"torch", "timm", "torchvision", "sklearn", "scipy", "openvino", "pyarrow", "jinja2", "pandas"}
HEAVY |= {"peft", "lightning_fabric", "tensorboard", "rasterio", "shapely", "pyogrio"}
TORCH_ROOMS = {"models", "losses", "training"}  # made of torch, and so imported late themselves


def modules():
    return sorted(SOURCE.rglob("*.py"))


def room_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path, *, top_only=False):
    """Names of modules that a file imports; with top_only, those that importing it imports at once."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = ast.walk(tree) if not top_only else executed_at_import(tree.body)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            # `from package import module` depends on the module, not on what else the package gathers.
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if is_module(name) else node.module for name in named)


def is_module(name):
    path = SOURCE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def executed_at_import(body):
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        for field in ("body", "orelse", "handlers", "finalbody"):
            yield from executed_at_import(getattr(node, field, []))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_downward(path):
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        return
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "regraft" or len(parts) == 1 or parts[1] not in LEVEL:
            continue
        other = parts[1]
        assert other == room or LEVEL[other] > LEVEL[room], f"{room} imports {other}: an upward or sideways arrow"


def test_every_room_has_a_level():
    rooms = {room_of(path) for path in modules()} - {"__init__", "__main__"}
    assert rooms <= set(LEVEL), f"rooms without a level: {rooms - set(LEVEL)}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_heavy_libraries_are_imported_late(path):
    names = list(imported(path, top_only=True))
    own = room_of(path) in TORCH_ROOMS
    heavy = {name.split(".")[0] for name in names} & (HEAVY - {"torch"} if own else HEAVY)
    assert not heavy, f"importing {path.name} would import {heavy}"
    rooms = {name.split(".")[1] for name in names if name.startswith("regraft.")} & TORCH_ROOMS
    assert own or not rooms, f"importing {path.name} would import the rooms {rooms}, which import torch"


def test_there_is_no_cycle():
    graph = {}
    for path in modules():
        name = ".".join(("regraft", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        graph[name] = {n for n in imported(path, top_only=True) if n.startswith("regraft.")} - {name}
    done, open_ = set(), []

    def visit(name):
        if name in done or name not in graph:
            return
        assert name not in open_, f"import cycle: {' -> '.join([*open_, name])}"
        open_.append(name)
        for other in graph[name]:
            visit(other)
        open_.pop()
        done.add(name)

    for name in graph:
        visit(name)
    assert len(done) == len(graph)


def test_public_names_are_all_there():
    for name in regraft.__all__:
        assert getattr(regraft, name) is not None
    assert set(regraft._PLACES) == set(regraft.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        regraft.no_such_name  # noqa: B018


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from regraft.cli.main import app; app(['--help'], result_action='return_value');"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].endswith("[]")
