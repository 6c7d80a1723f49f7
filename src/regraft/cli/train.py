"""`regraft train`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from regraft.cli import terminal
from regraft.recipes.config import merge, read_config
from regraft.recipes.train import train as run_training
from regraft.recipes.training_options import TRAINING


@terminal.as_verb(run_training, groups={"Training the network": TRAINING})
def train(*args: Any, **options: Any) -> int:
    """See `regraft.train`."""
    if (config := options.pop("config", None)) is not None:
        # Here it is known which options were typed, defaults too; they win.
        names = [name for name in inspect.signature(run_training).parameters if name != "listener"]
        given = dict(zip(names, args, strict=False)) | options
        args, options = (), merge(run_training, given, read_config(Path(config), run_training))
        data = options.pop("data", None)
        args = () if data is None else (data,)
    with terminal.listener() as listener:
        run = run_training(*args, **options, listener=listener)
    terminal.line(f"run     {run.folder}")
    terminal.line(f"report  {run.report}")
    return 0
