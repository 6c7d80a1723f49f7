"""`regraft embed`."""

from __future__ import annotations

from typing import Any

from regraft.cli import terminal
from regraft.errors import OptionError
from regraft.recipes.embed import embed as run_embedding


@terminal.as_verb(run_embedding, short={"output": "-o"})
def embed(*args: Any, **options: Any) -> int:
    """See `regraft.embed`."""
    if options.get("output") is None:
        raise OptionError("where to? Name the file with -o features.npz or -o features.parquet")
    with terminal.listener() as listener:
        run_embedding(*args, **options, listener=listener)
    return 0
