"""Augmentation files: a list of torchvision's transforms (v2) with their arguments, as YAML."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from regraft.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


def read_steps(path: Path) -> tuple[Callable[[Tensor], Tensor], str]:
    """The transforms of a file, one after the other, and what they are as text.

    Each entry is the name of a class of torchvision.transforms.v2, alone or with arguments: a single value is the
    first argument, a list the arguments in order, a mapping the arguments by name. `transforms` takes a list of
    entries, and `interpolation` a word. Nothing in the file is run but the classes of this one module.

        - Resize: 112
        - RandomRotation: 45
        - RandomHorizontalFlip
        - RandomAffine: {degrees: 10, translate: [0.1, 0.1]}

    Pixels are the same for the same seed and number of threads; ColorJitter's contrast takes a mean of floats, whose
    last bits may differ between numbers of threads.

    Raises:
        OptionError: not such a list, an unknown name (with those near it), or arguments that the class does not take.
    """
    import yaml

    try:
        listed = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OptionError(f"{path} cannot be read as YAML ({reason}). Expected a list of transforms.") from error
    steps = _steps(listed, str(path))
    from torchvision.transforms import v2

    return v2.Compose(steps), json.dumps(listed, sort_keys=True, default=str)


def _steps(listed: Any, where: str) -> list[Any]:
    if not isinstance(listed, list) or not listed:
        raise OptionError(
            f"{where} holds {_shown(listed)}; expected a list of transforms, an entry a line, such as"
            " '- RandomHorizontalFlip' or '- RandomRotation: 45'."
        )
    return [_step(entry, f"{where}, entry {number}") for number, entry in enumerate(listed, 1)]


def _step(entry: Any, where: str) -> Any:
    """The transform of one entry."""
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise OptionError(f"{where} is {_shown(entry)}; expected one name, alone or with its arguments after a colon.")
    ((name, arguments),) = entry.items()
    known = _known()
    if name not in known:
        import difflib

        near = difflib.get_close_matches(str(name), known, 3)
        meant = f"; did you mean {' or '.join(near)}?" if near else "."
        raise OptionError(f"{where}: {name!r} is no transform of torchvision.transforms.v2{meant}")
    positional, named = _arguments(arguments, where)
    try:
        return known[name](*positional, **named)
    except Exception as error:
        reason = str(error).partition("\n")[0][:200]
        raise OptionError(
            f"{where}: {name} does not take {_shown(arguments)} ({reason}). Expected {name}{_parameters(known[name])}."
        ) from error


def _arguments(arguments: Any, where: str) -> tuple[list[Any], dict[str, Any]]:
    if arguments is None:
        return [], {}
    if isinstance(arguments, list):
        return arguments, {}
    if not isinstance(arguments, dict):
        return [arguments], {}
    named = dict(arguments)
    if "transforms" in named:
        named["transforms"] = _steps(named["transforms"], f"{where}, transforms")
    if isinstance(named.get("interpolation"), str):
        named["interpolation"] = _interpolation(named["interpolation"], where)
    return [], named


def _interpolation(word: str, where: str) -> Any:
    from torchvision.transforms.v2 import InterpolationMode

    known = [mode.value for mode in InterpolationMode if mode.value in {"nearest", "bilinear", "bicubic"}]
    if word not in known:
        raise OptionError(f"{where}: interpolation {word!r} is unknown: use {', '.join(known)}.")
    return InterpolationMode(word)


def _known() -> dict[str, type]:
    """The transforms of torchvision that make an image of an image."""
    from torchvision.transforms import v2

    classes = {name: value for name, value in vars(v2).items() if inspect.isclass(value)}
    return {
        name: value for name, value in classes.items() if issubclass(value, v2.Transform) and value is not v2.Transform
    }


def _parameters(kind: type) -> str:
    """The parameters of a class, as its author wrote them, without types."""
    names = [
        str(parameter.replace(annotation=inspect.Parameter.empty))
        for parameter in inspect.signature(kind).parameters.values()
    ]
    return f"({', '.join(names)})"


def _shown(value: Any) -> str:
    return repr(value)[:80]
