"""Make train, val and test: stratified by class, seeded, and never through the middle of a group."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from regraft.data.checks import drop_unlabelled
from regraft.data.cover import cover
from regraft.data.manifest import SPLITS, Manifest, looks_unlike_classes
from regraft.data.names import natural_key, shown
from regraft.data.units import Unit, units_of
from regraft.errors import DataError, OptionError, SplitError

_MIN_TRAIN = 2  # images of each class that a model needs at the very least to learn from


def make_splits(
    manifest: Manifest, *, seed: int = 0, val: float = 0.15, test: float = 0.15, resplit: bool = False
) -> Manifest:
    """Make train, val and test where the user has not.

    A manifest that has train and at least one of val and test is returned unchanged. One with no splits,
    or with train alone, or with `resplit`, is divided class by class: `test` and `val` of each class's
    images, rounded, at least one each; the rest, at least two, is train. Images of one group, and
    identical files where keys are known, stay together; then the fractions are met as nearly as the
    groups allow.

    Who goes where follows from a hash of the seed and of each image's group, key, or path below the folder
    that all images share. It does not depend on the order of files or on where the folder lies, and
    an image that is added moves at most a few others of its class.

    Args:
        manifest: what to divide. Images without label are left out and recorded as skipped.
        seed: another seed gives another division.
        val: fraction of each class for val; 0 makes no val split.
        test: fraction of each class for test; 0 makes no test split.
        resplit: divide anew although there are splits.

    Returns:
        The manifest with a split at every item, in the same order, and a `split_note` that says how.

    Raises:
        SplitError: some images have a split and others not; val or test is given without train; or classes
            are too small to divide, all of which are named.
        DataError: no image has a label.
        OptionError: impossible fractions.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise OptionError(
            f"Cannot put {val:g} into val and {test:g} into test. Expected 0 or more, with a sum below 1."
        )
    given = manifest.split_sizes()
    if given and not resplit:
        check_splits_complete(manifest)
        if "train" not in given:
            raise SplitError(
                f"{manifest.source} has no train split, only {_sizes(given)}. Add one, or divide all anew"
                f" with --resplit."
            )
        if len(given) > 1:
            return manifest
    manifest = drop_unlabelled(manifest)
    if not manifest.items:
        raise DataError(f"No image in {manifest.source} has a label, so there is nothing to divide into splits.")
    fractions = {split: fraction for split, fraction in (("test", test), ("val", val)) if fraction > 0}
    units = units_of(manifest.items, seed)
    assigned = _divide(units, fractions, seed)
    items = list(manifest.items)
    for unit in units:
        for position in unit.members:
            items[position] = replace(items[position], split=assigned[unit.rank])
    divided = replace(manifest, items=tuple(items))
    sizes = _sizes(divided.split_sizes())
    note = f"made: seed {seed}, {val:g} of each class for val and {test:g} for test; {sizes}"
    if any(item.group is not None for item in items):
        note += "; groups kept together"
    if any(item.key is not None for item in items):
        note += "; identical files kept together"
    return replace(divided, split_note=note)


def check_splits_complete(manifest: Manifest) -> None:
    """Refuse a manifest in which some images have a split and others do not.

    Raises:
        SplitError: with the counts, and what to do.
    """
    given = manifest.split_sizes()
    without = len(manifest) - sum(given.values())
    if given and without:
        raise SplitError(
            f"{manifest.source}: {without} of {len(manifest)} images have no split, the others have"
            f" ({_sizes(given)}). Fill in the empty ones, or divide all anew with --resplit."
        )


def _sizes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


@dataclass(frozen=True, slots=True)
class _Plan:
    """Images by split and class: how many there should be, must be, and are; and how many in all."""

    want: dict[str, Counter[str]]
    need: dict[str, Counter[str]]
    have: dict[str, Counter[str]]
    totals: Counter[str]

    def owed(self, split: str, label: str) -> int:
        """Images of a class that a split still cannot do without."""
        return max(0, self.need[split][label] - self.have[split][label])

    def misfit(self, unit: Unit, split: str) -> float:
        """How much further from what it wants (squared, relative to each class) the unit brings the split."""
        change = 0.0
        for label in sorted(unit.counts):  # in a fixed order, as sums of floats depend on it
            over = self.have[split][label] - self.want[split][label]
            more = over + unit.counts[label]
            change += (more * more - over * over) / self.totals[label] ** 2
        return change


def _plan(totals: Counter[str], fractions: dict[str, float]) -> _Plan:
    want = {
        split: Counter({label: max(1, math.floor(fraction * n + 0.5)) for label, n in totals.items()})
        for split, fraction in fractions.items()
    }
    want["train"] = Counter({label: n - sum(want[s][label] for s in fractions) for label, n in totals.items()})
    need = {split: Counter(dict.fromkeys(totals, 1)) for split in fractions}
    need["train"] = Counter(dict.fromkeys(totals, _MIN_TRAIN))
    return _Plan(want, need, {split: Counter() for split in want}, totals)


