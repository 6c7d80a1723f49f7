"""`regraft checkpoint inspect | match | convert`."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

from regraft.backbones.files import describe
from regraft.checkpoints.match_report import table
from regraft.checkpoints.shown import shown
from regraft.cli import terminal
from regraft.errors import CheckpointError, PartialMatch
from regraft.recipes import checkpoint as recipes

if TYPE_CHECKING:
    from regraft.checkpoints.checkpoint import Checkpoint, Part
    from regraft.recipes.checkpoint import Inspection

_COMMAND = 5000  # characters of a command that are shown


@terminal.as_verb(recipes.inspect)
def inspect(*args: Any, **options: Any) -> int:
    """See `regraft.recipes.checkpoint.inspect`."""
    found = recipes.inspect(*args, **options)
    for line in (*_content(found.checkpoint), *_network(found), *_next(found, **options)):
        terminal.line(line)
    return 0


@terminal.as_verb(recipes.match, extra={"every": ("all", "One line a tensor instead of one a stage.")})
def match(*args: Any, every: bool = False, **options: Any) -> int:
    """See `regraft.recipes.checkpoint.match`."""
    try:
        found = recipes.match(*args, **options)
    except PartialMatch as error:
        for line in table(error.report, every=every):
            terminal.line(line)
        raise CheckpointError(error.short) from error
    terminal.line(f"{shown(found.checkpoint.path.name)} to {found.architecture}: {found.why}")
    for line in table(found.report, every=every) if found.report else ():
        terminal.line(line)
    return 0


@terminal.as_verb(recipes.convert, short={"output": "-o"})
def convert(*args: Any, **options: Any) -> int:
    """See `regraft.recipes.checkpoint.convert`."""
    found = recipes.convert(*args, **options)
    terminal.line(f"network  {found.architecture or 'unknown'} ({found.why})")
    for line in table(found.report) if found.report else ():
        terminal.line(line)
    for note in found.checkpoint.notes:
        terminal.line(f"note: {note}")
    terminal.line(f"wrote    {found.output}")
    return 0


def _content(checkpoint: Checkpoint) -> list[str]:
    lines = [f"file           {shown(str(checkpoint.path))} ({checkpoint.container})"]
    for part in checkpoint.parts:
        chosen = "" if len(checkpoint.parts) == 1 else "  <- used" if part is checkpoint.part else "  (--part)"
        lines.append(f"state dict     {shown(part.name) if part.name else '(the file itself)'}: {_sizes(part)}{chosen}")
    for name, what in checkpoint.extras.items():
        lines.append(f"also in it     {shown(name)}: {shown(what)}")
    return lines + [f"note           {note}" for note in checkpoint.notes]


def _sizes(part: Part) -> str:
    kinds = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in part.state_dict.values())
    return f"{len(part.state_dict)} tensors, {part.size / 1e6:.2f} M numbers, {', '.join(sorted(kinds))}"


def _network(found: Inspection) -> list[str]:
    identity = found.identity
    lines = []
    best = identity.guesses[0].share if identity.guesses else 0.0
    # Where one network fits as a whole, those that fit less are no news.
    rivals = [g for g in identity.guesses if identity.certainty == "partial" or g.share == best]
    for place, guess in enumerate(rivals):
        lines.append(f"{'network' if place == 0 else '   or':<14} {describe(guess)}")
        if place == 0 and guess.prefix:
            lines.append(f"wrapper        {shown(guess.prefix)}")
    lines.append(f"certainty      {identity.certainty}: {identity.why}")
    if identity.head:
        lines.append(f"head           {shown(identity.head)}: {identity.classes} classes")
    elif identity.guesses:
        lines.append("head           none")
    if identity.channels is not None:
        size = f", {identity.input_size[0]} x {identity.input_size[1]} pixels" if identity.input_size else ""
        lines.append(f"input          {identity.channels} channels{size}")
    if found.preprocessing is not None:
        lines.append(f"preprocessing  {found.preprocessing.sentence()}")
        lines.append(f"               {found.source}")
    return lines


def _next(found: Inspection, *, part: str | None = None, trust: bool = False) -> list[str]:
    """The command that goes on from here, with what was said about the file."""
    path, certainty = str(found.checkpoint.path), found.identity.certainty
    words = [*(["--part", part] if part else []), *(["--trust"] if trust else [])]
    if certainty == "unknown":
        words = ["regraft", "checkpoint", "match", path, "--to", "timm/NAME", *words]
    elif certainty == "partial":
        words = ["regraft", "checkpoint", "match", path, *words]
    else:
        words = ["regraft", "train", "DATA", "--backbone", f"file:{path}", *words]
    return [f"next           {shown(shlex.join(words), _COMMAND)}"]
