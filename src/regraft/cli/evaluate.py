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
    scores, intervals = run.evaluation.scores, run.evaluation.intervals
    width = max(20, *map(len, scores))
    for name, value in scores.items():
        low, high = intervals[name]
        if value != value:  # noqa: PLR0124 - NaN
            terminal.line(f"{name.replace('_', ' '):<{width}} not defined")
            continue
        text = name if " " in name else name.replace("_", " ")  # a task's name stays as it is
        terminal.line(f"{text:<{width}} {value:.4f}  (95 % interval {low:.4f} to {high:.4f})")
    terminal.line(f"run     {run.folder}")
    terminal.line(f"report  {run.report}")
    return 0
