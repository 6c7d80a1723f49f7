"""One thread for each BLAS: for matrices as small as ours, more of them wait for each other in a spin."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any


def one_thread() -> Any:
    """A context in which the BLAS of numpy, and that of scipy where it has been imported, use one thread."""
    return _controller("scipy.linalg" in sys.modules).limit(limits=1, user_api="blas")


@cache
def _controller(_with_scipy: bool) -> Any:
    """Found once each: looking through the libraries of the process takes as long as a small fit."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
