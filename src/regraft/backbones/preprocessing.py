"""Preprocessing belongs to the weights: what they saw in training is what they must be shown.

One object is used in training, evaluation, prediction, export and serving, and lies in the bundle.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from regraft.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_REACH = {"nearest": 1, "bilinear": 1, "bicubic": 2, "lanczos": 3}
"""How far a filter reaches to either side, in pixels of whichever of input and output is coarser."""

_MAX_GROWTH = 8
"""A horizontal pass that would grow the image more than this, as it does a needle, comes second."""

_MODES = ("shorter", "squash", "pad")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize, centre crop and normalise, as the weights expect it.

    Attributes:
        size: height and width of the network's input, pixels.
        resize: pixels of the frame that the centre crop of `size` is cut from: the shorter side of the
            resized image in mode "shorter"; in the other modes the shorter side of the frame that has the
            proportions of `size`. When it equals min(size), nothing more is cut.
        mode: "shorter" keeps the aspect ratio and lets the shorter side be `resize`; "squash" resizes both
            sides to the frame; "pad" fits the whole image into the frame, keeping its aspect ratio, and fills
            the rest with the mean colour.
        interpolation: nearest, bilinear, bicubic or lanczos; always antialiased (but for nearest).
        mean: per channel, on the scale 0..1.
        std: per channel, on the scale 0..1.
    """

    size: tuple[int, int]
    resize: int
    mode: Literal["shorter", "squash", "pad"]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if [type(side) for side in self.size] != [int, int] or min(self.size) < 1:
            raise OptionError(f"Preprocessing size is {self.size!r}; expected height and width, two integers above 0.")
        if type(self.resize) is not int or self.resize < 1:
            raise OptionError(f"Preprocessing resize is {self.resize!r}; expected pixels, an integer above 0.")
        if self.mode not in _MODES:
            raise OptionError(f"Preprocessing mode is {self.mode!r}; known: {', '.join(_MODES)}.")
        if self.interpolation not in _RESAMPLING:
            raise OptionError(
                f"Preprocessing interpolation is {self.interpolation!r}; known: {', '.join(_RESAMPLING)}."
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if [math.isfinite(v) for v in values] != [True] * 3:
                raise OptionError(f"Preprocessing {name} is {values!r}; expected three finite numbers, one a channel.")
        if min(self.std) <= 0:
            raise OptionError(f"Preprocessing std is {self.std!r}; expected numbers above 0, as it is divided by.")

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Turn a decoded RGB image of any size into uint8 (H, W, 3), H and W being `size`.

        Only the pixels inside the crop are computed. Mode "shorter" is torchvision's
        `Resize(resize)` and `CenterCrop(size)` on Pillow images, with its integer rounding, and differs by at
        most one or two grey levels in a few pixels (the crop's edges reach Pillow as 32-bit floats); an image
        that is smaller than the crop is padded with zeros, as there.

        Raises:
            OptionError: the image is not RGB; `regraft.data.decode` gives RGB.
        """
        _check_rgb(image)
        resized = self._resized(*image.size)
        left, columns = _centre(resized[0], self.size[1])
        top, rows = _centre(resized[1], self.size[0])
        seen = _part(image, resized, (left, top), (columns, rows), self.interpolation)
        if (rows, columns) == self.size:
            return seen
        corner = ((self.size[0] - rows) // 2, (self.size[1] - columns) // 2)
        return self._on_canvas(seen, self.size, corner)

    def frame(self, image: Image.Image) -> NDArray[np.uint8]:
        """Turn a decoded RGB image into uint8 (h, w, 3): what the centre crop is cut from, and random crops may be.

        Mode "shorter" gives the resized image, its longer side cut centrally at twice `resize`; "squash" and "pad"
        give the whole frame. The frame's centre crop is what calling gives, within two grey levels nearly everywhere.

        Raises:
            OptionError: the image is not RGB.
        """
        _check_rgb(image)
        resized = self._resized(*image.size)
        longest = 2 * self.resize if self.mode == "shorter" else max(resized)
        left, columns = self._cut(resized[0], longest, axis=1)
        top, rows = self._cut(resized[1], longest, axis=0)
        seen = _part(image, resized, (left, top), (columns, rows), self.interpolation)
        if self.mode != "pad":
            return seen
        canvas = [max(side * self.resize // min(self.size), side) for side in self.size]
        if [rows, columns] == canvas:
            return seen
        corner = [
            _shift(whole, size) - _shift(part, size)
            for whole, part, size in zip(canvas, (rows, columns), self.size, strict=True)
        ]
        return self._on_canvas(seen, (canvas[0], canvas[1]), (corner[0], corner[1]))

    def _cut(self, length: int, longest: int, *, axis: int) -> tuple[int, int]:
        """Where a frame starts on an axis of the resized image and how long it is, so that the centre stays one."""
        kept = min(length, max(longest, self.size[axis]))
        return _shift(length, self.size[axis]) - _shift(kept, self.size[axis]), kept

    def _on_canvas(self, seen: NDArray[np.uint8], size: tuple[int, int], corner: tuple[int, int]) -> NDArray[np.uint8]:
        """The pixels on a canvas of `size` (height, width), their upper left at `corner` (row, column)."""
        canvas = np.empty((*size, 3), np.uint8)
        canvas[:] = [round(255 * m) for m in self.mean] if self.mode == "pad" else 0
        y, x = corner
        canvas[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
        return canvas

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that an image of this size gets before the centre crop, rounded as the zoos do."""
        if self.mode == "shorter":
            if width <= height:
                return self.resize, int(self.resize * height / width)
            return int(self.resize * width / height), self.resize
        frame_height, frame_width = (side * self.resize // min(self.size) for side in self.size)
        if self.mode == "squash":
            return frame_width, frame_height
        ratio = max(width / frame_width, height / frame_height)
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def normalise(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn uint8 (B, H, W, 3) into float32 (B, 3, H, W): divide by 255, subtract mean, divide by std."""
        scaled = (batch.astype(np.float32) / 255.0 - np.asarray(self.mean, np.float32)) / np.asarray(
            self.std, np.float32
        )
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def sentence(self) -> str:
        """In a few words, for people."""
        return (
            f"{self.mode} {self.resize}, crop {self.size[0]}x{self.size[1]}, {self.interpolation},"
            f" mean {self.mean}, std {self.std}"
        )

    def at_least(self) -> int:
        """The shorter side, in pixels, that a reduced-scale JPEG decode must keep: twice the resize."""
        return 2 * max(self.resize, *self.size)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """From the JSON values that `to_dict` gave.

        Raises:
            OptionError: a field is missing, unknown or out of range.
        """
        expected = {field.name for field in fields(cls)}
        if set(values) != expected:
            raise OptionError(
                f"Preprocessing has the fields {sorted(values)}; expected {sorted(expected)}. "
                "Was it written by another version?"
            )
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**settings)
        except TypeError as error:
            raise OptionError(f"Preprocessing has a field of the wrong type: {values!r} ({error}).") from error

    def fingerprint(self) -> str:
        """A short hash that changes with anything that changes a pixel."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _check_rgb(image: Image.Image) -> None:
    if image.mode != "RGB":
        raise OptionError(f"Preprocessing takes RGB images, not mode {image.mode!r}; decode the file with regraft.")


def _centre(length: int, crop: int) -> tuple[int, int]:
    """Where the centre crop starts on one axis and how many pixels there are to take, at most `crop`."""
    return (0, length) if length < crop else (round((length - crop) / 2.0), crop)


def _shift(length: int, crop: int) -> int:
    """Where the centre crop starts on one axis; below 0 where so much is padded before it."""
    return -((crop - length) // 2) if length < crop else round((length - crop) / 2.0)


def _part(
    image: Image.Image, resized: tuple[int, int], start: tuple[int, int], part: tuple[int, int], interpolation: str
) -> NDArray[np.uint8]:
    """The pixels of `part`, which begins at `start`, of the image resized to `resized`; all are (width, height)."""
    (width, height), (new_width, new_height) = image.size, resized
    (left, top), (columns, rows) = start, part
    box = (
        left * width / new_width,
        top * height / new_height,
        min(float(width), (left + columns) * width / new_width),
        min(float(height), (top + rows) * height / new_height),
    )
    return np.array(_resample(image, (columns, rows), box, interpolation))


def _resample(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float], interpolation: str
) -> Image.Image:
    """Resize the part of `image` inside `box` (left, top, right, bottom) to `size` (width, height).

    For a part, the horizontal pass comes first, in a call of its own. Left to itself, Pillow 13 chooses the
    order by the cost of the part, which need not be its choice for the whole image, and the order shows in up
    to ten grey levels, because the result between the passes is rounded to bytes.
    """
    width, height = size
    left, top, right, bottom = box
    resampling = _RESAMPLING[interpolation]
    reach = _REACH[interpolation] * max(1.0, (bottom - top) / height) + 1
    first, last = max(0, math.floor(top - reach)), min(image.height, math.ceil(bottom + reach))
    if 2 * (last - first) < image.height:  # tall and narrow: leave the rows that nothing is taken from
        image = image.resize((image.width, last - first), resampling, box=(0, first, image.width, last))
        top, bottom = top - first, bottom - first
    if width * image.height > _MAX_GROWTH * max(image.width * image.height, width * height):
        image = image.resize((image.width, height), resampling, box=(0, top, image.width, bottom))
        return image.resize(size, resampling, box=(left, 0, right, height))
    if (left, top, right, bottom) != (0, 0, *image.size):
        image = image.resize((width, image.height), resampling, box=(left, 0, right, image.height))
        left, right = 0, width
    return image.resize(size, resampling, box=(left, top, right, bottom))
