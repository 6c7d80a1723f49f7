"""Writing on pictures, whatever letters there are and whatever fonts the machine has."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import ImageFont

from regraft.evaluation.report.text import printable

if TYPE_CHECKING:
    from PIL import ImageDraw

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK = (26, 31, 36)
# Fonts that systems usually have for what the built-in one lacks; Pillow looks in the usual folders.
_FURTHER_FONTS = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "msyh.ttc",
    "simsun.ttc",
    "malgun.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
)
_NEVER_A_LETTER = "\U0010ffff"


def write_line(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    label: str,
    size: int,
    width: float,
    *,
    ink: tuple[int, int, int] = INK,
    anchor: str = "la",
) -> None:
    """Write one line, cut with an ellipsis where it is wider than `width`.

    Args:
        draw: of the picture.
        at: where the anchor is.
        label: any text; letters that no font on this machine has are written out.
        size: of the letters, pixels.
        width: pixels.
        ink: colour.
        anchor: which point of the text is at `at`, in Pillow's letters.
    """
    font, text = font_for(printable(label).replace("\n", " ").replace("\t", " "), size)
    if draw.textlength(text, font) > width:
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            fits = draw.textlength(text[:middle] + "…", font) <= width
            low, high = (middle, high) if fits else (low, middle - 1)
        text = text[:low] + "…"
    draw.text(at, text, ink, font, anchor=anchor)


def font_for(text: str, size: int) -> tuple[Font, str]:
    """The first font that has every letter, else the one that has the most, with the others written out."""
    best: tuple[Font, set[str]] | None = None
    for name in (None, *_FURTHER_FONTS):
        font = _font(name, size)
        if font is None:
            continue
        lacking = {letter for letter in set(text) if not _has(font, letter)}
        if best is None or len(lacking) < len(best[1]):
            best = font, lacking
        if not lacking:
            break
    if best is None:
        return ImageFont.load_default(size), text
    return best[0], "".join(_escaped(letter) if letter in best[1] else letter for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode("ascii")


@lru_cache(maxsize=64)
def _font(name: str | None, size: int) -> Font | None:
    """A font by file name, or Pillow's own for None; None where this machine has no such file."""
    if name is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(font: Font, letter: str) -> bool:
    """Whether a font can draw a letter: it looks different from what the font draws for no letter."""
    if letter.isspace():
        return True
    drawn, nothing = font.getmask(letter), font.getmask(_NEVER_A_LETTER)
    return drawn.size != nothing.size or bytes(drawn) != bytes(nothing)
