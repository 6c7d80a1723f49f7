"""Random changes of a pair of dates that leave what changed between them.

What moves pixels (mirroring, turning, scaling, cropping) is one for both dates and the mask. What changes colours is
drawn for each date by itself, as two dates never have the same light. Each is a pure function of the scene and a seed.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from regraft.errors import OptionError
from regraft.training.pairs import window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.training.pairs import Scene

LEVELS = ("none", "light", "default", "heavy")

_RGB = 3
_LUMA = np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601
_GREY_AXIS = 1 / math.sqrt(3)


@dataclass(frozen=True, slots=True)
class _Strength:
    """How much each change may be.

    Attributes:
        scale: from 1/scale to scale times as large; 1 leaves scale and place alone.
        light: brightness, contrast and saturation each by 1 - light to 1 + light.
        hue: largest turn of colours about grey, radians.
        blur: how often a date is blurred, 0..1.
    """

    scale: float = 1.0
    light: float = 0.0
    hue: float = 0.0
    blur: float = 0.0


_STRENGTHS = {
    "light": _Strength(),
    "default": _Strength(1.25, 0.2, 0.1, 0.1),
    "heavy": _Strength(1.5, 0.4, 0.3, 0.3),
}


@dataclass(frozen=True)
class PairAugment:
    """A random change of tiles.

    Attributes:
        level: "light" (mirrored, turned by right angles), "default" (also 0.8 to 1.25 times as large, mild changes of
            light and colour of each date, sometimes blurred) or "heavy" (0.67 to 1.5 times as large, strong changes).
        swap: whether the dates may change places, which is right where the classes say what changed and not which way.
    """

    level: str
    swap: bool = True

    def __call__(
        self, scene: Scene, top: int, left: int, side: int, seed: int
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Dates (2, side, side, C) and mask (side, side) about the window at `top` and `left`, changed.

        Types are the scene's. A window that is scaled or moved takes in the scene around it, as far as there is one.
        """
        strength, draws = _STRENGTHS[self.level], np.random.default_rng(seed)
        dates, label = _cut(scene, top, left, side, strength.scale, draws)
        dates, label = _turned(dates, label, draws)
        if self.swap and draws.random() < 0.5:  # noqa: PLR2004
            dates = dates[::-1]
        dates, label = np.ascontiguousarray(dates), np.ascontiguousarray(label)
        changed = [_relit(date, strength, draws) for date in dates] if strength.light else list(dates)
        blurred = [_blurred(date) if draws.random() < strength.blur else date for date in changed]
        return np.stack(blurred), label


def pair_augmentation(level: str, *, swap: bool = True) -> PairAugment | None:
    """The augmentation of this level; None for "none".

    Raises:
        OptionError: no such level.
    """
    if level not in LEVELS:
        near = difflib.get_close_matches(level, LEVELS, 1)
        meant = f"; did you mean {near[0]}?" if near else "."
        raise OptionError(f"--augment {level!r} is none of {', '.join(LEVELS)}, which change pairs take{meant}")
    return None if level == "none" else PairAugment(level, swap)


def _cut(
    scene: Scene, top: int, left: int, side: int, scale: float, draws: np.random.Generator
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """A square part of the scene, resized to `side`; images bilinearly with antialiasing, masks by nearest pixel."""
    if scale == 1:
        return window(scene, top, left, side)
    part = round(side * scale ** draws.uniform(-1, 1))
    part = min(part, max(side, min(scene.size)))
    corner = [
        _start(at, side, part, length, draws.random()) for at, length in zip((top, left), scene.size, strict=True)
    ]
    dates, label = window(scene, corner[0], corner[1], part)
    if part == side:
        return dates, label
    pixels = torch.from_numpy(np.ascontiguousarray(dates)).permute(0, 3, 1, 2)
    resized = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=part > side)
    mask = torch.from_numpy(np.ascontiguousarray(label))[None, None]
    nearest = functional.interpolate(mask, (side, side), mode="nearest-exact")
    return resized.permute(0, 2, 3, 1).numpy(), nearest[0, 0].numpy()


