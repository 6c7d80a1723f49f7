"""What may be wrong although every file is fine: no labels, leaks between splits, contradictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regraft.data.manifest import SPLITS, Item, Manifest, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Conflict:
    """Images that belong together and are told apart.

    Attributes:
        name: the group they share, or the key.
        paths: the images, in the manifest's order.
        splits: the splits they are in, in the order train, val, test.
        labels: the labels they have, in class order.
    """

    name: str
    paths: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]


def drop_unlabelled(manifest: Manifest) -> Manifest:
    """Leave out the images without a label, and record them as skipped, "no label"."""
    without = tuple(Skipped(item.path, "no label") for item in manifest.items if item.label is None)
    if not without:
        return manifest
    items = tuple(item for item in manifest.items if item.label is not None)
    return replace(manifest, items=items, skipped=(*manifest.skipped, *without))


def group_conflicts(manifest: Manifest) -> tuple[Conflict, ...]:
    """Groups whose images are in more than one split: what is learnt from one gives the others away."""
    return tuple(c for c in _together(manifest, lambda item: item.group) if len(c.splits) > 1)


def duplicate_conflicts(manifest: Manifest) -> tuple[Conflict, ...]:
    """Identical files (same key) that are in more than one split or have different labels.

    Images that have no key yet are not compared.
    """
    found = _together(manifest, lambda item: item.key)
    return tuple(c for c in found if len(c.splits) > 1 or len(c.labels) > 1)


def _together(manifest: Manifest, name_of: Callable[[Item], str | None]) -> list[Conflict]:
    """All images by group or key, those with two images or more, in the manifest's order."""
    members: dict[str, list[Item]] = {}
    for item in manifest.items:
        name = name_of(item)
        if name is not None:
            members.setdefault(name, []).append(item)
    return [
        Conflict(
            name,
            tuple(item.path for item in items),
            tuple(split for split in SPLITS if any(item.split == split for item in items)),
            tuple(label for label in manifest.classes if any(item.label == label for item in items)),
        )
        for name, items in members.items()
        if len(items) > 1
    ]
