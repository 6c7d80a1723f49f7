"""What a backbone takes for an image on this machine: measured on several occasions, of which the least is kept."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import numpy as np

from regraft.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from regraft.features.frozen import Frozen

_OCCASIONS = 3
_TIMED_IMAGES, _ROUNDS = 8, 6
_SLOW = 2.0  # seconds a round; above, one round must do


def image_times(backbones: Sequence[Frozen], cache: Path) -> dict[str, float]:
    """Milliseconds an image in each network alone, all processors at work, by the name of its space.

    The least that was ever measured is kept beside the cards in the cache, for this number of processors, and is
    pruned with them. The first three times that a backbone is asked for it is measured anew: a machine that was busy
    at first is not held against it, and from then on a comparison can be repeated.
    """
    folder = cache / "cards"
    least: dict[str, float] = {}
    occasions: dict[str, int] = {}
    wanted: dict[str, Frozen] = {}
    for one in backbones:
        name = one.spaces[0].fingerprint()
        least[name], occasions[name] = _kept(_file(folder, name))
        if occasions[name] < _OCCASIONS:
            wanted[name] = one
    for name, seconds in seconds_an_image(wanted).items():
        least[name] = min(least[name], 1000 * seconds)
        folder.mkdir(parents=True, exist_ok=True)
        kept = {"ms": least[name], "occasions": occasions[name] + 1}
        write_text(_file(folder, name), json.dumps(kept) + "\n")
    return least


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.time-{os.cpu_count()}.json"


def _kept(file: Path) -> tuple[float, int]:
    """The least milliseconds that were measured, and on how many occasions; infinity and none where there is nothing.

    Files of earlier versions name no occasions: theirs was one.
    """
    try:
        kept = json.loads(file.read_text("utf-8"))
        return float(kept["ms"]), int(kept.get("occasions", 1))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return float("inf"), 0


def seconds_an_image(backbones: dict[str, Frozen]) -> dict[str, float]:
    """Wall seconds an image in each network alone, all processors at work, by the names given.

    The least of several rounds, which go round all backbones in turn: a machine that is busy for a while is then
    busy for all of them.
    """
    calls = {name: _timed(one) for name, one in backbones.items()}
    best = {name: call() for name, call in calls.items()}  # the first round also allocates
    for name, call in calls.items():
        best[name] = call()
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            if best[name] * _TIMED_IMAGES < _SLOW:
                best[name] = min(best[name], call())
    return best


def _timed(one: Frozen) -> Callable[[], float]:
    """What runs some images and gives the seconds an image."""
    picture = np.random.default_rng(0).integers(0, 256, (*one.card.preprocessing.size, 3)).astype(np.uint8)
    runtime = one.runtime()

    def seconds() -> float:
        began = time.perf_counter()
        runtime.run(_TIMED_IMAGES, lambda n: [(n, picture)], lambda _, __: None)
        return (time.perf_counter() - began) / _TIMED_IMAGES

    return seconds