def _start(at: int, side: int, part: int, length: int, draw: float) -> int:
    """Where a part begins on one axis: it covers or lies in the window, moved by up to a quarter, in the scene."""
    low, high = min(at, at + side - part) - side // 4, max(at, at + side - part) + side // 4
    first, last = min(0, length - part), max(0, length - part)
    low, high = (min(max(value, first), last) for value in (low, high))
    return low + int(draw * (high - low + 1))


def _turned(
    dates: NDArray[Any], label: NDArray[np.uint8], draws: np.random.Generator
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """One of the eight ways to lay a square."""
    quarters, mirrored = int(draws.integers(4)), draws.random() < 0.5  # noqa: PLR2004
    dates, label = np.rot90(dates, quarters, (1, 2)), np.rot90(label, quarters)
    return (dates[:, :, ::-1], label[:, ::-1]) if mirrored else (dates, label)


def _relit(date: NDArray[Any], strength: _Strength, draws: np.random.Generator) -> NDArray[Any]:
    """One date (H, W, C) in another light.

    8-bit RGB: brightness, contrast about the mean grey, saturation and hue, as one linear map of colours. Others: each
    band's spread about its mean, and its mean by a share of the spread.
    """
    bright, contrast, colour = 1 + strength.light * draws.uniform(-1, 1, 3)
    if date.dtype == np.uint8 and date.shape[-1] == _RGB:
        turn = _hue(strength.hue * draws.uniform(-1, 1))
        mix = bright * contrast * (colour * turn + (1 - colour) * np.outer(np.ones(3), _LUMA))
        grey = bright * float(_LUMA @ _means(date))
        shift = np.full(3, (1 - contrast) * grey)
        out = date.reshape(-1, 3).astype(np.float32) @ mix.T.astype(np.float32)
        return _as_bytes((out + shift.astype(np.float32)).reshape(date.shape))
    bands = date.shape[-1]
    means = _means(date)
    values = date.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # fill values that the file does not declare
        spread = np.sqrt(_means(np.square(values - means.astype(np.float32))))
    gain = contrast * (1 + 0.25 * strength.light * draws.uniform(-1, 1, bands))
    shift = means * (1 - gain) + spread * ((bright - 1) + 0.25 * strength.light * draws.uniform(-1, 1, bands))
    with np.errstate(over="ignore", invalid="ignore"):
        out = values * gain.astype(np.float32) + shift.astype(np.float32)
    return _as_bytes(out) if date.dtype == np.uint8 else out


def _means(date: NDArray[Any]) -> NDArray[np.float64]:
    """(C,) mean of each band; rows are added up first, which is ten times as fast as pixels one by one."""
    height, width, bands = date.shape
    columns = date.reshape(height, width * bands).sum(0, dtype=np.uint32 if date.dtype == np.uint8 else np.float64)
    means: NDArray[np.float64] = columns.reshape(width, bands).sum(0, dtype=np.float64) / (height * width)
    return means


def _hue(angle: float) -> NDArray[np.float64]:
    """The rotation of RGB about the grey axis (Rodrigues' formula with the axis (1, 1, 1) / sqrt 3)."""
    cross = _GREY_AXIS * np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    turn = math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) / 3 * np.ones((3, 3))
    return np.asarray(turn, np.float64)


def _as_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(values + np.float32(0.5), 0, 255), np.uint8)


def _blurred(date: NDArray[Any]) -> NDArray[Any]:
    """Binomial blur, 1 2 1 twice along both axes (standard deviation 1 pixel), edges repeated."""
    wide: NDArray[Any] = date.astype(np.uint16 if date.dtype == np.uint8 else np.float32)  # 255 * 256 fits
    for axis in (0, 1):
        for _ in range(2):
            edged = np.pad(wide, [(1, 1) if other == axis else (0, 0) for other in range(3)], mode="edge")
            before, after = (edged[:-2], edged[2:]) if axis == 0 else (edged[:, :-2], edged[:, 2:])
            wide = before + after + 2 * wide
    return ((wide + 128) // 256).astype(np.uint8) if date.dtype == np.uint8 else wide / np.float32(256)
