"""Options in a YAML file: read with the types of a function's parameters, written with its docstring's lines.

A value is read as the text that stands in the file, and the parameter says what it is. So the traps of YAML 1.1, in
which `1e-3` is a text, `no` is false and `1:30` is ninety, catch nobody; and nothing in a file can make an object.
"""

from __future__ import annotations

import difflib
import inspect
import math
import os
import re
import sys
import textwrap
import types
import typing
from typing import TYPE_CHECKING, Any

from regraft.atomic import write_text
from regraft.errors import OptionError
from regraft.recipes.config_values import described, read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NOT_OPTIONS = {"listener"}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_NOT_PLAIN = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # words of YAML 1.1
# what a YAML file cannot hold as it is, or an editor would not show
_ESCAPED = re.compile(
    '["\\\\\x00-\x1f\x7f-\xa0\xad\u2028\u2029\u200b-\u200f\u202a-\u202e\ud800-\udfff\ufeff\ufffe\uffff]'
)
_COMMENT_WIDTH = 110


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The options of a public function and the type of each, in the signature's order; `listener` is none."""
    wanted = {n: a for n, a in function.__annotations__.items() if n not in {*_NOT_OPTIONS, "return"}}
    # What is imported for the type checker alone (in the annotation of the result) cannot be resolved.
    holder = types.SimpleNamespace(__annotations__=wanted)
    hints = typing.get_type_hints(holder, vars(sys.modules[function.__module__]))
    return {name: hints[name] for name in inspect.signature(function).parameters if name not in _NOT_OPTIONS}


def read_config(path: Path, function: Callable[..., Any]) -> dict[str, Any]:
    """Read options from a YAML file.

    Args:
        path: a mapping of option names, with dashes or underscores, to values.
        function: the public function whose options they are.

    Returns:
        The options that stand in the file, by parameter name. Paths are texts and stay relative to the working folder.

    Raises:
        OptionError: the file is not there, is no YAML or no mapping, or has an option that is unknown, given twice or
            of another type; with the line.
    """
    hints = options_of(function)
    root = _compose(path)
    if root is None:  # nothing but comments
        return {}
    if not isinstance(root.value, list) or root.id != "mapping":
        raise OptionError(f"{path} holds no options; expected lines such as 'strategy: finetune'.")
    found: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, node in root.value:
        line = key.start_mark.line + 1
        name = str(key.value).replace("-", "_") if key.id == "scalar" else ""
        if name not in hints:
            raise OptionError(f"{path}, line {line}: {_unknown(key, name, function)}")
        if name in found:
            raise OptionError(f"{path}, line {line}: {name} stands in line {lines[name]} too. Remove one of them.")
        try:
            found[name] = read_value(node, hints[name])
        except ValueError as error:
            raise OptionError(f"{path}, line {line}: {name} is {error}; expected {described(hints[name])}.") from error
        lines[name] = line
    if found.get("config") is not None:
        raise OptionError(
            f"{path}, line {lines['config']}: a file of options cannot name another one. Remove the line."
        )
    return found


def merge(function: Callable[..., Any], given: dict[str, Any], from_file: dict[str, Any]) -> dict[str, Any]:
    """Every option of a function, in the signature's order: as given, else as in the file, else the default."""
    parameters = inspect.signature(function).parameters
    defaults = {name: parameters[name].default for name in options_of(function)}
    merged = {**defaults, **from_file, **given}
    return {name: value for name, value in merged.items() if value is not inspect.Parameter.empty}


def write_config(target: Path, function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Write every option with its value, and above each what it does; `read_config` gives the same options back.

    Args:
        target: the file to write, atomically.
        function: the public function whose options they are.
        options: by parameter name; what is missing is written with its default.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    help_lines = _help(function)
    paragraphs = [f"# Options of `regraft {_verb(function)}`, for --config."]
    for name, value in merge(function, options, {}).items():
        comment = textwrap.wrap(help_lines.get(name, ""), _COMMENT_WIDTH, break_long_words=False)
        paragraphs.append("\n".join([*(f"# {line}" for line in comment), f"{name}: {_text(value)}"]))
    write_text(target, "\n\n".join(paragraphs) + "\n")


def _compose(path: Path) -> Any:
    """The file as YAML's nodes, from which no object was made; None for an empty file."""
    import yaml

    try:
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise OptionError(f"{path} does not exist. Name a YAML file, such as a run's train.yaml.") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"{path} is not UTF-8 text. Name a YAML file, such as a run's train.yaml.") from error
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror or error}. Name a YAML file.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise OptionError(f"{path}{line}: this is no YAML: {error.problem or error.context}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = getattr(error, "reason", "") or type(error).__name__
        raise OptionError(f"{path} is no YAML: {reason}. Name a YAML file, such as a run's train.yaml.") from error


def _unknown(key: Any, name: str, function: Callable[..., Any]) -> str:
    shown = repr(key.value) if key.id == "scalar" else f"that is a {key.id}"
    near = difflib.get_close_matches(name, list(options_of(function)), 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"`regraft {_verb(function)} --help` lists them."
    return f"there is no option {shown}; {hint}"


def _verb(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", "-")


def _help(function: Callable[..., Any]) -> dict[str, str]:
    """What the docstring says of each parameter, in one line."""
    found: dict[str, list[str]] = {}
    name, inside = "", False
    for line in (inspect.getdoc(function) or "").splitlines():
        if not line.startswith(" "):
            inside = line.strip() == "Args:" or (inside and not line.strip())
        elif inside and (start := re.match(r" {4}(\w+): (.*)", line)):
            name = start[1]
            found[name] = [start[2]]
        elif inside and name:
            found[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in found.items()}


def _text(value: object) -> str:
    """A value as YAML that its 1.1 and 1.2 readers understand alike."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return _number_text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_PLAIN:
        return text
    return f'"{"".join(_quoted(text))}"'


def _number_text(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    mantissa, e, power = repr(float(value)).partition("e")
    return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{power}"


def _quoted(text: str) -> Iterator[str]:
    for letter in text:
        if letter in '"\\':
            yield "\\" + letter
        elif _ESCAPED.match(letter):
            yield f"\\x{ord(letter):02x}" if letter <= "\xff" else f"\\u{ord(letter):04x}"
        else:
            yield letter
