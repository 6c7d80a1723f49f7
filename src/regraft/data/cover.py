"""Give classes that share their groups with others at least what they need in every split.

Which groups go where so that each split sees each class is a covering problem without a fast exact
method. The search here takes the most cramped class first, and tries again in other orders when
that leads nowhere.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regraft.data.units import Unit

ATTEMPTS = 300
_LOOKED_AT = 24  # candidates weighed against each other per step; keeps large data fast


def cover(units: Sequence[Unit], need: dict[str, Counter[str]], seed: int) -> tuple[dict[str, str] | None, list[str]]:
    """Choose a split for some of the units so that every need is met.

    Args:
        units: what can be placed; order does not matter.
        need: images needed, by split and class. Classes that are not here need nothing.
        seed: varies the search.

    Returns:
        The split of each unit placed, by its rank, and an empty list; or, when no way was found, None and the
        classes on which the attempts failed.
    """
    failed = Counter[str]()
    for attempt in range(ATTEMPTS):
        search = _Search(units, need, random.Random(f"{seed}/{attempt}"), free=attempt > 0)
        stuck = search.run()
        if stuck is None:
            return search.placed, []
        failed[stuck] += 1
    return None, sorted(failed)


class _Search:
    """One attempt; `free` ones break ties, and now and then better judgement, at random."""

    def __init__(
        self, units: Sequence[Unit], need: dict[str, Counter[str]], chance: random.Random, *, free: bool
    ) -> None:
        self.placed: dict[str, str] = {}
        self._need = {split: Counter(wanted) for split, wanted in need.items()}
        self._wild = chance.random() if free else 0.0
        self._chance = chance
        classes = sorted({c for wanted in need.values() for c in wanted})
        order = sorted(units, key=lambda unit: unit.rank)
        if free:
            chance.shuffle(order)
        # Small units first: they leave the fractions the most room.
        order.sort(key=lambda unit: unit.size)
        self._units = {c: [unit for unit in order if c in unit.counts] for c in classes}
        self._left = {c: len(having) for c, having in self._units.items()}

    def run(self) -> str | None:
        """Place units until no need is left; the class that cannot be served, or None."""
        while True:
            owing = {c: owed for c in self._units if (owed := self._owed(c))}
            if not owing:
                return None
            c = min(owing, key=lambda c: (self._left[c] - len(owing[c]), c))
            if self._left[c] < len(owing[c]):
                return c
            unit, split = self._choose(c, owing[c])
            self.placed[unit.rank] = split
            for other, images in unit.counts.items():
                if other in self._left:
                    self._left[other] -= 1
                    self._need[split][other] -= images

    def _owed(self, c: str) -> list[str]:
        return [split for split, wanted in self._need.items() if wanted[c] > 0]

    def _choose(self, c: str, splits: list[str]) -> tuple[Unit, str]:
        """The unit and split that meet the most needs at once; among equals the smaller unit."""
        waiting = (unit for unit in self._units[c] if unit.rank not in self.placed)
        candidates = [(unit, split) for unit in islice(waiting, _LOOKED_AT) for split in splits]
        if self._chance.random() < self._wild:
            return self._chance.choice(candidates)
        return max(candidates, key=lambda pair: self._met(*pair))

    def _met(self, unit: Unit, split: str) -> int:
        return sum(self._need[split][c] > 0 for c in unit.counts)
