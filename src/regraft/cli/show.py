"""`regraft show`."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from typing import Any

from regraft.cli import terminal
from regraft.errors import OptionError
from regraft.recipes.show import labelled_images
from regraft.recipes.show import show as draw

_COLUMN = 24  # characters that a tile should have at least


@terminal.as_verb(draw, short={"output": "-o"})
def show(*args: Any, **options: Any) -> int:
    """See `regraft.show`."""
    with terminal.listener() as listener:
        if options.get("output") is not None:
            draw(*args, **options, listener=listener)
            terminal.line(f"wrote {options['output']}")
            return 0
        if not _has_colours():
            raise OptionError("this output cannot show pictures: write a file with -o batch.png")
        from regraft.evaluation.report.batch import terminal_batch

        known = inspect.signature(labelled_images).parameters
        batch = labelled_images(*args, **{k: v for k, v in options.items() if k in known}, listener=listener)
    width = shutil.get_terminal_size().columns
    terminal.line(terminal_batch(batch, width=width, columns=options.get("columns") or max(1, width // _COLUMN)))
    return 0


def _has_colours() -> bool:
    """Whether standard output is a terminal that shows 24-bit colours and block characters."""
    told = os.environ.get("COLORTERM", "") in {"truecolor", "24bit"} or "256color" in os.environ.get("TERM", "")
    return sys.stdout.isatty() and told and "utf" in (sys.stdout.encoding or "").lower()
