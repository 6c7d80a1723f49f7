"""Pairs of images of one place at two dates, with a change mask: which there are, and who may learn from them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from regraft.atomic import write_text
from regraft.data.cells import read_text
from regraft.data.manifest import SPLITS, Skipped, csv_text
from regraft.data.names import housekeeping, natural_key, shown, split_of
from regraft.data.rows import absolute
from regraft.data.signatures import has_image_ending
from regraft.errors import DataError, SplitError

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Endings of the files that are read as images of a pair or as masks, in any case."""

COLUMNS = ("name", "before", "after", "label", "split", "sha256")

_DATES = (("a", "b"), ("before", "after"), ("t1", "t2"), ("im1", "im2"), ("time1", "time2"))
_LABELS = ("label", "labels", "mask", "masks", "gt")
_LISTS = ("list", "lists")
_SIDECARS = (".aux.xml", ".ovr", ".msk", ".tfw", ".pgw", ".jgw", ".wld", ".prj")
_EXPECTED = (
    "Expected the folders A and B (or before and after, T1 and T2, im1 and im2, time1 and time2) with files of the same"
    " names, and label beside them for training; or these within train and val."
)
_NAMED = 3  # pairs that a message names


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of one place and, where somebody drew it, what changed between them.

    Attributes:
        name: the file's name relative to the folder of the first date, with the split folder in front where there
            is one, as in "train/x.png"; no two pairs share one.
        before: the first date's file, absolute.
        after: the second date's file, absolute.
        label: the change mask's file, absolute, or None.
        split: "train", "val" or "test", or None before splits are made.
        key: see `pair_key`, or None before hashing.
    """

    name: str
    before: str
    after: str
    label: str | None = None
    split: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Pairs:
    """Which pairs there are and who may learn from them.

    Attributes:
        items: one entry a pair, in a fixed order.
        source: what the user named.
        skipped: what was found but is not part of the data.
        split_note: how the splits came about, in a sentence.
    """

    items: tuple[Pair, ...]
    source: str
    skipped: tuple[Skipped, ...] = ()
    split_note: str = ""

    def __len__(self) -> int:
        return len(self.items)

    def split(self, name: str) -> Pairs:
        """The part that belongs to one split."""
        return replace(self, items=tuple(item for item in self.items if item.split == name), skipped=())

    def split_sizes(self) -> dict[str, int]:
        """Number of pairs in each split that has any, in the order train, val, test."""
        sizes = Counter(item.split for item in self.items)
        return {name: sizes[name] for name in SPLITS if sizes[name]}

    def sha256(self) -> str:
        """A hash of the content (splits and files' bytes; names where those are not hashed), not of the place."""
        rows = sorted("\x1f".join((item.key or item.name, item.split or "")) for item in self.items)
        return hashlib.sha256("\x1e".join(rows).encode("utf-8", "surrogateescape")).hexdigest()

    def write(self, target: Path) -> None:
        """Write the pairs as CSV with the columns name, before, after, label, split, sha256, atomically."""
        rows = [(i.name, i.before, i.after, i.label or "", i.split or "", i.key or "") for i in self.items]
        write_text(target, csv_text(COLUMNS, rows))


def pair_key(pair: Pair) -> str:
    """SHA-256, in hex, over the SHA-256 of the bytes of before, after and label, in this order.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in (pair.before, pair.after, pair.label):
        if path is not None:
            digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()


def is_pairs(folder: str | Path) -> bool:
    """Whether a folder holds change pairs: folders of two dates, here or in split folders, and labels or lists beside.

    Two folders alone may as well be two classes called A and B, with files of the same names.
    """
    for place in _places(Path(absolute(folder))):
        beside = {name.casefold() for name in _folders(place.before.parent).values()}
        if place.label is not None or beside & set(_LISTS):
            return True
    return False


def read_pairs(folder: str | Path, *, labelled: bool = True) -> Pairs:
    """Read the change pairs of a folder.

    The layouts: A, B and label with files of the same names, whatever their endings, also in folders below; these
    within split folders (train, val or valid or validation, test); other usual names of the dates and labels. Splits
    come from split folders, from list/train.txt, list/val.txt and list/test.txt (a name a line, with or without
    ending), or from split folders within A. Housekeeping and what belongs to a GeoTIFF (.aux.xml, .tfw, .ovr) is
    passed over.

    Args:
        folder: where to read.
        labelled: for training and evaluation: every pair needs a label, and what no list names is skipped. Otherwise
            labels are taken where they are, and pairs that no list names have no split.

    Raises:
        DataError: no such folder, no pair, an image without partner, a pair without label, two files for one name.
        SplitError: a list names what is not there, or two lists name one pair.
    """
    root = Path(absolute(folder))
    if not root.is_dir():
        raise DataError(f"{folder} is not a folder. {_EXPECTED}")
    places = _places(root)
    if not places:
        raise DataError(f"{folder} holds no change pairs: there are no folders of two dates. {_EXPECTED}")
    skipped: list[Skipped] = []
    lists = _Lists() if places[0].split else _read_lists(root, skipped)
    items = [item for place in places for item in _pairs_of(place, lists, skipped, labelled=labelled)]
    if not items:
        raise DataError(f"{folder} holds no change pairs: {places[0].before} has no images. {_EXPECTED}")
    note = "none given"
    if lists.split:
        note = f"as given ({', '.join(lists.files)})"
    elif any(item.split for item in items):
        note = "as given (folders)"
    return Pairs(tuple(items), os.fspath(folder), tuple(skipped), note)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the pairs of one split, or all, lie."""

    before: Path
    after: Path
    label: Path | None
    split: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class _Lists:
    """What lists say: the split of each name without ending, the list that says so, the lists' names."""

    split: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)


