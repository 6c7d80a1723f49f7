"""What `regraft check` finds of planted copies and flipped labels.

python benchmarks/check_planted.py [SEED] [DATA ...]        # about three minutes on two cores

Into copies of hymenoptera and of sample:textile (or the folders named) it plants 100 exact copies, 100 that are
re-encoded, resized or cropped by 5 %, and 40 flipped labels; then it counts what the check reports.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import regraft
from measure import HYMENOPTERA
from regraft.data.manifest import Item, Manifest
from regraft.recipes.check import Check, check

if TYPE_CHECKING:
    from collections.abc import Sequence

_COPIES, _FLIPPED, _SHOWN = 100, 40, 60
_KINDS = ("re-encoded", "resized", "cropped by 5 %")


@dataclass(frozen=True)
class Planted:
    """What was planted: the table to check, copy -> original, and images whose label is wrong."""

    table: Path
    exact: dict[str, str]
    changed: dict[str, tuple[str, str]]
    flipped: set[str]


def plant(manifest: Manifest, folder: Path, seed: int) -> Planted:
    """Copy all images into a folder, add copies of some, flip the labels of others, and write a table of it."""
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    for n, item in enumerate(manifest.items):
        place = folder / f"{n:05d}{Path(item.path).suffix}"
        shutil.copyfile(item.path, place)
        items.append(Item(str(place), item.label, item.split))
    chosen = rng.permutation(len(items))
    rows = chosen[: 2 * _COPIES].tolist()
    exact: dict[str, str] = {}
    changed: dict[str, tuple[str, str]] = {}
    splits: list[str | None] = [*sorted({item.split for item in items if item.split})] or [None]
    for n, row in enumerate(rows):
        original = Path(items[row].path)
        split = splits[int(rng.integers(len(splits)))]
        if n < _COPIES:
            copy = folder / f"exact-{rng.integers(10**9)}{original.suffix}"
            shutil.copyfile(original, copy)
            exact[str(copy)] = str(original)
        else:
            copy = folder / f"changed-{rng.integers(10**9)}.jpg"
            kind = _KINDS[n % len(_KINDS)]
            _changed(original, copy, kind, rng)
            changed[str(copy)] = (str(original), kind)
        items.append(Item(str(copy), items[row].label, split))
    flipped = chosen[2 * _COPIES :][:_FLIPPED].tolist()  # of images without copies
    for row in flipped:
        others = [name for name in manifest.classes if name != items[row].label]
        items[row] = Item(items[row].path, others[int(rng.integers(len(others)))], items[row].split)
    order = rng.permutation(len(items)).tolist()
    table = folder / "planted.csv"
    Manifest(tuple(items[n] for n in order), manifest.classes, "planted").write(table)
    return Planted(table, exact, changed, {items[row].path for row in flipped})


def _changed(original: Path, copy: Path, kind: str, rng: np.random.Generator) -> None:
    image = Image.open(original).convert("RGB")
    (width, height), quality = image.size, 90
    if kind == "re-encoded":
        quality = int(rng.integers(40, 90))
    elif kind == "resized":
        scale = float(rng.choice([0.5, 0.6, 0.75, 1.25, 1.5]))
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    else:
        size = round(0.95 * width), round(0.95 * height)
        x, y = int(rng.integers(width - size[0] + 1)), int(rng.integers(height - size[1] + 1))
        image = image.crop((x, y, x + size[0], y + size[1]))
    image.save(copy, quality=quality)


def report(planted: Planted, found: Check, seconds: float) -> None:
    """Print what was found of what was planted, and what else was reported."""
    items = found.manifest.items
    key_of = {item.path: item.key for item in items}
    exact = sum(key_of[copy] == key_of[original] for copy, original in planted.exact.items())
    named = {f.kind: f for f in found.findings}
    reported = [
        {image.path for image in group}
        for kind, finding in named.items()
        if kind.startswith("identical")
        for group in finding.groups
    ]
    shown = sum(any({copy, original} <= group for group in reported) for copy, original in planted.exact.items())
    print(f"  exact copies       {shown} of {len(planted.exact)} reported ({exact} are identical files)")
    pairs = [frozenset((str(key_of[items[p.first].path]), str(key_of[items[p.second].path]))) for p in found.pairs]
    truth = {frozenset((str(key_of[c]), str(key_of[o]))): kind for c, (o, kind) in planted.changed.items()}
    for kind in _KINDS:
        wanted = [pair for pair, of in truth.items() if of == kind]
        print(f"  {kind:<18} {sum(pair in pairs for pair in wanted)} of {len(wanted)}")
    others = [p for p, keys in zip(found.pairs, pairs, strict=True) if keys not in truth]
    print(f"  changed, together  {sum(pair in truth for pair in pairs)} of {len(truth)}")
    print(
        f"  other pairs        {len(others)} of {len(pairs)} reported ({100 * len(others) / max(1, len(pairs)):.1f} %)"
    )
    for pair in others[:5]:
        print(f"    {items[pair.first].path} {items[pair.second].path} {pair.likeness:.2f}")
    first = [group[0].path for group in named["label-suspects"].groups[:_SHOWN]] if "label-suspects" in named else []
    hits = len(planted.flipped & set(first))
    share = 100 * hits / len(planted.flipped)
    print(f"  flipped labels     {hits} of {len(planted.flipped)} ({share:.0f} %) in the first {len(first)} shown")
    print(f"  seconds            {seconds:.1f}")


def main(words: Sequence[str]) -> None:
    """Plant, check, report."""
    seed = int(words[0]) if words else 0
    for data in words[1:] or (str(HYMENOPTERA), "sample:textile"):
        with tempfile.TemporaryDirectory() as name:
            planted = plant(regraft.read_data(data), Path(name), seed)
            began = time.perf_counter()
            found = check(planted.table, output=Path(name) / "check")
            print(f"{data}, seed {seed}")
            report(planted, found, time.perf_counter() - began)


if __name__ == "__main__":
    main(sys.argv[1:])
