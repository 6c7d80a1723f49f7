"""One thread for each BLAS: for matrices as small as ours, more of them wait for each other in a spin."""

from __future__ import annotations

import contextlib
import sys
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class _Inside:
    """How many are inside `one_thread` now, and what the first of them changed."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0
    limiter: Any = None


_INSIDE = _Inside()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A context in which the BLAS of numpy, and that of scipy where it has been imported, use one thread.

    The limit is of the process. So the first to enter sets it and the last to leave lifts it, in whatever threads:
    changing it while another thread computes can crash the process.
    """
    with _INSIDE.lock:
        if _INSIDE.count == 0:
            _INSIDE.limiter = _controller("scipy.linalg" in sys.modules).limit(limits=1, user_api="blas")
        _INSIDE.count += 1
    try:
        yield
    finally:
        with _INSIDE.lock:
            _INSIDE.count -= 1
            if _INSIDE.count == 0:
                _INSIDE.limiter.restore_original_limits()


@cache
def _controller(_with_scipy: bool) -> Any:
    """Found once each: looking through the libraries of the process takes as long as a small fit."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