def _divide(units: list[Unit], fractions: dict[str, float], seed: int) -> dict[str, str]:
    """Give every unit a split; by rank."""
    totals = Counter[str]()
    for unit in units:
        totals.update(unit.counts)
    _check_sizes(units, totals, others=len(fractions))
    plan = _plan(totals, fractions)
    own: dict[str, list[Unit]] = {label: [] for label in totals}
    for unit in units:
        if len(unit.counts) == 1:
            own[next(iter(unit.counts))].append(unit)
    # A class with enough units of its own can be divided whatever becomes of those it shares with others.
    scarce = {label for label in totals if not _enough(own[label], others=len(fractions))}
    assigned = _cover(units, scarce, plan, seed)
    for unit in units:
        if unit.rank in assigned:
            plan.have[assigned[unit.rank]].update(unit.counts)
    shared = [unit for unit in units if len(unit.counts) > 1 and unit.rank not in assigned]
    for unit in sorted(shared, key=lambda unit: (-unit.size, unit.rank)):
        split = min((s for s in SPLITS if s in plan.want), key=lambda split: plan.misfit(unit, split))
        assigned[unit.rank] = split
        plan.have[split].update(unit.counts)
    for label, having in own.items():
        assigned |= _cut(label, [unit for unit in having if unit.rank not in assigned], plan)
    return assigned


def _enough(units: list[Unit], *, others: int) -> bool:
    """Whether units of one class suffice for `others` splits of one image and a train split of two."""
    return len(units) > others and sum(unit.size for unit in units) >= others + _MIN_TRAIN


def _cut(label: str, units: list[Unit], plan: _Plan) -> dict[str, str]:
    """Divide units of one class: test from one end of the shuffled row, val from the other, train between.

    Taking from both ends is what makes an added image move few others. A split takes what fits into
    what it still wants, as long as the later ones are left what they need; a split that needs an
    image and fits none takes the smallest unit. With `_enough` units that always works out: taking
    the smallest of three or more leaves two images wherever one more is needed.
    """
    assigned: dict[str, str] = {}
    rest = list(units)
    others = [split for split in plan.want if split != "train"]
    for at, split in enumerate(others):
        owed = [count for later in [*others[at + 1 :], "train"] if (count := plan.owed(later, label))]
        room = plan.want[split][label] - plan.have[split][label]
        must = plan.owed(split, label) > 0
        for unit in _take(rest, room, must=must, keep_units=len(owed), keep_images=sum(owed)):
            assigned[unit.rank] = split
        rest = [unit for unit in reversed(rest) if unit.rank not in assigned]
    return assigned | {unit.rank: "train" for unit in rest}


def _take(units: list[Unit], room: int, *, must: bool, keep_units: int, keep_images: int) -> list[Unit]:
    """The first units that fit into `room` images; see `_cut`."""
    spare_units = len(units) - keep_units
    spare_images = sum(unit.size for unit in units) - keep_images
    taken = []
    for unit in units:
        if unit.size <= min(room, spare_images) and spare_units > 0:
            taken.append(unit)
            room -= unit.size
            spare_units -= 1
            spare_images -= unit.size
    if must and not taken and units:
        taken = [min(units, key=lambda unit: unit.size)]
    return taken


def _cover(units: list[Unit], scarce: set[str], plan: _Plan, seed: int) -> dict[str, str]:
    """Serve the classes that cannot be divided by themselves."""
    need = {split: Counter({c: n for c, n in wanted.items() if c in scarce}) for split, wanted in plan.need.items()}
    placed, failed = cover([unit for unit in units if scarce & unit.counts.keys()], need, seed)
    if placed is None:
        raise SplitError(
            f"No way was found to divide the groups so that every split has every class and no group is cut."
            f" It fails at {_named(failed, units, plan.totals)}, whose groups other classes need too."
            f" {_ADVICE}"
        )
    return placed


def _check_sizes(units: list[Unit], totals: Counter[str], *, others: int) -> None:
    """Refuse classes that no division could serve, all of them in one message."""
    pieces = Counter(label for unit in units for label in unit.counts)
    images = others + _MIN_TRAIN
    small = sorted((label for label, n in totals.items() if n < images or pieces[label] <= others), key=natural_key)
    if not small:
        return
    if looks_unlike_classes(len(totals), totals.total()):
        raise SplitError(
            f"There are {len(totals):,} different labels for {totals.total():,} images: they look like numbers or"
            f" names, not classes. Name another column with --label, or put the images of each class into one"
            f" folder."
        )
    needs = f"at least {images} images"
    if any(pieces[label] < totals[label] for label in small):
        needs += f" in at least {others + 1} groups, where identical files are one group"
    raise SplitError(
        f"{len(small)} of {len(totals)} classes are too small to divide into {others + 1} splits:"
        f" {_named(small, units, totals)}."
        f" Each class needs {needs}. {_ADVICE}"
    )


_ADVICE = (
    "Add images, remove the folders or rows of these classes, join them with other classes, or bring your own"
    " splits (folders train, val and test, or a split column)."
)


def _named(labels: list[str], units: list[Unit], totals: Counter[str]) -> str:
    """Classes with their counts, for messages."""
    pieces = Counter(label for unit in units for label in unit.counts)
    texts = []
    for label in labels:
        text = f"{totals[label]} image{'s' if totals[label] > 1 else ''}"
        if pieces[label] < totals[label]:
            text += f" in {pieces[label]} group{'s' if pieces[label] > 1 else ''}"
        texts.append(f"{label!r} ({text})")
    return shown(texts)
