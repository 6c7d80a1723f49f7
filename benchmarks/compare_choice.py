"""Whether the recommended candidate is as good as any on test, which the choice never saw.

Every candidate is fitted on all training images and measured on test once; wanted is that the recommended one is within
one standard error of the best of all there. No rule was tuned on these numbers.

    python benchmarks/compare_choice.py [DATA ...]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from regraft.data.decode import MAX_PIXELS
from regraft.features.store import cache_folder, usable_cache
from regraft.recipes.choose import feature_strategies
from regraft.recipes.compare import select
from regraft.recipes.compare_backbones import gather_all
from regraft.recipes.fit_head import fit_head
from regraft.recipes.gather import Source
from regraft.recipes.listen import Clock, Listener

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
STANFORD40 = Path(__file__).resolve().parents[2] / "shared" / "data" / "stanford40_mini"
OPTIONS = {
    "folds": "5x3",
    "nested": False,
    "metric": "auto",
    "budget": None,
    "views": "none",
    "precision": "f32",
    "runtime": "auto",
    "resplit": False,
    "max_rejected": 0.05,
    "max_pixels": MAX_PIXELS,
    "seed": 0,
}


def main() -> None:
    """Print for each data set the recommended candidate, the best on test, and how far they are apart."""
    for data in sys.argv[1:] or ("sample:textile", str(STANFORD40)):
        report(data)


def report(data: str) -> None:
    """Compare, then measure every candidate on test."""
    asked, began = SimpleNamespace(**OPTIONS), time.perf_counter()
    silent = Listener()
    found = gather_all(asked, NAMES, Source(data), usable_cache(cache_folder()), began, Clock(), silent)
    board = select(found, feature_strategies(), asked, None, silent)
    seconds, accuracies = time.perf_counter() - began, {}
    for one in board.standings:
        gathered = found.gathered[one.candidate.backbone]
        part = gathered.split("test" if gathered.split("test").manifest.items else "val")
        plan = next(plan for plan in feature_strategies() if plan.name == one.candidate.strategy)
        head = fit_head(gathered, plan, 0, Clock(), silent).head
        right = head.logits(part.table.features).argmax(axis=1) == np.array(part.manifest.targets())
        accuracies[one.candidate.name] = float(right.mean())
        images = len(right)
    best = max(accuracies, key=lambda name: accuracies[name])
    error = float(np.sqrt(accuracies[best] * (1 - accuracies[best]) / images))
    chosen = board.recommended.candidate.name
    behind = accuracies[best] - accuracies[chosen]
    print(f"{data}: {len(accuracies)} candidates compared in {seconds:.0f} s; {board.sentence}")
    for one in board.standings:
        name = one.candidate.name
        print(f"  {name:<42} cross-validation {one.mean:.3f}{' =' if one.tie else '  '}  test {accuracies[name]:.3f}")
    print(
        f"  recommended {chosen}: {accuracies[chosen]:.4f} on test; best on test {best}: {accuracies[best]:.4f};"
        f" behind by {behind:.4f}, one standard error {error:.4f}: {'within' if behind <= error else 'outside'}"
    )


if __name__ == "__main__":
    main()
