"""Names from a file, in a form that cannot break a terminal or a message."""

from __future__ import annotations

_LONGEST = 100


def shown(name: object, longest: int = _LONGEST) -> str:
    """A name as it is if it is short and printable, else quoted, escaped and shortened."""
    text = str(name) if isinstance(name, str | float) or type(name) is int else type(name).__name__
    short = text if len(text) <= longest else f"{text[:longest]}..."
    return short if short.isprintable() else ascii(short)


def some(names: list[str], most: int = 5) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + more
