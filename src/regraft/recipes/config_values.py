"""One value of a configuration file, read as what a type annotation asks for."""

from __future__ import annotations

import os
import re
import types
import typing
from pathlib import Path
from typing import Any

_STANDARD = "tag:yaml.org,2002:"
_NULL = f"{_STANDARD}null"
_SCALARS = {_STANDARD + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")}
_WHOLE = re.compile(r"[-+]?[0-9][0-9_]{0,99}")  # Python takes no number of thousands of digits
_NUMBER = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?")
_FURTHER_NUMBERS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_SHOWN, _MOST_SHOWN = 60, 4  # letters of a word, words of a list


def read_value(node: Any, hint: Any) -> Any:
    """The value of a node of YAML.

    Args:
        node: as PyYAML composes it; its tag is used only to tell `null` from a text.
        hint: None, bool, int, float, str, a path, `Literal`, `tuple`, `list`, or a union of these, whose first member
            that fits is taken. Where a text is asked for, any word is one; a word in quotes is nothing but a text.

    Raises:
        ValueError: the value is of another type; the message shows it.
    """
    found = _fitting(node, hint)
    if not found:
        raise ValueError(_shown(node))
    return found[0]


def described(hint: Any) -> str:
    """What to write for a type: `a number or auto`."""
    members = sorted(_members(hint), key=lambda one: one is types.NoneType)
    return " or ".join(dict.fromkeys(map(_described, members)))


def _members(hint: Any) -> list[Any]:
    """The types of a union; a text last but for the words that are known, since everything is a text."""
    union = typing.get_origin(hint) in {typing.Union, types.UnionType}
    members = list(typing.get_args(hint)) if union else [hint]
    return sorted(members, key=_is_text)


def _is_text(hint: Any) -> bool:
    return hint in {str, Path} or typing.get_origin(hint) is os.PathLike or hint is os.PathLike


def _fitting(node: Any, hint: Any) -> list[Any]:
    """The value as each member of a type that it fits."""
    return [value for one in _members(hint) for value in _read(node, one)]


def _read(node: Any, hint: Any) -> list[Any]:
    """The value as one type, or nothing."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {tuple, list}:
        return _read_list(node, origin, arguments)
    if node.id != "scalar" or node.tag not in _SCALARS:
        return []
    plain = node.style is None
    if plain and node.tag == _NULL:
        return [None] if hint is types.NoneType else []
    if origin is typing.Literal:
        return [c for c in arguments if (node.value == c if isinstance(c, str) else _read(node, type(c)) == [c])]
    if _is_text(hint):
        return [node.value]
    return _read_word(node.value, hint) if plain else []


def _read_word(word: str, hint: Any) -> list[Any]:
    if hint is bool and word.lower() in _TRUTHS:
        return [_TRUTHS[word.lower()]]
    if hint is int and _WHOLE.fullmatch(word):
        return [int(word.replace("_", ""))]
    if hint is float and (_NUMBER.fullmatch(word) or word.lower() in _FURTHER_NUMBERS):
        return [float(_FURTHER_NUMBERS.get(word.lower(), word.replace("_", "")))]
    return []


def _read_list(node: Any, origin: type, arguments: tuple[Any, ...]) -> list[Any]:
    if node.id != "sequence":
        return []
    any_length = origin is list or arguments[-1:] == (Ellipsis,)
    hints = [arguments[0]] * len(node.value) if any_length else list(arguments)
    if len(hints) != len(node.value):
        return []
    parts = [_fitting(one, hint) for one, hint in zip(node.value, hints, strict=True)]
    return [origin(part[0] for part in parts)] if all(parts) else []


def _described(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(map(str, arguments[:-1])) + (" or " if arguments[1:] else "") + str(arguments[-1])
    if origin in {tuple, list}:
        count = "" if origin is list or arguments[-1] is Ellipsis else f" {len(arguments)}"
        return f"a list in brackets of{count} values ({described(arguments[0])})"
    names = {bool: "true or false", int: "a whole number", float: "a number", types.NoneType: "null"}
    return names.get(hint, "a text")


def _shown(node: Any) -> str:
    if node.id == "sequence":  # one within another, which may be itself, is not shown
        words = [_shown(one) if one.id == "scalar" else "…" for one in node.value[:_MOST_SHOWN]]
        return f"[{', '.join(words)}{', …' if node.value[_MOST_SHOWN:] else ''}]"
    if node.id == "mapping":
        return "a mapping"
    text = node.value if len(node.value) <= _SHOWN else node.value[:_SHOWN] + "…"
    if node.tag not in _SCALARS:
        return f"{node.tag.removeprefix(_STANDARD)} {text!r}"
    return repr(text) if node.style is not None or node.tag == f"{_STANDARD}str" else text or "empty"
