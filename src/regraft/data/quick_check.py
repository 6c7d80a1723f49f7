"""What names and counts alone say is wrong with the data: the cheap half of `regraft check`, which `train` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.data.class_names import named_alike, named_like_splits
from regraft.data.clips import guess_clips
from regraft.data.names import shown, so_many

if TYPE_CHECKING:
    from regraft.data.manifest import Manifest

TINY = 5
"""Images of a class below which cross-validation cannot hold one out in each of five folds."""

IMBALANCED = 5.0
"""How many times the smallest class the largest must be for class weights by default."""

_SHOWN = 5


def quick_check(manifest: Manifest) -> tuple[str, ...]:
    """Sentences about the names and sizes of classes, and about videos that straddle splits; no file is opened."""
    sentences = (*class_sizes(manifest), *_class_names(manifest), *_clips(manifest))
    return tuple(sentences)


def class_sizes(manifest: Manifest) -> tuple[str, ...]:
    """Sentences about classes that are small, or much smaller than others, and what will be done."""
    part = manifest.split("train") if "train" in manifest.split_sizes() else manifest
    sizes = {name: size for name, size in part.class_sizes().items() if size}
    if len(sizes) < 2:  # noqa: PLR2004 - nothing to compare
        return ()
    where = "training images" if part is not manifest else "images"
    found = []
    tiny = [f"{name!r} ({size})" for name, size in sizes.items() if size < TINY]
    if tiny:
        found.append(
            f"{len(tiny)} of {len(sizes)} classes {'has' if len(tiny) == 1 else 'have'} fewer than {TINY} {where}:"
            f" {shown(tiny, _SHOWN)}. What is measured of them says little; add images or join them with other classes"
        )
    (least, few), (most, many) = min(sizes.items(), key=lambda s: s[1]), max(sizes.items(), key=lambda s: s[1])
    if many > IMBALANCED * few:
        found.append(
            f"{most!r} has {many / few:.0f} times the {where} of {least!r} ({many:,} to {few:,}): strategies that train"
            f" the network weigh classes by their rarity (--class-weights none turns that off); read balanced"
            f" accuracy and macro F1, as accuracy hides small classes"
        )
    return tuple(found)


def _class_names(manifest: Manifest) -> tuple[str, ...]:
    found = []
    if splits := named_like_splits(manifest.classes):
        texts = [repr(name) for name in splits]
        found.append(
            f"named like a split, not like a class: {shown(texts, _SHOWN)}. Were split folders read as classes?"
        )
    if alike := named_alike(manifest.classes):
        texts = [f"{a!r} and {b!r}" for a, b in alike]
        found.append(f"class names that may mean the same class: {shown(texts, _SHOWN)}")
    return tuple(found)


def _clips(manifest: Manifest) -> tuple[str, ...]:
    clips = [clip for clip in guess_clips(manifest) if len(clip.splits) > 1]
    if not clips:
        return ()
    texts = [f"{clip.name} ({len(clip.rows)} images in {' and '.join(clip.splits)})" for clip in clips]
    which = so_many(len(clips), "numbered sequence, by its name", "numbered sequences, by their names")
    sentence = (
        f"{which} frames of one video (a guess), {'stands' if len(clips) == 1 else 'stand'} in more than one split:"
        f" {shown(texts, 3)}. If they are, name their video in a group column and split anew"
    )
    return (sentence,)
