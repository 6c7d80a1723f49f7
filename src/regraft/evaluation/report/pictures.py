"""Small pictures inside the page: decoded by the product's one decoder, kept as JPEG in data URIs."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from regraft.errors import ImageRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SIDE = 150  # pixels of the shorter side: sharp enough in a tile of 160, about 7 kB each
_LONGEST = 320
_QUALITY = 78
_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail, or why there is none.

    Attributes:
        uri: the data URI of a JPEG, empty where the image could not be shown.
        width: pixels.
        height: pixels.
        problem: why there is no picture, in a sentence; empty where there is one.
    """

    uri: str
    width: int = SIDE
    height: int = SIDE
    problem: str = ""


def read_thumbnail(path: str) -> Image.Image:
    """Decode an image for a thumbnail, at a reduced scale where the format can.

    Raises:
        ImageRejected: it cannot be decoded.
    """
    from regraft.data.decode import read_image

    return read_image(path, at_least=SIDE).image


def data_uri(image: Image.Image, *, side: int = SIDE) -> Picture:
    """Shrink an image so that its shorter side is at most `side` pixels, and encode it as a data URI."""
    scale = min(1.0, side / min(image.size), _LONGEST / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGB") if image.mode != "RGB" else image
    if size != image.size:
        small = small.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/jpeg;base64,{encoded}", *size)


def make_pictures(paths: Iterable[str], thumbnail: Callable[[str], Image.Image] = read_thumbnail) -> dict[str, Picture]:
    """Make the thumbnail of each path, several at once.

    An image that `thumbnail` cannot give becomes a `Picture` with a problem; a report is never lost to it.
    """
    unique = list(dict.fromkeys(paths))

    def make(path: str) -> Picture:
        try:
            return data_uri(thumbnail(path))
        except ImageRejected as error:
            return Picture("", problem=error.reason)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one picture, the report is worth more
            return Picture("", problem=f"cannot be shown ({type(error).__name__})")

    with ThreadPoolExecutor(_WORKERS) as pool:
        return dict(zip(unique, pool.map(make, unique), strict=True))
