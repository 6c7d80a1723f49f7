"""What a backbone takes for an image on this machine, measured once and kept, so that a comparison can be repeated."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from regraft.atomic import write_text
from regraft.recipes.rank_scores import seconds_an_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from regraft.features.frozen import Frozen


def image_times(backbones: Sequence[Frozen], cache: Path) -> dict[str, float]:
    """Milliseconds an image in each network alone, all processors at work, by the name of its space.

    What was measured is kept beside the cards in the cache, for this number of processors, and is pruned with them.
    """
    folder = cache / "cards"
    found: dict[str, float] = {}
    lacking: dict[str, Frozen] = {}
    for one in backbones:
        name = one.spaces[0].fingerprint()
        try:
            kept = json.loads((folder / f"{name}.time-{os.cpu_count()}.json").read_text("utf-8"))
            found[name] = float(kept["ms"])
        except (OSError, ValueError, KeyError, TypeError):
            lacking[name] = one
    if lacking:
        folder.mkdir(parents=True, exist_ok=True)
    for name, seconds in seconds_an_image(list(lacking.values())).items() if lacking else ():
        found[name] = 1000 * seconds
        write_text(folder / f"{name}.time-{os.cpu_count()}.json", json.dumps({"ms": found[name]}) + "\n")
    return found
