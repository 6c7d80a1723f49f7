"""`regraft lr-find`."""

from __future__ import annotations

from typing import Any

from regraft.cli import terminal
from regraft.recipes.lr_find import lr_find as find


@terminal.as_verb(find, short={"out": "-o"})
def lr_find(*args: Any, **options: Any) -> int:
    """See `regraft.lr_find`."""
    with terminal.listener() as listener:
        found = find(*args, **options, listener=listener)
    terminal.line(found.why if found.rate is None else f"--lr {found.rate:.1e}   {found.why}")
    terminal.line(f"curve   {found.picture}")
    return 0
