"""Augmentation: random changes of a picture that leave what it shows, each a pure function of the picture and a seed.

Draws come from torch's CPU generator, which is set before and restored after, so nothing else that is random in a
program notices. The presets give the same pixels at any number of threads, in any process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from regraft.errors import OptionError
from regraft.training.augment_file import read_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from regraft.backbones.preprocessing import Preprocessing

PRESETS = ("none", "light", "default", "heavy")

_VERSION = 1
"""Raised whenever a preset draws or changes pixels otherwise; views that are stored under the old one are not used."""


@dataclass(frozen=True)
class Augment:
    """A random change of pictures.

    Attributes:
        name: the preset or file that the user named.
        size: height and width of what comes out.
        interpolation: of resizing to `size`.
        steps: uint8 (3, h, w) -> uint8 (3, h, w) of any size, drawing from torch's CPU generator.
        identity: everything that decides what comes out, as text.
    """

    name: str
    size: tuple[int, int]
    interpolation: str
    steps: Callable[[Tensor], Any]
    identity: str

    def __call__(self, frame: NDArray[np.uint8], seed: int) -> Tensor:
        """Change a picture, uint8 (h, w, 3), into uint8 (3, H, W), H and W being `size`; the same for the same seed.

        The result's pixels lie in memory channels last, which is what convolutions on CPUs like best.
        """
        with _drawing(seed):
            out = self.steps(torch.from_numpy(frame).permute(2, 0, 1))
        return _brought_to(self.size, self.interpolation, out)

    def fingerprint(self) -> str:
        """A short hash that changes with anything that changes what comes out: 16 hex digits."""
        text = json.dumps([_VERSION, self.identity, self.size, self.interpolation])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def augmentation(name: str, preprocessing: Preprocessing) -> Augment | None:
    """The augmentation of this name, for pictures as `Preprocessing.frame` gives them; None for "none".

    Args:
        name: "none"; "light" (mirrored or not, crops of at least 80 % of the area); "default" (crops of at least
            35 %, mild changes of brightness, contrast and saturation); "heavy" (default, one more change at random
            strength and an erased rectangle); or the path of a YAML file (see `augment_file.read_steps`).
        preprocessing: of the weights: says the size and interpolation.

    Raises:
        OptionError: neither a preset nor a file, or the file asks for what there is not.
    """
    size, interpolation = preprocessing.size, preprocessing.interpolation
    if name == "none":
        return None
    if name in PRESETS:
        return Augment(name, size, interpolation, _PRESETS[name](size, interpolation), name)
    path = Path(name).expanduser()
    if not path.is_file():
        raise OptionError(_unknown(name))
    steps, identity = read_steps(path)
    made = Augment(name, size, interpolation, steps, identity)
    _try_out(made, preprocessing)
    return made


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, PRESETS, 1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"--augment {name!r} is neither of {', '.join(PRESETS)} nor a file{meant} A file lists transforms as YAML."


def _try_out(made: Augment, preprocessing: Preprocessing) -> None:
    """Run a file's transforms once, so that what does not work is told before the training starts."""
    height, width = (max(side, preprocessing.resize) for side in preprocessing.size)
    draws = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=draws).numpy()
    try:
        made(frame, 0)
    except OptionError as error:
        raise OptionError(f"{made.name}: {error}") from error
    except Exception as error:
        reason = str(error).partition("\n")[0][:200]
        raise OptionError(
            f"{made.name}: its transforms do not work on a picture of {width}x{height} ({type(error).__name__}:"
            f" {reason}). Expected transforms that take one image and give one image; mend the file."
        ) from error


