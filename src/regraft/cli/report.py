"""`regraft report`."""

from __future__ import annotations

from typing import Any

from regraft.cli import terminal
from regraft.recipes.report import report as find_report


@terminal.as_verb(find_report, short={"output": "-o"}, extra={"browser": ("open", "Open the page in the browser.")})
def report(*args: Any, browser: bool = False, **options: Any) -> int:
    """See `regraft.recipes.report.report`."""
    found = find_report(*args, **options)
    for line in found.lines():
        terminal.line(line)
    terminal.line(f"report  {found.page}")
    if browser:
        import webbrowser

        webbrowser.open(found.page.absolute().as_uri())
    return 0
