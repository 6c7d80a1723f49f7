"""`regraft cache`."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter

from regraft.cli import terminal
from regraft.errors import OptionError
from regraft.features.store import cache_folder, prune, summaries, usable_cache

_DAY = 86_400


def cache(
    *, prune_now: Annotated[bool, Parameter(name="--prune", negative="")] = False, older_than: float | None = None
) -> int:
    """Show the features and converted models that are kept, or remove them; nothing that cannot be computed again.

    Args:
        prune_now: Remove everything, or with --older-than what was not added to for so long.
        older_than: Days.
    """
    if older_than is not None and not prune_now:
        raise OptionError("--older-than says what to remove: give it together with --prune")
    if older_than is not None and older_than < 0:
        raise OptionError(f"--older-than is {older_than:g}; expected days, 0 or more")
    folder = usable_cache(cache_folder())
    found = prune(folder, older_than=older_than) if prune_now else summaries(folder)
    terminal.line(f"{'removed from' if prune_now else 'kept in'} {folder}")
    now = time.time()
    for entry in found:
        rows = f"{entry.rows:>8} images" if entry.what != "model" else " " * 15
        age = (now - entry.used) / _DAY
        terminal.line(f"  {entry.what:<8} {entry.size / 1e6:>9.1f} MB {rows} {age:>6.1f} days  {entry.description}")
    terminal.line(f"  {len(found)} entries, {sum(entry.size for entry in found) / 1e6:.1f} MB")
    return 0
