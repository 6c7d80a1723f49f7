"""`regraft check`: what is wrong with the data, before anything is learnt from it."""

from __future__ import annotations

import inspect
import itertools
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regraft.atomic import atomic_folder, check_writable, write_text
from regraft.data.decode import MAX_PIXELS
from regraft.data.folder import LINK_TO_NOTHING
from regraft.data.lookalikes import Pair, clusters, near_duplicates
from regraft.data.manifest import check_not_empty
from regraft.data.names import so_many
from regraft.data.signatures import has_image_ending
from regraft.data.survey import survey
from regraft.data.targets import check_folder_target
from regraft.errors import OptionError
from regraft.evaluation.report.data_check import CheckPage, Finding, write_check_page
from regraft.features.frozen import check_options
from regraft.features.runtime import cores
from regraft.features.store import cache_folder, usable_cache
from regraft.recipes import check_findings
from regraft.recipes.backbone import prepare_backbones
from regraft.recipes.change_data import refuse_pairs
from regraft.recipes.cleaned import Remark, check_clean_target, cleaned, write_cleaned
from regraft.recipes.gather import Source, check_flags, check_numbers, gather
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.run import command_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.data.manifest import Manifest, Skipped
    from regraft.data.survey import Survey
    from regraft.evaluation.label_errors import LabelErrors
    from regraft.features.frozen import Frozen