@contextlib.contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Let torch's CPU generator draw from `seed`, and go on as if nothing had been drawn.

    `torch.manual_seed` would also set the generators of the GPUs, which nobody here restores.
    """
    before = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(before)


def _brought_to(size: tuple[int, int], interpolation: str, image: Any) -> Tensor:
    """What a file's transforms gave, checked to be an image, as large as the network wants.

    Of other proportions, the centre is kept: a picture that is squashed in training would not look like those that
    are not, later.
    """
    if not isinstance(image, torch.Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:  # noqa: PLR2004
        what = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, torch.Tensor) else type(image).__name__
        raise OptionError(
            f"The augmentation gives {what}; expected a uint8 image (3, h, w). Leave out conversions and normalisation,"
            " which the training does itself."
        )
    plain: Tensor = image.as_subclass(torch.Tensor)
    height, width = plain.shape[1:]
    if (height, width) == size:
        return plain
    scale = min(height / size[0], width / size[1])
    rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    return _resize(plain[:, top : top + rows, left : left + columns], size, interpolation)


def _resize(image: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    # torch has no lanczos; bicubic is its nearest kin.
    mode = InterpolationMode("bicubic" if interpolation == "lanczos" else interpolation)
    out: Tensor = resize(image, list(size), mode, antialias=True)
    return out


@dataclass(frozen=True)
class _CropAndFlip:
    """A random part at random proportions, resized, mirrored half of the time.

    Szegedy et al. 2015 (arXiv 1409.4842) drew crops so; the part is cut before it is resized, which costs least.
    """

    size: tuple[int, int]
    interpolation: str
    area: float
    proportions: float

    def __call__(self, image: Tensor) -> Tensor:
        top, left, height, width = self._draw(image.shape[1], image.shape[2])
        image = _resize(image[:, top : top + height, left : left + width], self.size, self.interpolation)
        return image.flip(-1) if float(torch.rand(())) < 0.5 else image  # noqa: PLR2004

    def _draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of a part: its area at random, its proportions about those of `size`."""
        share, stretch, down, across = torch.rand(4).tolist()
        area = (self.area + (1 - self.area) * share) * height * width
        ratio = self.size[1] / self.size[0] * self.proportions ** (2 * stretch - 1)
        columns, rows = math.sqrt(area * ratio), math.sqrt(area / ratio)
        # Where the picture is too narrow for that, the part keeps its proportions and shrinks.
        fit = min(1.0, height / rows, width / columns)
        rows, columns = max(1, round(rows * fit)), max(1, round(columns * fit))
        return int(down * (height - rows + 1)), int(across * (width - columns + 1)), rows, columns


@dataclass(frozen=True)
class _Colours:
    """Brightness, contrast and saturation, each times 1 - strength to 1 + strength, in one pass."""

    strength: float

    def __call__(self, image: Tensor) -> Tensor:
        bright, contrast, colour = (1 + self.strength * (2 * torch.rand(3) - 1)).tolist()
        pixels = image.permute(1, 2, 0)
        # The mean is a sum of integers: one of floats would depend on the number of threads.
        totals = pixels.sum((0, 1), dtype=torch.int64).tolist()
        mean = bright * sum(w * t for w, t in zip(_GREY, totals, strict=True)) / (pixels.shape[0] * pixels.shape[1])
        values = pixels.float()
        red, green, blue = values.unbind(-1)
        grey = (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2])
        grey.mul_(bright * contrast * (1 - colour)).add_(mean * (1 - contrast) + 0.5)
        values.mul_(bright * contrast * colour).add_(grey.unsqueeze(-1)).clamp_(0, 255)
        return values.to(torch.uint8).permute(2, 0, 1)


_GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


@dataclass(frozen=True)
class _InTurn:
    """One step after the other."""

    steps: tuple[Callable[[Tensor], Tensor], ...]

    def __call__(self, image: Tensor) -> Tensor:
        for step in self.steps:
            image = step(image)
        return image


def _light(size: tuple[int, int], interpolation: str) -> Callable[[Tensor], Tensor]:
    return _CropAndFlip(size, interpolation, area=0.8, proportions=1.1)


def _default(size: tuple[int, int], interpolation: str) -> Callable[[Tensor], Tensor]:
    return _InTurn((_CropAndFlip(size, interpolation, area=0.35, proportions=4 / 3), _Colours(0.2)))


def _heavy(size: tuple[int, int], interpolation: str) -> Callable[[Tensor], Tensor]:
    """One change at random strength, as TrivialAugment does (Müller and Hutter 2021, arXiv 2103.10158).

    torchvision's own class is not taken: its contrast is a mean of floats, which differs with the number of threads.
    """
    from torchvision.transforms import v2

    bilinear = v2.InterpolationMode.BILINEAR
    changes: list[Any] = [
        v2.Identity(),
        v2.RandomAffine(30, interpolation=bilinear),
        v2.RandomAffine(0, translate=(0.2, 0.2), interpolation=bilinear),
        v2.RandomAffine(0, shear=(-30, 30, -30, 30), interpolation=bilinear),
        v2.RandomPosterize(4, p=1.0),
        v2.RandomSolarize(160, p=1.0),
        v2.RandomEqualize(p=1.0),
        v2.RandomAutocontrast(p=1.0),
        v2.RandomAdjustSharpness(0.2, p=1.0),
        v2.RandomAdjustSharpness(1.8, p=1.0),
        _Colours(0.6),
    ]
    crop = _CropAndFlip(size, interpolation, area=0.25, proportions=4 / 3)
    return _InTurn((crop, _Colours(0.3), _OneOf(tuple(changes)), v2.RandomErasing(p=0.25, value=127)))


@dataclass(frozen=True)
class _OneOf:
    """One of several steps, each as likely."""

    steps: tuple[Callable[[Tensor], Tensor], ...]

    def __call__(self, image: Tensor) -> Tensor:
        return self.steps[int(torch.randint(len(self.steps), ()))](image)


_PRESETS: dict[str, Callable[[tuple[int, int], str], Callable[[Tensor], Tensor]]] = {
    "light": _light,
    "default": _default,
    "heavy": _heavy,
}
