"""Frames of one video, guessed from file names: what is next to each other in a video must not straddle splits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from regraft.data.manifest import SPLITS

if TYPE_CHECKING:
    from regraft.data.manifest import Item, Manifest

_NUMBER_BACKWARD = re.compile(r"[^0-9]*([0-9]+)")  # the last number of a text that is read from its end
_LONG_NUMBER = 10  # digits: those of hashes and times
_FRAME_WORD = re.compile(r"(?:^|[^a-z])(?:f|fr|frame|frames|clip|video|vid|seq|shot|movie)[\s_\-.#]*$", re.IGNORECASE)
_CAMERA = re.compile(
    r"^(?:img|image|images|photo|picture|pic|dsc[nf]?|pict|p|scan|imag|mvi|gopr|dji|file|sample|im)?[\s_\-.#0-9]*$",
    re.IGNORECASE,
)
_RUN = 3  # frames that tell a video from two pictures with numbers
_NEAR = 30  # largest step between the numbers of neighbouring frames of one video
_LARGEST_SHARE = 0.5  # of a class: a name that numbers more is that of the class, not of one video


@dataclass(frozen=True, slots=True)
class Clip:
    """Images that may be frames of one video.

    Attributes:
        name: what their names share, with # for the number ("v12_f#").
        rows: their positions in the manifest, by number.
        splits: the splits they are in, in the order train, val, test.
    """

    name: str
    rows: tuple[int, ...]
    splits: tuple[str, ...]


def guess_clips(manifest: Manifest) -> tuple[Clip, ...]:
    """Guess which images are frames of one video, from their names alone.

    A clip is three or more images whose names differ in the last number only, in steps of at most 30. Names that
    ordinary numbering gives are left alone: that of a camera (IMG_0001), that of the class (cat.12), one that numbers
    more than half of a class, and one that numbers several classes; but a word before the number that means a frame
    ("f", "frame", "clip", ...) outweighs all of these. Images that have a group already are not looked at.
    """
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row, item in enumerate(manifest.items):
        backward = None if item.group is not None else _NUMBER_BACKWARD.match(stem := _stem(item.path)[::-1])
        if backward is not None and backward.end() - backward.start(1) < _LONG_NUMBER:
            before, after = stem[backward.end() :][::-1], stem[: backward.start(1)][::-1]
            found.setdefault((before, after), []).append((int(backward[1][::-1]), row))
    sizes = manifest.class_sizes()
    clips = []
    for (before, after), frames in found.items():
        if len(frames) < _RUN:
            continue
        frames.sort()
        if any(b - a > _NEAR for (a, _), (b, _) in pairwise(frames)):
            continue
        items = [manifest.items[row] for _, row in frames]
        if _may_be_clip(before, items, sizes):
            splits = {item.split for item in items}
            rows = tuple(row for _, row in frames)
            clips.append(Clip(f"{before}#{after}", rows, tuple(split for split in SPLITS if split in splits)))
    return tuple(clips)


def _may_be_clip(before: str, items: list[Item], sizes: dict[str, int]) -> bool:
    if _FRAME_WORD.search(before):
        return True
    labels = {item.label for item in items}
    label = items[0].label or ""
    if _CAMERA.match(before) or len(labels) > 1 or len(items) > _LARGEST_SHARE * sizes.get(label, len(items)):
        return False
    return _letters(before) != _letters(label)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalpha())


def _stem(path: str) -> str:
    """The file's name without its ending; paths come by the hundred thousand."""
    name = path[path.rfind("/") + 1 :]
    name = name[name.rfind("\\") + 1 :]
    return name.rpartition(".")[0] or name
