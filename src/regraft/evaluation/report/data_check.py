"""The page of `regraft check`: what was found wrong with the data, with pictures, in one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.atomic import write_text
from regraft.evaluation.report.pictures import make_pictures, read_thumbnail
from regraft.evaluation.report.text import file_name
from regraft.evaluation.report.write import environment

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from regraft.data.manifest import Item

GROUPS_SHOWN, IMAGES_SHOWN = 60, 8


@dataclass(frozen=True, slots=True)
class Shown:
    """One image of a finding.

    Attributes:
        path: where it is.
        label: its class, or None.
        split: its split, or None.
        note: what is to be said of it.
    """

    path: str
    label: str | None = None
    split: str | None = None
    note: str = ""

    @classmethod
    def of(cls, item: Item, note: str = "") -> Shown:
        """An image of a manifest."""
        return cls(item.path, item.label, item.split, note)

    @property
    def file(self) -> str:
        """The name of the file."""
        return file_name(self.path)


@dataclass(frozen=True)
class Finding:
    """One kind of thing that may be wrong.

    Attributes:
        kind: a word for scripts, such as "near-duplicates-across-splits".
        title: a heading.
        sentence: what was found and what to do.
        matters: whether numbers are wrong by it, so that a script should stop.
        groups: the images, those that belong together in one group; empty for what has no images.
    """

    kind: str
    title: str
    sentence: str
    matters: bool = False
    groups: tuple[tuple[Shown, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with all images."""
        images = [
            [{"path": s.path, "label": s.label, "split": s.split, "note": s.note} for s in g] for g in self.groups
        ]
        return {"kind": self.kind, "matters": self.matters, "sentence": self.sentence, "images": images}


@dataclass(frozen=True)
class CheckPage:
    """Everything that the page shows.

    Attributes:
        title: what was checked.
        findings: those that matter first.
        facts: name and value: numbers of images, sizes, formats.
        not_done: what was not looked at, in sentences.
        command: what to type to do it again.
        timings: seconds for each part of the work.
    """

    title: str
    findings: tuple[Finding, ...]
    facts: dict[str, str]
    not_done: tuple[str, ...] = ()
    command: str = ""
    timings: dict[str, float] | None = None


def counted(values: Counter[str], most: int = 4) -> str:
    """The most frequent first, as in JPEG 240, PNG 3."""
    texts = [f"{name} {number:,}" for name, number in values.most_common(most)]
    rest = sum(values.values()) - sum(number for _, number in values.most_common(most))
    return ", ".join([*texts, f"others {rest:,}"] if rest else texts)


def write_check_page(
    page: CheckPage, target: Path, *, thumbnail: Callable[[str], Image.Image] = read_thumbnail
) -> None:
    """Write the page as one HTML file, atomically; at most 60 groups of 8 images a finding are shown."""
    shown = [s.path for f in page.findings for group in f.groups[:GROUPS_SHOWN] for s in group[:IMAGES_SHOWN]]
    text = (
        environment()
        .get_template("data_check.html.jinja")
        .render(
            page=page,
            pictures=make_pictures(shown, thumbnail),
            groups_shown=GROUPS_SHOWN,
            images_shown=IMAGES_SHOWN,
            serious=sum(f.matters for f in page.findings),
        )
    )
    write_text(target, text)
