"""Names and numbers as a reader can see them."""

from __future__ import annotations

import re

# control characters, and the marks that turn the direction of the text around them
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_MINUTE = 60.0


def printable(text: str) -> str:
    r"""The text with what cannot be shown or encoded written out, as in `caf\xe9.jpg`.

    File names that are not UTF-8 reach Python with lone surrogates, which no file takes.
    """
    return _UNSEEN.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - surrogateescape: the byte is in the lower half
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004


def file_name(path: str) -> str:
    """The last part of a path, whichever system wrote it."""
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def duration(seconds: float) -> str:
    """Seconds with as many digits as matter: `0.004 s`, `0.31 s`, `12.5 s`, `2 min 05 s`."""
    if seconds >= _MINUTE:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    digits = 1 if seconds >= 10 else 2 if seconds >= 0.01 else 3  # noqa: PLR2004 - three digits at most
    return f"{seconds:.{digits}f} s"


def value_text(value: object) -> str:
    """A JSON value for a table cell: floats with four significant digits, lists joined."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {value_text(item)}" for key, item in value.items())
    return str(value)
