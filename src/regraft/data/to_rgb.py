"""Any kind of pixel to 8-bit RGB, by fixed rules, with a note wherever something was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from regraft.data.containers import CMYK_NOTE
from regraft.errors import ImageRejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white.

That is what pictures with transparency are made to be seen on (pages, catalogues) and what pretrained
networks have seen around cut-out objects. Dropping alpha instead would show whatever colour lies under it.
"""

_SIXTEEN = 65535
_DARK = _SIXTEEN // 8


def to_rgb(image: Image.Image, path: str, *, sixteen_bit: bool = False) -> tuple[Image.Image, list[str]]:
    """Turn a loaded Pillow image of any mode into RGB.

    Colour profiles are not applied, as in the data the usual pretrained networks have seen.

    Args:
        image: loaded.
        path: named when it is rejected.
        sixteen_bit: values of mode I are known to be on the scale 0..65535.

    Returns:
        The RGB image, and notes on transparency, CMYK, LAB and scaled values.

    Raises:
        ImageRejected: a float image with NaN or infinite values.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image, []
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        return _grey_to_rgb(image, path, sixteen_bit=sixteen_bit)
    if image.has_transparency_data:
        return _on_background(image)
    if image.mode == "CMYK":
        return image.convert("RGB"), [CMYK_NOTE]
    if image.mode == "LAB":
        return _lab_to_rgb(image), ["LAB converted to sRGB"]
    return image.convert("RGB"), []


def _on_background(image: Image.Image) -> tuple[Image.Image, list[str]]:
    if image.mode == "La":
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return rgba.convert("RGB"), []
    canvas = Image.new("RGB", rgba.size, BACKGROUND)
    canvas.paste(rgba, mask=alpha)
    return canvas, ["transparency shown on white"]


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB")) or image


def _grey_to_rgb(image: Image.Image, path: str, *, sixteen_bit: bool) -> tuple[Image.Image, list[str]]:
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ImageRejected(path, "float image with NaN or infinite values: replace them first")
    if image.mode.startswith("I;") or (image.mode == "I" and sixteen_bit):
        scaled, notes = _sixteen_bit(values)
    else:
        scaled, notes = _wide(values)
    hidden = image.info.get("transparency")
    if isinstance(hidden, int) and (values == hidden).any():
        scaled = np.where(values == hidden, np.uint8(BACKGROUND[0]), scaled)
        notes.append("transparency shown on white")
    return Image.fromarray(scaled).convert("RGB"), notes


def _sixteen_bit(values: NDArray[np.generic]) -> tuple[NDArray[np.uint8], list[str]]:
    """Scale 0..65535 to 0..255 by v / 257, rounded: black, white and all between keep their places."""
    wide = np.asarray(values, np.int64)
    low, high = int(wide.min()), int(wide.max())
    notes = [f"16-bit grey scaled to 8 bit: v / 257 (values {low} to {high})"]
    if high <= _DARK:
        share = 100 * high / _SIXTEEN
        notes.append(
            f"its brightest value is {share:.2g} % of the 16-bit range, so it is nearly black: "
            "if it holds 12-bit or smaller data, scale it up before use"
        )
    return ((wide + 128) // 257).astype(np.uint8), notes


def _wide(values: NDArray[np.generic]) -> tuple[NDArray[np.uint8], list[str]]:
    """Scale 32-bit integers or floats to 0..255 by the smallest usual scale that holds all values.

    Floats within 0..1 are taken as shares of white, values within 0..255 as they are, integers within
    0..65535 as 16-bit; anything else is stretched from its own minimum to its own maximum.
    """
    wide = np.asarray(values, np.float64)
    low, high = float(wide.min()), float(wide.max())
    integer = np.issubdtype(values.dtype, np.integer)
    if low >= 0 and high <= 1 and not integer:
        rule, scaled = "255 v", wide * 255
    elif low >= 0 and high <= 255:  # noqa: PLR2004
        rule, scaled = "v as it is", wide
    elif low >= 0 and high <= _SIXTEEN and integer:
        rule, scaled = "v / 257", wide / 257
    else:
        rule, scaled = "stretched from minimum to maximum", (wide - low) * (255 / (high - low or 1.0))
    kind = "32-bit integer" if integer else "float"
    return np.rint(scaled).astype(np.uint8), [f"{kind} grey scaled to 8 bit: {rule} (values {low:.6g} to {high:.6g})"]
