"""`regraft evaluate`."""

from __future__ import annotations

from typing import Any

from regraft.cli import terminal
from regraft.recipes.evaluate import evaluate as run_evaluation


@terminal.as_verb(run_evaluation)
def evaluate(*args: Any, **options: Any) -> int:
    """See `regraft.evaluate`."""
    with terminal.listener() as listener:
        run = run_evaluation(*args, **options, listener=listener)
    for name, value in run.evaluation.scores.items():
        low, high = run.evaluation.intervals[name]
        terminal.line(f"{name.replace('_', ' '):<20} {value:.4f}  (95 % interval {low:.4f} to {high:.4f})")
    terminal.line(f"run     {run.folder}")
    terminal.line(f"report  {run.report}")
    return 0
