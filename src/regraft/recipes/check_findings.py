"""What `regraft check` makes of what it saw: findings, in the order in which they should be read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.checks import Conflict, duplicate_conflicts, group_conflicts
from regraft.data.class_names import named_alike, named_like_splits
from regraft.data.clips import guess_clips
from regraft.data.lookalikes import clusters
from regraft.data.manifest import SPLITS
from regraft.data.names import shown, so_many
from regraft.data.quick_check import class_sizes
from regraft.evaluation.report.data_check import Finding, Shown, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from regraft.data.lookalikes import Pair
    from regraft.data.manifest import Item, Manifest, Skipped
    from regraft.data.survey import Look, Survey
    from regraft.evaluation.label_errors import LabelErrors

_NARROW = 4.0  # longer over shorter side
_SMALL_SIDE = 32  # pixels
_FRAMES_SHOWN = 6
_LEAST_SHARE = 0.001  # of labels; less is not told in a tenth of a percent


@dataclass(frozen=True)
class Twins:
    """Images that show the same picture.

    Attributes:
        rows: their positions in the manifest.
        likeness: of the least alike pair that joins them.
        conflict: their splits and labels.
    """

    rows: tuple[int, ...]
    likeness: float
    conflict: Conflict


def twins(manifest: Manifest, pairs: tuple[Pair, ...]) -> tuple[Twins, ...]:
    """Near-duplicates joined to clusters, the most alike first."""
    least: dict[int, float] = {}
    members: dict[int, list[int]] = {}
    joined = clusters(len(manifest), [(p.first, p.second) for p in pairs]).tolist()
    for pair in pairs:
        least[joined[pair.first]] = min(least.get(joined[pair.first], 1.0), pair.likeness)
    for row, cluster in enumerate(joined):
        if cluster in least:
            members.setdefault(cluster, []).append(row)
    found = []
    for cluster, rows in members.items():
        items = [manifest.items[row] for row in rows]
        splits = tuple(split for split in SPLITS if any(item.split == split for item in items))
        labels = tuple(label for label in manifest.classes if any(item.label == label for item in items))
        conflict = Conflict(items[0].path, tuple(item.path for item in items), splits, labels)
        found.append(Twins(tuple(rows), least[cluster], conflict))
    return tuple(sorted(found, key=lambda twins: -twins.likeness))


def unreadable(rejected: tuple[Skipped, ...]) -> Iterator[Finding]:
    """Files that cannot be decoded."""
    if rejected:
        reasons = [f"{reason} ({count})" for reason, count in Counter(s.reason for s in rejected).most_common()]
        sentence = f"{so_many(len(rejected), 'file', 'files')} cannot be read: {shown(reasons, 3)}. Mend or remove them"
        groups = tuple((Shown(s.path, note=s.reason),) for s in rejected)
        yield Finding("unreadable", "Unreadable files", sentence, matters=True, groups=groups)


def identical(manifest: Manifest) -> Iterator[Finding]:
    """Identical files: across splits, with different labels, and others."""
    by_path = {item.path: item for item in manifest.items}
    rest = _copies(manifest)
    conflicts = duplicate_conflicts(manifest)
    across = [c for c in conflicts if len(c.splits) > 1]
    contrary = [c for c in conflicts if len(c.labels) > 1]
    apart = {c.name for c in conflicts}

    def groups(found: Iterable[tuple[str, ...]]) -> tuple[tuple[Shown, ...], ...]:
        return tuple(tuple(Shown.of(by_path[path]) for path in paths) for paths in found)

    if across:
        number = so_many(len(across), "image stands", "images stand")
        sentence = f"{number} in several splits as identical files: the numbers are too good by {_them(across)}"
        yield Finding(
            "identical-across-splits", "Identical across splits", sentence, True, groups(c.paths for c in across)
        )
    if contrary:
        number = so_many(len(contrary), "image stands", "images stand")
        sentence = f"{number} several times with different labels; at most one of these is right"
        title = "Identical, labelled differently"
        yield Finding("identical-labelled-differently", title, sentence, True, groups(c.paths for c in contrary))
    if others := [paths for key, paths in rest.items() if key not in apart]:
        extra = sum(map(len, others)) - len(others)
        number = so_many(len(others), "image stands", "images stand")
        they = "it counts" if len(others) == 1 else "they count"
        sentence = f"{number} several times ({so_many(extra, 'copy', 'copies')}); {they} more than others"
        yield Finding("identical", "Identical files", sentence, False, groups(others))


def _copies(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    paths: dict[str, list[str]] = {}
    for item in manifest.items:
        paths.setdefault(str(item.key), []).append(item.path)
    return {key: tuple(same) for key, same in paths.items() if len(same) > 1}


def near(manifest: Manifest, twins: tuple[Twins, ...]) -> Iterator[Finding]:
    """Near-duplicates: across splits, with different labels, and others."""

    def groups(found: list[Twins]) -> tuple[tuple[Shown, ...], ...]:
        return tuple(
            tuple(Shown.of(manifest.items[r], f"likeness {t.likeness:.2f}" * (n == 0)) for n, r in enumerate(t.rows))
            for t in found
        )

    across = [t for t in twins if len(t.conflict.splits) > 1]
    contrary = [t for t in twins if len(t.conflict.labels) > 1]
    others = [t for t in twins if t not in across and t not in contrary]
    copies = "re-encoded, resized or slightly cropped copies"
    if across:
        number = so_many(len(across), "picture stands", "pictures stand")
        sentence = f"{number} in several splits, as {copies}: the numbers are too good by {_them(across)}"
        title = "Near-duplicates across splits"
        yield Finding("near-duplicates-across-splits", title, sentence, True, groups(across))
    if contrary:
        number = so_many(len(contrary), "picture stands", "pictures stand")
        sentence = f"{number} several times, as {copies}, with different labels"
        title = "Near-duplicates, labelled differently"
        yield Finding("near-duplicates-labelled-differently", title, sentence, True, groups(contrary))
    if others:
        free = "" if manifest.split_sizes() else ". Splits made from this data may divide them: group them"
        sentence = f"{so_many(len(others), 'picture stands', 'pictures stand')} several times, as {copies}{free}"
        yield Finding("near-duplicates", "Near-duplicates", sentence, False, groups(others))


def straddling(manifest: Manifest) -> Iterator[Finding]:
    """Groups, and guessed videos, that are in more than one split."""
    if groups := group_conflicts(manifest):
        number = so_many(len(groups), "group has", "groups have")
        sentence = f"{number} images in more than one split: {shown([c.name for c in groups], 5)}"
        yield Finding("groups-across-splits", "Groups across splits", sentence, matters=True)
    clips = [clip for clip in guess_clips(manifest) if len(clip.splits) > 1 or not manifest.split_sizes()]
    if clips:
        stand = "stands" if len(clips) == 1 else "stand"
        where = f"{stand} in more than one split" if manifest.split_sizes() else "may be divided when splits are made"
        which = so_many(len(clips), "numbered sequence, by its name", "numbered sequences, by their names")
        sentence = (
            f"{which} frames of one video (a guess), {where}:"
            f" {shown([clip.name for clip in clips], 5)}. If they are, name their video in a group column"
        )
        frames = tuple(tuple(Shown.of(manifest.items[row]) for row in clip.rows[:_FRAMES_SHOWN]) for clip in clips)
        yield Finding("guessed-videos", "Guessed videos", sentence, groups=frames)


def classes(manifest: Manifest, overlapping: tuple[tuple[int, int, float], ...]) -> Iterator[Finding]:
    """Names and sizes of classes, and classes that a probe cannot tell apart."""
    if splits := named_like_splits(manifest.classes):
        sentence = f"named like a split: {shown(list(map(repr, splits)), 5)}. Were split folders read as classes?"
        yield Finding("classes-named-like-splits", "Classes named like splits", sentence.rstrip("."), matters=True)
    areas = {frozenset((manifest.classes[a], manifest.classes[b])): area for a, b, area in overlapping}
    if alike := named_alike(manifest.classes):
        texts = [
            f"{a!r} and {b!r}" + (" (a linear probe cannot tell them apart either)" * (frozenset((a, b)) in areas))
            for a, b in alike
        ]
        yield Finding("classes-named-alike", "Classes named alike", f"may be one class: {shown(texts, 8)}")
    if areas:
        texts = [f"{' and '.join(map(repr, sorted(pair)))} ({area:.2f})" for pair, area in areas.items()]
        sentence = f"hardly told apart by a linear probe (area under the curve; 0.5 is guessing): {shown(texts, 8)}"
        yield Finding("classes-alike", "Classes that look alike", sentence)
    for sentence in class_sizes(manifest):
        yield Finding("class-sizes", "Sizes of classes", sentence)


def labels(manifest: Manifest, errors: LabelErrors | None) -> Iterator[Finding]:
    """Labels that are probably wrong."""
    if errors is not None and len(errors.rows):
        groups = tuple(
            (Shown.of(manifest.items[row], f"looks like {manifest.classes[other]} (odds {np.exp(-margin):.3g} to 1)"),)
            for row, other, margin in zip(errors.rows, errors.suggested, errors.margins, strict=True)
        )
        sentence = (
            f"{so_many(len(groups), 'image looks', 'images look')} more like another class to models that had not seen"
            f" {_them(groups)}; confident learning puts the share of labels that contradict such models"
            f" {_share(errors.noise)}. The most certain come first; difficult images and overlapping classes are among"
            " them"
        )
        yield Finding("label-suspects", "Labels to look at", sentence, groups=groups)


def _share(noise: float) -> str:
    return f"at {100 * noise:.1f} %" if noise >= _LEAST_SHARE else "below 0.1 %"


def _them(found: Sequence[object]) -> str:
    return "it" if len(found) == 1 else "them"


def unusual(manifest: Manifest, found: tuple[tuple[int, float], ...]) -> Iterator[Finding]:
    """Outliers of their class."""
    if found:
        number = so_many(len(found), "image is", "images are")
        sentence = f"{number} far from every other image of {'its' if len(found) == 1 else 'their'} class"
        groups = tuple((Shown.of(manifest.items[row], f"{score:.1f} deviations from usual"),) for row, score in found)
        yield Finding("outliers", "Unusual images", sentence, groups=groups)


def odd_files(items: tuple[Item, ...], looks: tuple[Look, ...]) -> Iterator[Finding]:
    """Files of one colour, very small or narrow ones, and what decoding did to files."""
    sides = [min(look.width, look.height) for look in looks]
    small = min(float(_SMALL_SIDE), float(np.median(sides)) / 2) if sides else 0.0
    kinds = (
        ("one-colour", "Images of one colour", [look.plain for look in looks], ("is", "are"), "of one colour"),
        (
            "tiny-images",
            "Tiny images",
            [side < small for side in sides],
            ("has", "have"),
            f"a side below {small:.0f} pixels",
        ),
        (
            "narrow-images",
            "Narrow images",
            [max(look.width, look.height) > _NARROW * min(look.width, look.height) for look in looks],
            ("is", "are"),
            f"more than {_NARROW:.0f} times as long as wide; a square crop shows little of them",
        ),
    )
    for kind, title, which, (one, many), what in kinds:
        rows = np.flatnonzero(which).tolist()
        if rows:
            groups = tuple((Shown.of(items[r], f"{looks[r].width} x {looks[r].height}"),) for r in rows)
            yield Finding(kind, title, f"{so_many(len(rows), f'file {one}', f'files {many}')} {what}", groups=groups)
    told: dict[str, list[int]] = {}
    for row, look in enumerate(looks):
        for note in look.notes:
            told.setdefault(note.partition(" (")[0].partition(":")[0], []).append(row)
    if told:
        texts = [f"{note} ({len(rows)})" for note, rows in sorted(told.items(), key=lambda entry: -len(entry[1]))]
        groups = tuple((Shown.of(items[r], note),) for note, rows in told.items() for r in rows)
        yield Finding("decoding", "What decoding did", shown(texts, 6), groups=groups)


def facts(manifest: Manifest, seen: Survey) -> dict[str, str]:
    """Numbers for the head of the page."""
    splits = ", ".join(f"{name} {size:,}" for name, size in manifest.split_sizes().items())
    sides = np.array([(look.width, look.height) for look in seen.looks]).reshape(-1, 2)
    facts = {"images": f"{len(manifest):,}", "classes": f"{len(manifest.classes):,}", "splits": splits or "none yet"}
    if len(sides):
        (w, h), sizes = np.median(sides, axis=0), np.sort(sides.prod(axis=1))
        facts["median size"] = f"{w:.0f} x {h:.0f} pixels"
        facts["smallest and largest"] = f"{sizes[0] / 1e6:.3g} and {sizes[-1] / 1e6:.3g} megapixels"
        facts["formats"] = counted(Counter(look.format for look in seen.looks))
        facts["without colour"] = f"{sum(look.colourless for look in seen.looks):,}"
    if manifest.skipped:
        facts["not part of the data"] = so_many(len(manifest.skipped), "file", "files")
    return facts
