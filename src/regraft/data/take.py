"""Take a fixed number of images of each class, by the order of their file names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from regraft.data.manifest import Item, Manifest, Skipped
from regraft.data.names import natural_key, shown
from regraft.errors import OptionError, SplitError


def take_by_number(manifest: Manifest, train: int, dev: int, test: int) -> Manifest:
    """Take the first images of each class for train, the next for val (dev), the next for test.

    The order is the natural order of the file names, without their folders. Splits that the manifest
    has are not looked at.

    Args:
        manifest: where to take from; its classes stay.
        train: images a class for train, at least 1.
        dev: images a class for val, 0 or more.
        test: images a class for test, 0 or more.

    Returns:
        A manifest with the images taken, in the order of splits and classes; the rest is in `skipped` as "not
        taken" or "no label".

    Raises:
        OptionError: a number that is too small.
        SplitError: classes with fewer images than asked for; all of them are named with their counts.
    """
    if train < 1 or dev < 0 or test < 0:
        raise OptionError(
            f"Cannot take {train} train, {dev} dev and {test} test images a class. Train needs 1 or more."
        )
    wanted = {"train": train, "val": dev, "test": test}
    total = train + dev + test
    sizes = manifest.class_sizes()
    short = [f"{name!r} ({size})" for name, size in sizes.items() if size < total]
    if short:
        raise SplitError(
            f"Taking {train} + {dev} + {test} images a class needs {total} of each; {len(short)} have fewer:"
            f" {shown(short)}. Take fewer, or remove the folders or rows of these classes."
        )
    by_class: dict[str, list[Item]] = {name: [] for name in manifest.classes}
    skipped = list(manifest.skipped)
    for item in manifest.items:
        if item.label is None:
            skipped.append(Skipped(item.path, "no label"))
        else:
            by_class[item.label].append(item)
    taken: dict[str, list[Item]] = {split: [] for split in wanted}
    for items in by_class.values():
        items.sort(key=lambda item: (natural_key(Path(item.path).name), natural_key(item.path)))
        rest = iter(items)
        for split, count in wanted.items():
            taken[split] += [replace(next(rest), split=split) for _ in range(count)]
        skipped += [Skipped(item.path, "not taken") for item in rest]
    note = f"taken by number: {train} train, {dev} val and {test} test images a class, by order of file names"
    if manifest.split_sizes():
        note += "; the splits that were given are not used"
    chosen = tuple(item for split in wanted for item in taken[split])
    return replace(manifest, items=chosen, skipped=tuple(skipped), split_note=note)
