"""How a long task tells what it does, and where its time went."""

from __future__ import annotations

import contextlib
import importlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _nobody(*said: object) -> None:
    del said


@dataclass(frozen=True)
class Listener:
    """Who is told what happens. The default is nobody.

    Attributes:
        say: one line for the user.
        warn: one line that the user should act on.
        progress: number of images done, and the total.
        started: `time.perf_counter()` when the program started, so that imports are counted.
    """

    say: Callable[[str], None] = _nobody
    warn: Callable[[str], None] = _nobody
    progress: Callable[[int, int], None] = _nobody
    started: float | None = None


@dataclass
class Clock:
    """Wall seconds by phase, in order of first use."""

    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def start(cls, listener: Listener) -> Clock:
        """A clock that counts what passed since the program started as import time."""
        clock = cls()
        if listener.started is not None:
            clock.add("import", time.perf_counter() - listener.started)
        return clock

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a phase."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a phase."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def import_now(self, *modules: str) -> None:
        """Import what the next step needs, and count it as import time instead of the step's."""
        with self.phase("import"):
            for module in modules:
                importlib.import_module(module)

    def rounded(self) -> dict[str, float]:
        """Milliseconds are as fine as anybody needs."""
        return {name: round(value, 3) for name, value in self.seconds.items()}
