"""Learning-rate schedules: factors of the peak rate, as pure functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from regraft.errors import OptionError

KNOWN = "cosine, linear, constant, or step:EPOCHS:FACTOR such as step:7:0.1"
_STEP_PARTS = 3


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the learning rate falls from its peak.

    Attributes:
        kind: "cosine" (half a wave to 0), "linear" (to 0), "constant", or "step".
        every: for "step", the number of epochs between drops.
        factor: for "step", what each drop multiplies the rate by.
    """

    kind: str
    every: int = 1
    factor: float = 1.0

    def at(self, step: int, total: int, per_epoch: int) -> float:
        """The factor for step `step` (0-based) of `total`, at `per_epoch` steps an epoch."""
        share = min(1.0, step / max(1, total))
        if self.kind == "cosine":
            return (1 + math.cos(math.pi * share)) / 2
        if self.kind == "linear":
            return 1 - share
        if self.kind == "step":
            return float(self.factor ** (step // max(1, per_epoch) // self.every))
        return 1.0


def parse_schedule(text: str) -> Schedule:
    """The schedule that the user named.

    Raises:
        OptionError: what it is not, and what is known.
    """
    parts = str(text).split(":")
    if parts[0] in {"cosine", "linear", "constant"} and len(parts) == 1:
        return Schedule(parts[0])
    if parts[0] == "step" and len(parts) == _STEP_PARTS:
        try:
            every, factor = int(parts[1]), float(parts[2])
        except ValueError:
            every, factor = 0, 0.0
        if every >= 1 and 0 < factor <= 1:
            return Schedule("step", every, factor)
    raise OptionError(f"schedule {text!r} is unknown: use {KNOWN}")


def warm_up(step: int, length: int) -> float:
    """The factor of the first `length` steps, rising in equal parts to 1 (Goyal et al. 2017, arXiv 1706.02677)."""
    return min(1.0, (step + 1) / (length + 1)) if length > 0 else 1.0
