"""`regraft check`."""

from __future__ import annotations

import textwrap
from typing import Any

from regraft.cli import terminal
from regraft.recipes.check import check as run_check

_PAGE = 100


@terminal.as_verb(run_check, short={"output": "-o"})
def check(*args: Any, **options: Any) -> int:
    """See `regraft.check`."""
    with terminal.listener() as listener:
        found = run_check(*args, **options, listener=listener)
    for finding in found.findings:
        mark = "matters" if finding.matters else "look   "
        text = f"{mark}  {finding.title}: {finding.sentence}"
        for line in textwrap.wrap(text, _PAGE, subsequent_indent=" " * 9, break_on_hyphens=False):
            terminal.line(line)
    if not found.findings:
        terminal.line("nothing was found")
    for sentence in found.not_done:
        terminal.line(sentence)
    terminal.line(f"page    {found.folder / 'check.html'}")
    if found.cleaned is not None:
        terminal.line(f"clean   {found.cleaned}")
    return int(found.matters)
