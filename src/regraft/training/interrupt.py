"""Ctrl-C, SIGTERM and a closed terminal end a training after the step that is running, not within it."""

from __future__ import annotations

import contextlib
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


@dataclass
class Asked:
    """Whether somebody asked for an end, and by which signal.

    Attributes:
        signal: its number, or 0.
    """

    signal: int = 0


@contextlib.contextmanager
def listening() -> Iterator[Asked]:
    """Note signals instead of dying of them; a second one is not waited with. Only the main thread can listen."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, _frame: object) -> None:
        if asked.signal:
            raise KeyboardInterrupt
        asked.signal = number

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
