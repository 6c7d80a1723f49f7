"""`regraft train`."""

from __future__ import annotations

from typing import Any

from regraft.cli import terminal
from regraft.recipes.train import train as run_training


@terminal.as_verb(run_training)
def train(*args: Any, **options: Any) -> int:
    """See `regraft.train`."""
    with terminal.listener() as listener:
        run = run_training(*args, **options, listener=listener)
    terminal.line(f"run     {run.folder}")
    terminal.line(f"report  {run.report}")
    return 0
