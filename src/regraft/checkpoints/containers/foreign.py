"""The error for a file that asks for classes which are not admitted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from regraft.checkpoints.containers.values import NeedsTrust
from regraft.checkpoints.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regraft.checkpoints.containers.inert import Machine

_MOST = 40


@contextmanager
def refuse(path: Path, machine: Machine) -> Iterator[None]:
    """Run a pickle's machine; whatever happens, what it asked for comes first.

    Raises:
        NeedsTrust: it asked for foreign classes.
    """
    try:
        yield
    except Exception as error:
        if machine.asked:
            raise _error(path, list(machine.asked)) from error
        raise
    if machine.asked:
        raise _error(path, list(machine.asked))


def _error(path: Path, names: list[str]) -> NeedsTrust:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return NeedsTrust(
        f"{path} holds more than weights: it asks for {', '.join(shown(name) for name in sorted(names)[:_MOST])}{more}."
        " Regraft never runs what is in a file, and to load these would run code that the file chooses. Ask for its"
        " state dict as safetensors; or, if you trust whoever made it as you would trust a program, add --trust."
    )