_LISTENER = Listener()
_MANY = 20_000  # images beyond which one division into folds must do
FILES = ("check.html", "check.json")


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        manifest: the images that can be read, with keys.
        findings: those that matter first.
        rejected: files that cannot be read.
        pairs: near-duplicates, as positions in the manifest.
        label_errors: what confident learning says, its rows as positions in the manifest; None where it was not asked.
        folder: where check.html and check.json are.
        cleaned: the cleaned manifest that was written, or None.
        not_done: what was not looked at, and why, in sentences.
    """

    manifest: Manifest
    findings: tuple[Finding, ...]
    rejected: tuple[Skipped, ...]
    pairs: tuple[Pair, ...]
    label_errors: LabelErrors | None
    folder: Path
    cleaned: Path | None = None
    not_done: tuple[str, ...] = ()

    @property
    def matters(self) -> bool:
        """Whether anything was found that makes numbers wrong."""
        return any(finding.matters for finding in self.findings)


def check(
    data: str | os.PathLike[str],
    *,
    backbone: str = "efficientnet_lite0",
    cheap: bool = False,
    output: str | os.PathLike[str] | None = None,
    clean: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    runtime: Literal["auto", "openvino", "torch"] = "auto",
    root: str | os.PathLike[str] | None = None,
    label: str | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    listener: Listener = _LISTENER,
) -> Check:
    """Look for what is wrong with images and labels: one page of HTML, a JSON, and if wanted a cleaned manifest.

    Unreadable and odd files; identical files and near-duplicates, above all across splits and with different labels;
    groups and guessed videos that straddle splits; sizes and names of classes; labels that are probably wrong;
    outliers. No file of the data is changed. The command exits with 1 when something makes numbers wrong, else with 0.

    Args:
        data: A folder, a table, a meta list, or sample:textile.
        backbone: Whose features find cropped copies, wrong labels and outliers.
        cheap: Do without features: nothing about labels and outliers, and a few cropped copies less.
        output: The folder to write; by default checks/NAME, the first that is free.
        clean: Also write this table (.csv, .tsv, .parquet) of the images that should stay, with path, label, split,
            group, sha256 and what other columns a table had, and FILE.remarks.csv beside it with what was left out, and
            why, and with the labels to look at.
        overwrite: Replace the folder and the tables if they exist.
        runtime: What runs the backbone; auto takes CUDA where there is one, else OpenVINO.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels.
        path_column: The table's column with the paths.
        split_column: The table's column with train, val, test.
        group_column: The table's column with groups.
        max_pixels: Images with more pixels are not decoded.
        seed: Another seed gives other folds for the labels.
        listener: Who is told what happens.

    Returns:
        What was found.

    Raises:
        RegraftError: whatever is wrong with the options, or no images, in a sentence.
    """
    options = {k: v for k, v in locals().items() if k != "listener"}
    clock = Clock.start(listener)
    check_options(runtime, "f32", "none")
    refuse_pairs(data, "check")
    check_flags(cheap=cheap, overwrite=overwrite)
    check_numbers(seed=seed, max_pixels=max_pixels)
    _check_cheap(options)
    source = Source(data, root, label, path_column, split_column, group_column)
    with clock.phase("read"):
        manifest = check_not_empty(source.read())
        further = None if clean is None else source.further()
    folder = _folder(output, str(data), overwrite=overwrite)
    target = None if clean is None else Path(clean)
    if target is not None:
        check_clean_target(target, Path(data), overwrite=overwrite)
    for hint in manifest.hints:
        listener.warn(hint)
    cache = usable_cache(cache_folder())
    ready: tuple[Frozen, ...] = ()
    if not cheap:  # a name that cannot be used is told before the long part
        ready = prepare_backbones(backbone, cache, clock, listener, runtime=runtime, precision="f32", views="none")
    with clock.phase("look at files"):
        seen = survey(manifest.items, threads=cores(), max_pixels=max_pixels, on_progress=listener.progress)
    lost = [s for s in manifest.skipped if s.reason == LINK_TO_NOTHING and has_image_ending(s.path)]
    seen = replace(seen, rejected=(*seen.rejected, *lost))
    manifest = replace(manifest, items=seen.items, skipped=tuple(s for s in manifest.skipped if s not in lost))
    features = _features(manifest, ready, cache, max_pixels, clock, listener) if ready and seen.items else None
    with clock.phase("near-duplicates"):
        pairs = _near(seen, features)
    with clock.phase("labels"):
        labels = _Labels() if features is None else _labels(manifest, features, pairs, seed)
    found = _findings(manifest, seen, pairs, labels)
    not_done = _not_done(manifest, labels, cheap=cheap)
    page = CheckPage(
        f"{manifest.source}: {len(manifest):,} images",
        found,
        check_findings.facts(manifest, seen),
        not_done,
        command_line(check, options),
        clock.rounded(),
    )
    with clock.phase("write"):
        if target is not None:
            kept, remarks = cleaned(manifest, [(p.first, p.second) for p in pairs], seen.rejected)
            remarks += _suspects(manifest, labels.errors)
            write_cleaned(kept, remarks, target, overwrite=overwrite, further=further)
        _write(page, folder, overwrite=overwrite)
    return Check(manifest, found, seen.rejected, pairs, labels.errors, folder, target, not_done)


def _check_cheap(options: dict[str, Any]) -> None:
    """Saying something that has no effect would go unheard."""
    parameters = inspect.signature(check).parameters
    for name in ("backbone", "runtime", "seed"):
        if options["cheap"] and options[name] != parameters[name].default:
            raise OptionError(f"--{name} has no effect with --cheap, which computes no features; leave one of them out")


def _not_done(manifest: Manifest, labels: _Labels, *, cheap: bool) -> tuple[str, ...]:
    """What was not looked at, and why."""
    if cheap:
        return ("Labels and outliers were not looked at (--cheap).",)
    sizes = {name: size for name, size in manifest.class_sizes().items() if size}
    without = len(manifest) - sum(sizes.values())
    said = []
    if not sizes:
        said.append("Labels were not looked at: no image has one.")
    elif len(sizes) == 1:
        said.append(f"Labels were not looked at: all are {next(iter(sizes))!r}, and it takes two classes.")
    elif labels.errors is None:
        said.append("Labels were not looked at: fewer than two classes have two images (or groups).")
    if sizes and without:
        said.append(f"{so_many(without, 'image has', 'images have')} no label to look at.")
    return tuple(said)


def _folder(output: str | os.PathLike[str] | None, data: str, *, overwrite: bool) -> Path:
    """The folder that was named, or the first free `checks/NAME`, `checks/NAME-2`, ..."""
    if output is None:
        name = Path(data.removeprefix("sample:")).resolve().stem or "data"
        check_writable(Path("checks") / name)
        candidates = (Path("checks") / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
        return next(path for path in candidates if not path.exists())
    target = Path(output)
    check_writable(target)
    check_folder_target(target, overwrite=overwrite, ours=lambda path: path.name in FILES)
    return target


def _features(
    manifest: Manifest, ready: tuple[Frozen, ...], cache: Path, max_pixels: int, clock: Clock, listener: Listener
) -> NDArray[np.float32]:
    """One row for each item."""
    found = gather(manifest, (), ready, cache, clock, listener, max_pixels=max_pixels, max_rejected=1.0)
    row_of = {key: row for row, key in enumerate(found.table.keys)}
    # A file that changed since it was hashed has no features: it stands for nothing.
    table = np.vstack([found.table.features, np.zeros((1, found.table.features.shape[1]), np.float32)])
    return table[[row_of.get(str(item.key), -1) for item in manifest.items]]


def _near(seen: Survey, features: NDArray[np.float32] | None) -> tuple[Pair, ...]:
    """Near-duplicates among the different files, as positions in the manifest."""
    first: dict[str, int] = {}
    for row, item in enumerate(seen.items):
        first.setdefault(str(item.key), row)
    # Of one colour, or nothing: there are no details to compare.
    rows = np.array([row for row in first.values() if not seen.looks[row].plain], np.int64)
    some = None if features is None else features[rows]
    found = near_duplicates(seen.sketches.take(rows), some, threads=cores())
    return tuple(Pair(int(rows[p.first]), int(rows[p.second]), p.likeness) for p in found)


@dataclass(frozen=True)
class _Labels:
    """Probable label errors; classes that overlap, with their area under the curve; outliers, with how unusual."""

    errors: LabelErrors | None = None
    overlap: tuple[tuple[int, int, float], ...] = ()
    unusual: tuple[tuple[int, float], ...] = ()


def _labels(manifest: Manifest, features: NDArray[np.float32], pairs: tuple[Pair, ...], seed: int) -> _Labels:
    from regraft.evaluation.label_errors import held_out_probabilities, inseparable, label_errors
    from regraft.evaluation.outliers import outliers

    targets = np.array(manifest.targets(), np.int64)
    group = _together(manifest, pairs)
    alone = np.unique(group, return_index=True)[1]
    rows, scores = outliers(features[alone], targets[alone])
    unusual = tuple(zip(alone[rows].tolist(), scores.tolist(), strict=True))
    known = np.flatnonzero(targets >= 0)
    if len(np.unique(targets[known])) < 2:  # noqa: PLR2004 - nothing to confuse
        return _Labels(unusual=unusual)
    repeats = 1 if len(known) > _MANY else 3
    likely = held_out_probabilities(
        features[known], targets[known], len(manifest.classes), groups=group[known], seed=seed, repeats=repeats
    )
    if not np.isfinite(likely).any():  # nothing could be held out
        return _Labels(unusual=unusual)
    errors = label_errors(likely, targets[known])
    return _Labels(replace(errors, rows=known[errors.rows]), inseparable(likely, targets[known]), unusual)


def _together(manifest: Manifest, pairs: tuple[Pair, ...]) -> NDArray[np.int64]:
    """A number for each image, the same for those that must not be on both sides of a fold."""
    first: dict[str, int] = {}
    joined = [(pair.first, pair.second) for pair in pairs]
    for row, item in enumerate(manifest.items):
        marks = [f"key {item.key}"] if item.group is None else [f"key {item.key}", f"group {item.group}"]
        joined += [(first.setdefault(mark, row), row) for mark in marks]
    return clusters(len(manifest), joined)


def _findings(manifest: Manifest, seen: Survey, pairs: tuple[Pair, ...], labels: _Labels) -> tuple[Finding, ...]:
    found = itertools.chain(
        check_findings.unreadable(seen.rejected),
        check_findings.identical(manifest),
        check_findings.near(manifest, check_findings.twins(manifest, pairs)),
        check_findings.straddling(manifest),
        check_findings.classes(manifest, labels.overlap),
        check_findings.labels(manifest, labels.errors),
        check_findings.unusual(manifest, labels.unusual),
        check_findings.odd_files(seen.items, seen.looks),
    )
    return tuple(sorted(found, key=lambda finding: not finding.matters))


def _suspects(manifest: Manifest, errors: LabelErrors | None) -> list[Remark]:
    if errors is None:
        return []
    return [
        Remark(
            manifest.items[row].path,
            manifest.items[row].label,
            "label suspect",
            f"looks like {manifest.classes[other]} (odds {np.exp(-margin):.3g} to 1)",
        )
        for row, other, margin in zip(errors.rows, errors.suggested, errors.margins, strict=True)
    ]


def _write(page: CheckPage, folder: Path, *, overwrite: bool) -> None:
    content = {
        "title": page.title,
        "facts": page.facts,
        "findings": [finding.to_dict() for finding in page.findings],
        "not_done": page.not_done,
        "command": page.command,
        "seconds": page.timings,
    }
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        write_text(temporary / "check.json", json.dumps(content, indent=1, ensure_ascii=True) + "\n")
        write_check_page(page, temporary / "check.html")