def _folders(root: Path) -> dict[str, str]:
    """Names of the folders in `root` by their lower case; none where it cannot be read."""
    try:
        return {path.name.casefold(): path.name for path in sorted(root.iterdir()) if path.is_dir()}
    except OSError:
        return {}


def _places(root: Path) -> list[_Place]:
    """The folders of dates directly in `root`, or else those in its split folders in the order train, val, test."""
    own = _place(root, None)
    if own:
        return [own]
    named = [(split, name) for name in _folders(root).values() if (split := split_of(name))]
    named.sort(key=lambda both: SPLITS.index(both[0]))
    return [place for split, name in named if (place := _place(root / name, split))]


def _place(folder: Path, split: str | None) -> _Place | None:
    names = _folders(folder)
    for first, second in _DATES:
        if first in names and second in names:
            label = next((folder / names[word] for word in _LABELS if word in names), None)
            prefix = f"{folder.name}/" if split else ""
            return _Place(folder / names[first], folder / names[second], label, split, prefix)
    return None


def _files(folder: Path, skipped: list[Skipped]) -> dict[str, str]:
    """The images below a folder: name relative to it, without ending, to path.

    Raises:
        DataError: two files differ in their endings only.
    """
    found: dict[str, str] = {}
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not housekeeping(name))
        for name in sorted(names):
            path = Path(here, name)
            if housekeeping(name) or name.lower().endswith(_SIDECARS):
                continue
            if not name.lower().endswith(ENDINGS):
                known = has_image_ending(name)
                reason = f"an image of another kind than {' '.join(ENDINGS)}" if known else "not an image"
                skipped.append(Skipped(str(path), reason))
                continue
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in found:
                raise DataError(
                    f"{found[stem]} and {path} have one name but for the ending, so which is meant is not known."
                    " Remove one of them."
                )
            found[stem] = str(path)
    return found


def _read_lists(root: Path, skipped: list[Skipped]) -> _Lists:
    lists = _Lists()
    folder = next((root / name for word, name in _folders(root).items() if word in _LISTS), None)
    for path in sorted(folder.iterdir()) if folder else []:
        split = split_of(path.stem) if path.suffix.lower() == ".txt" else None
        if housekeeping(path.name):
            continue
        if split is None:
            skipped.append(Skipped(str(path), "not a list of train, val or test"))
            continue
        lists.files.append(f"{path.parent.name}/{path.name}")
        for line in read_text(path).splitlines():
            name = line.strip().replace("\\", "/")
            stem = name[: name.rindex(".")] if name.lower().endswith(ENDINGS) else name
            if stem and lists.split.setdefault(stem, split) != split:
                raise SplitError(
                    f"{name} is in two lists, {lists.said[stem]} and {path}. Remove it from one of them: what is learnt"
                    " from must not be judged by."
                )
            lists.said.setdefault(stem, str(path))
    if lists.files and not any(lists.split):
        raise SplitError(f"The lists {', '.join(lists.files)} in {root} name no pair. Fill or remove them.")
    return lists


def _pairs_of(place: _Place, lists: _Lists, skipped: list[Skipped], *, labelled: bool) -> list[Pair]:
    """The pairs of one place, in natural order."""
    before, after = _files(place.before, skipped), _files(place.after, skipped)
    label = _files(place.label, skipped) if place.label else {}
    missing = [stem for stem in lists.split if stem not in before and stem not in after]
    if missing:
        raise SplitError(
            f"{lists.said[missing[0]]} names {missing[0]}, which is not in {place.before}"
            f" ({len(missing)} such names: {shown(missing, _NAMED)}). Put the files there, or mend the list."
        )
    names = sorted(before.keys() | after.keys(), key=natural_key)
    if lists.split and labelled:
        skipped += [Skipped(before.get(n) or after[n], "in no list") for n in names if n not in lists.split]
        names = [stem for stem in names if stem in lists.split]
    for here, there, has in ((place.before, place.after, after), (place.after, place.before, before)):
        _refuse_missing([stem for stem in names if stem not in has], f"in {here}", there, "partner")
    if labelled and place.label is None:
        raise DataError(
            f"{place.before.parent} has no folder of labels beside {place.before.name} and {place.after.name}: expected"
            f" one of {', '.join(_LABELS)}, with a mask of the same name for every pair."
        )
    if labelled and place.label is not None:
        _refuse_missing([stem for stem in names if stem not in label], "of pairs", place.label, "label")
    skipped += [Skipped(label[stem], "a label without images") for stem in label if stem not in before]
    items = []
    for stem in names:
        split = place.split or lists.split.get(stem) or (split_of(stem.partition("/")[0]) if "/" in stem else None)
        name = place.prefix + Path(before[stem]).relative_to(place.before).as_posix()
        items.append(Pair(name, before[stem], after[stem], label.get(stem), split))
    return items


def _refuse_missing(stems: list[str], of: str, there: Path, what: str) -> None:
    if stems:
        raise DataError(
            f"{len(stems)} file{'s' * (len(stems) > 1)} {of} without a {what} of the same name in {there}:"
            f" {shown(stems, _NAMED)}. Add what is missing, or remove the rest of these pairs."
        )
