"""One look at every file: can it be decoded, what was it like, and a small picture to compare it by."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from regraft.data.alignment import Sketches
from regraft.data.containers import format_of, read_jpeg
from regraft.data.decode import MAX_PIXELS, decode
from regraft.data.lookalikes import COLOUR_SIDE, SIDE
from regraft.data.manifest import Skipped, sha256_of
from regraft.errors import ImageRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from regraft.data.manifest import Item

_SHRINK = SIDE // COLOUR_SIDE
_AHEAD = 64  # images in work
_PLAIN = 4  # levels between the darkest and the brightest of a picture of one colour
_NO_COLOUR = 128  # chroma of grey
TURNED = "turned upright as EXIF says"


@dataclass(frozen=True, slots=True)
class Look:
    """What one file was like.

    Attributes:
        format: "JPEG", "PNG", ...
        width: pixels, as stored.
        height: pixels, as stored.
        notes: what decoding did to it.
        plain: whether it is of one colour.
        colourless: whether it has shades of grey only.
    """

    format: str
    width: int
    height: int
    notes: tuple[str, ...]
    plain: bool
    colourless: bool


@dataclass(frozen=True)
class Survey:
    """What was seen in N files that can be decoded, and which cannot.

    Attributes:
        items: those that can, in the order they came, with keys.
        looks: what each was like.
        sketches: a small picture of each.
        rejected: the others, with the reason.
    """

    items: tuple[Item, ...]
    looks: tuple[Look, ...]
    sketches: Sketches
    rejected: tuple[Skipped, ...]


def survey(
    items: Sequence[Item],
    *,
    threads: int = 1,
    max_pixels: int = MAX_PIXELS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> Survey:
    """Read, hash and decode every file once; no more than 64 images and 5 kB for each file are in memory.

    Args:
        items: with or without keys; the bytes decide.
        threads: how many files are decoded at the same time.
        max_pixels: images with more are rejected before decoding.
        on_progress: told the number of files done and their total.
    """
    grey = np.empty((len(items), SIDE, SIDE), np.uint8)
    colour = np.empty((len(items), COLOUR_SIDE, COLOUR_SIDE, 2), np.uint8)
    kept: list[Item] = []
    looks: list[Look] = []
    rejected: list[Skipped] = []
    for done, (item, seen) in enumerate(zip(items, _seen(items, threads, max_pixels), strict=True), 1):
        if isinstance(seen, Skipped):
            rejected.append(seen)
        else:
            key, look, picture = seen
            row = len(kept)
            grey[row] = picture[..., 0]
            means = picture[..., 1:].reshape(COLOUR_SIDE, _SHRINK, COLOUR_SIDE, _SHRINK, 2).mean((1, 3))
            colour[row] = np.rint(means)
            kept.append(replace(item, key=key))
            looks.append(look)
        on_progress(done, len(items))
    sketches = Sketches(grey[: len(kept)], colour[: len(kept)])
    return Survey(tuple(kept), tuple(looks), sketches, tuple(rejected))


_Seen = tuple[str, Look, "NDArray[np.uint8]"]


def _seen(items: Sequence[Item], threads: int, max_pixels: int) -> Iterator[_Seen | Skipped]:
    """In order, a bounded number ahead of who asks."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(_look, item.path, max_pixels) for item in items[:_AHEAD])
        for item in items[_AHEAD:]:
            yield waiting.popleft().result()
            waiting.append(pool.submit(_look, item.path, max_pixels))
        while waiting:
            yield waiting.popleft().result()


def _look(path: str, max_pixels: int) -> _Seen | Skipped:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path with undecodable bytes stays a str
            data = file.read()
        decoded = decode(data, path=path, max_pixels=max_pixels, at_least=2 * SIDE)
    except FileNotFoundError:
        return Skipped(path, "file not found")
    except ImageRejected as error:
        return Skipped(path, error.reason)
    except (OSError, ValueError) as error:
        return Skipped(path, f"cannot be read ({getattr(error, 'strerror', None) or error})")
    kind = format_of(data) or ""
    (width, height), notes = decoded.image.size, decoded.notes
    if kind == "JPEG":  # others are decoded at their own size
        header = read_jpeg(data, path)
        (width, height), notes = header.size, (*notes, *((TURNED,) if header.orientation > 1 else ()))
    picture = np.asarray(decoded.image.convert("YCbCr").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    grey, colours = picture[..., 0], picture[..., 1:]
    plain = max(np.ptp(grey), np.ptp(colours[..., 0]), np.ptp(colours[..., 1])) <= _PLAIN
    colourless = np.abs(colours.astype(np.int16) - _NO_COLOUR).max() <= _PLAIN
    look = Look(kind, width, height, notes, bool(plain), bool(colourless))
    return sha256_of(data), look, picture
