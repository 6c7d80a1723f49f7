"""What the verbs say on a terminal, in a pipe and in a log: plain lines, a progress bar only where one can move."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
import typing
from typing import TYPE_CHECKING, Any

import cyclopts

from regraft.cli import main
from regraft.recipes.config import options_of
from regraft.recipes.listen import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console


def line(text: str, *, error: bool = False) -> None:
    """Print a line; what the terminal cannot encode is escaped instead of raising."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def console() -> Console:
    """A rich console on standard output."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def listener() -> Iterator[Listener]:
    """A listener that prints lines to standard error, with a progress bar where standard error is a terminal."""
    # Rooms below recipes tell long steps (downloads) through logging.
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("regraft").setLevel(logging.INFO)
    if not sys.stderr.isatty():
        yield Listener(_say, _warn, started=main.STARTED)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("images", total=None, visible=False, rate="")

    def progress(done: int, total: int) -> None:
        if total != bar.tasks[0].total or done < bar.tasks[0].completed:
            bar.reset(task, total=total, rate="")  # another stretch of work has another rate
        speed = bar.tasks[0].speed
        bar.update(task, completed=done, total=total, visible=True, rate="" if speed is None else f"{speed:.0f}/s")

    with bar:
        yield Listener(_say, _warn, progress, started=main.STARTED)


def _say(text: str) -> None:
    line(text, error=True)


def _warn(text: str) -> None:
    line(f"warning: {text}", error=True)


def as_verb(
    function: Callable[..., Any],
    short: dict[str, str] | None = None,
    extra: dict[str, tuple[str, str]] | None = None,
    groups: dict[str, tuple[str, ...]] | None = None,
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a verb the signature and the help of the public function behind it, so that an option is defined once.

    Args:
        function: the public function; its `listener` is the verb's own business. Parameters before the `*` become
            positional words.
        short: a short form for some options.
        extra: switches that are the verb's own, about what it prints: parameter -> (option, help).
        groups: headings of the help, and the parameters below each.
    """
    hints = {name: _as_text(hint) for name, hint in options_of(function).items()}
    for name, letter in (short or {}).items():
        hints[name] = typing.Annotated[hints[name], cyclopts.Parameter(name=[f"--{name}", letter])]
    for heading, names in (groups or {}).items():
        for name in names:
            hints[name] = typing.Annotated[hints[name], cyclopts.Parameter(group=heading)]
    parameters = [
        parameter.replace(
            annotation=hints[name],
            kind=parameter.kind
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
            else inspect.Parameter.POSITIONAL_ONLY,
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "listener"
    ]
    for name, (option, what) in (extra or {}).items():
        hints[name] = typing.Annotated[bool, cyclopts.Parameter(name=[f"--{option}"], negative="", help=what)]
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, kind, default=False, annotation=hints[name]))
    text = (inspect.getdoc(function) or "").split("\nReturns:")[0].split("\n    listener:")[0]

    def decorate(verb: Callable[..., int]) -> Callable[..., int]:
        verb.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        verb.__annotations__ = {p.name: p.annotation for p in parameters}
        verb.__doc__ = text
        return verb

    return decorate


def _as_text(hint: Any) -> Any:
    """A path is a text on the command line: it may hold bytes that are not UTF-8, and `sample:` names."""
    members = typing.get_args(hint)
    if list[str] in members and type(None) in members:  # one or several: on the command line the option is repeated
        return list[str] | None
    if os.PathLike[str] in members:
        return str | None if type(None) in members else str
    if typing.get_origin(hint) is list and os.PathLike[str] in typing.get_args(members[0]):
        return list[str]
    return hint
