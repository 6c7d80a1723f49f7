"""The run: the folder that a command leaves, complete or absent, never overwritten silently.

config.json       options as resolved, the command, versions
manifest.csv      every image that was used: path, label, split, group, sha256
rejected.csv      images that could not be read, and why
skipped.csv       files that are no part of the data, and why
metrics.json      the headline numbers at the top level, with intervals; all evaluated splits below
leaderboard.csv   of a comparison: every candidate, the best first; leaderboard.json: all that was said of them
history.jsonl     one line for each candidate setting that was compared, or each evaluation of a network in training
train.yaml        of a training: every option as resolved, for --config
tensorboard/      of a training, where asked for
predictions.csv   every evaluated image: truth, answer, probabilities
report.html       the same for people
bundle/           the model
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import inspect
import io
import itertools
import json
import os
import platform
import re
import shlex
import shutil
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regraft
from regraft.atomic import atomic_folder, check_writable, write_text
from regraft.backbones.files import told
from regraft.data.manifest import SPLITS
from regraft.errors import OptionError, RunExists
from regraft.evaluation.abstaining import confidences, keep
from regraft.inference.bundle import write_bundle
from regraft.inference.guard import Guard
from regraft.recipes.show import labelled_batch
from regraft.recipes.workplace import CONFIG, LOGS, training_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from regraft.data.manifest import Skipped
    from regraft.evaluation.change_scores import ChangeEvaluation
    from regraft.evaluation.comparison import Leaderboard
    from regraft.evaluation.predictions import Predictions
    from regraft.evaluation.report.content import DecodeNote
    from regraft.evaluation.scores import Evaluation
    from regraft.evaluation.task_scores import TaskScores
    from regraft.features.frozen import Frozen
    from regraft.heads.head import Fitted
    from regraft.inference.bundle import Bundle
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Clock

_DISTRIBUTIONS = ("numpy", "pillow", "scikit-learn", "openvino", "torch", "timm", "torchvision")
_BATCH = 24
_LONGEST_NAME = 150  # temporary names are longer
FILES = {
    "bundle",
    "config.json",
    "history.jsonl",
    "leaderboard.csv",
    "leaderboard.json",
    "manifest.csv",
    "metrics.json",
    "predictions.csv",
    "rejected.csv",
    "report.html",
    "skipped.csv",
    "tensorboard",
    "train.yaml",
}


@dataclass(frozen=True, repr=False)
class Run:
    """A run that was left behind.

    Attributes:
        folder: where it is.
        metrics: the content of metrics.json; `metrics["accuracy"]` is the headline, and for several tasks
            `metrics["tasks"]` holds the numbers of each.
        evaluation: the headline's numbers as an object; of several tasks, all of theirs.
        leaderboard: of the comparison that the run came from.
    """

    folder: Path
    metrics: dict[str, Any]
    evaluation: Evaluation | TaskScores | ChangeEvaluation
    leaderboard: Leaderboard | None = None

    def __fspath__(self) -> str:
        """A run stands for its folder wherever a path is taken."""
        return str(self.folder)

    def __repr__(self) -> str:
        """One line."""
        return f"Run({str(self.folder)!r}, {self.evaluation.sentence()})"

    @property
    def report(self) -> Path:
        """The report's file."""
        return self.folder / "report.html"


@dataclass(frozen=True)
class Finished:
    """Everything that a run is written from.

    Attributes:
        name: of the run.
        facts: for config.json.
        gathered: all images that took part.
        fitted: the head, or None where nothing was trained.
        predictions: by split, the headline's first.
        evaluations: likewise.
        notes: sentences for the report.
        left_out: sentences about images that took no part.
        measured: the images that were predicted, with the features they were predicted from, where not those of
            `gathered`.
        epochs: the history of a network's training.
        training: the folder of that training, from which options and logs are taken.
        engine: how it ran, for the report.
        leaderboard: of the comparison that chose the strategy.
        guard: what the model says beside its answers.
    """

    name: str
    facts: dict[str, Any]
    gathered: Gathered
    fitted: Fitted | None
    predictions: dict[str, Predictions]
    evaluations: dict[str, Evaluation]
    notes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    measured: Gathered | None = None
    epochs: tuple[dict[str, Any], ...] = ()
    training: Path | None = None
    engine: dict[str, str] = field(default_factory=dict)
    leaderboard: Leaderboard | None = None
    guard: Guard = field(default_factory=Guard)


_BUNDLE_FILES = re.compile(r"backbone(-\d+)?\.safetensors|bundle\.json|head\.safetensors|guard\.safetensors")


def run_name(data: str | os.PathLike[str] | None, backbone: str, strategy: str) -> str:
    """The name of a run where the user gives none, of letters that every file system takes."""
    what = "data" if data is None else os.fspath(data).removeprefix("sample:")
    parts = [Path(what).resolve().stem or "data", backbone, strategy]
    return "-".join("".join(c if c.isalnum() or c in "._-+" else "_" for c in part) for part in parts)


def choose_folder(run: str | os.PathLike[str] | None, name: str, *, overwrite: bool) -> Path:
    """The folder of a new run: the one that was named, or the first free `runs/NAME`, `runs/NAME-2`, ...

    Raises:
        RunExists: the named one exists; known before any work is done.
    """
    if run is None:
        check_writable(Path("runs") / name)
        candidates = (Path("runs") / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
        return next(path for path in candidates if not path.exists() and not training_folder(path).exists())
    target = Path(run)
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        raise OptionError(f"run {target.name[:40]}... is too long a name; expected at most {_LONGEST_NAME} bytes")
    check_writable(target)
    if not target.exists() and not target.is_symlink():
        return target
    if not overwrite:
        raise RunExists(f"{target} exists already. Choose another folder with --run, or replace it with --overwrite.")
    if not is_run(target):
        raise RunExists(
            f"{target} exists and is not a run that Regraft left (or holds other files too), so it is not replaced even"
            f" with --overwrite. Choose another folder with --run."
        )
    return target


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run and nothing else, so that removing it loses nothing of the user's."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    bundle = folder / "bundle"
    inside = {path.name for path in bundle.iterdir()} if bundle.is_dir() else set()
    return "metrics.json" in names and names <= FILES and all(map(_BUNDLE_FILES.fullmatch, inside))


def command_line(verb: Callable[..., Any], options: dict[str, Any]) -> str:
    """The command that asks for the same again; options at their defaults are left out."""
    words = ["regraft", verb.__name__]
    for name, parameter in inspect.signature(verb).parameters.items():
        value = options.get(name, parameter.default)
        if value is None or value == parameter.default:
            continue
        flag = [f"--{name.replace('_', '-')}"] if parameter.kind is inspect.Parameter.KEYWORD_ONLY else []
        if isinstance(value, list):  # an option that is repeated
            words += [word for one in value for word in (*flag, str(one))]
            continue
        words += flag
        if value is not True:
            values = value if isinstance(value, tuple) else (value,)
            words += [os.fspath(one) if isinstance(one, os.PathLike) else str(one) for one in values]
    return shlex.join(words)


def versions() -> dict[str, str]:
    """Versions of Regraft, Python and the libraries that decide numbers, without importing them."""
    found = {"regraft": regraft.__version__, "python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def write_run(
    finished: Finished,
    target: Path,
    bundle: Bundle | None,
    backbones: Sequence[Frozen],
    clock: Clock,
    *,
    overwrite: bool,
) -> Run:
    """Write everything into a folder that appears complete or not at all.

    A folder that was chosen by `choose_folder` and meanwhile taken by another process gets the next free name.
    """
    clock.import_now("regraft.evaluation.report.write", "jinja2")
    target, metrics = write_folder(
        lambda folder: _fill(folder, finished, bundle, backbones, clock), finished, target, overwrite=overwrite
    )
    return Run(target, metrics, next(iter(finished.evaluations.values())), finished.leaderboard)


def write_folder(
    fill: Callable[[Path], dict[str, Any]], finished: Finished, target: Path, *, overwrite: bool
) -> tuple[Path, dict[str, Any]]:
    """Fill the folder of a run, see `write_named_folder`."""
    given = finished.facts["options"].get("run") is not None
    return write_named_folder(fill, finished.name, target, given=given, overwrite=overwrite)


def write_named_folder(
    fill: Callable[[Path], dict[str, Any]], name: str, target: Path, *, given: bool, overwrite: bool
) -> tuple[Path, dict[str, Any]]:
    """Fill the folder of a run; returns where it is, and what `fill` gave.

    One that was chosen by `choose_folder` (not `given` by the user) and meanwhile taken by another process gets the
    next free name.
    """
    while True:
        try:
            with atomic_folder(target, overwrite=overwrite) as folder:
                metrics = fill(folder)
            break
        except RunExists:
            if given:
                raise
            target = choose_folder(None, name, overwrite=False)
    return target, metrics


def _fill(
    folder: Path, finished: Finished, bundle: Bundle | None, backbones: Sequence[Frozen], clock: Clock
) -> dict[str, Any]:
    manifest = finished.gathered.manifest
    evaluations = {split: evaluation.to_json() for split, evaluation in finished.evaluations.items()}
    shared = {"manifest_sha256": manifest.sha256(), "classes": list(manifest.classes)}
    with clock.phase("write"):
        manifest.write(folder / "manifest.csv")
        _write_predictions(folder / "predictions.csv", finished.predictions, finished.guard)
        write_parts(folder, finished, bundle, backbones, shared, evaluations)
    _write_report(folder / "report.html", finished, backbones, clock)
    return write_metrics(folder, finished, evaluations, clock)


def write_parts(
    folder: Path,
    finished: Finished,
    bundle: Bundle | None,
    backbones: Sequence[Frozen],
    shared: dict[str, Any],
    evaluations: dict[str, dict[str, Any]],
) -> None:
    """Write what every run has besides its images, predictions, numbers and report.

    Args:
        folder: of the run.
        finished: what it is written from.
        bundle: the model, where there is a new one.
        backbones: of the bundle.
        shared: what both the bundle's facts and config.json say.
        evaluations: the numbers by split, JSON values.
    """
    manifest, fitted = finished.gathered.manifest, finished.fitted
    shared = {**shared, "versions": versions()}
    write_skipped(folder / "rejected.csv", finished.gathered.rejected)
    write_skipped(folder / "skipped.csv", manifest.skipped)
    history = finished.epochs or (fitted.history if fitted is not None else [])
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history), "utf-8")
    if finished.leaderboard is not None:
        write_leaderboard(folder, finished.leaderboard)
    if finished.training is not None:
        take_training(finished.training, folder)
    if bundle is not None:
        facts = {**bundle.facts, **shared, "metrics": evaluations}
        write_bundle(replace(bundle, facts=facts), folder / "bundle", [one.weights for one in backbones])
    config = {
        **finished.facts,
        **shared,
        "data": manifest.source,
        "split_note": manifest.split_note,
        "working_folder": str(Path.cwd()),
    }
    write_json(folder / "config.json", config)


def write_metrics(
    folder: Path, finished: Finished, evaluations: dict[str, dict[str, Any]], clock: Clock
) -> dict[str, Any]:
    """Write metrics.json, the first of the evaluations (JSON values) at its top level; returns its content."""
    metrics = {
        **next(iter(evaluations.values())),
        "strategy": finished.facts["strategy"],
        "backbone": finished.facts["backbone"],
        "chosen": {} if finished.fitted is None else finished.fitted.chosen,
        "evaluations": evaluations,
        **_abstaining(finished),
        "images": len(finished.gathered.manifest),
        "rejected": len(finished.gathered.rejected),
        "skipped": len(finished.gathered.manifest.skipped),
        "seconds": clock.rounded(),
    }
    write_json(folder / "metrics.json", metrics)
    return metrics


def _abstaining(finished: Finished) -> dict[str, Any]:
    """What the threshold on confidence promised, and what it keeps of each part that was measured."""
    threshold = finished.guard.threshold
    if threshold is None:
        return {}
    kept = {split: keep(*confidences(part), threshold.value).to_json() for split, part in finished.predictions.items()}
    return {"abstaining": {"threshold": threshold.to_json(), "kept": kept}}


def take_training(training: Path, folder: Path) -> None:
    """What of a training's folder stays with its run."""
    shutil.copyfile(training / CONFIG, folder / CONFIG)
    if (training / LOGS).is_dir():
        shutil.copytree(training / LOGS, folder / LOGS)


def write_leaderboard(folder: Path, board: Leaderboard) -> None:
    """Write a comparison into its run, as a table and as JSON."""
    write_text(folder / "leaderboard.csv", board.to_csv())
    write_text(folder / "leaderboard.json", json.dumps(board.to_json(), indent=1) + "\n")


def write_json(target: Path, content: dict[str, Any]) -> None:
    """Write JSON values; paths become texts."""
    target.write_text(json.dumps(content, indent=1, default=os.fspath) + "\n", "utf-8")


def write_skipped(target: Path, files: Iterable[Skipped]) -> None:
    """Write files and reasons as CSV with the columns path, reason."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows([s.path, s.reason] for s in files)
    write_text(target, buffer.getvalue())


def _write_predictions(target: Path, parts: dict[str, Predictions], guard: Guard) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for n, (split, part) in enumerate(parts.items()):
        if n == 0:
            columns = ["path", "split", "label", "predicted", "probability", *(f"p_{name}" for name in part.classes)]
            writer.writerow([*columns, "unsure"] if guard.threshold is not None else columns)
        probabilities, best = part.probabilities(), part.predicted()
        for i, path in enumerate(part.paths):
            truth = part.classes[part.targets[i]] if part.targets[i] >= 0 else ""
            values = [f"{p:.6f}" for p in probabilities[i]]
            row = [path, split, truth, part.classes[best[i]], values[best[i]], *values]
            if guard.threshold is not None:
                row.append(str(bool(probabilities[i, best[i]] < guard.threshold.value)))
            writer.writerow(row)
    write_text(target, buffer.getvalue())


def _write_report(target: Path, finished: Finished, backbones: Sequence[Frozen], clock: Clock) -> None:
    from regraft.evaluation.report.content import Report
    from regraft.evaluation.report.pictures import make_pictures
    from regraft.evaluation.report.sections import gallery
    from regraft.evaluation.report.write import render_report

    gathered, found = finished.gathered, finished.gathered.extraction
    measured = finished.measured or gathered
    split, headline = next(iter(finished.evaluations.items()))
    features = (measured.split(split) if split in SPLITS else measured).table.features
    unlike = finished.guard.unlike(features)
    shown = gallery(finished.predictions[split], unlike)
    # Only training has a batch that was learnt from; the splits of other people's data mean nothing here.
    learnt = found is not None and finished.fitted is not None
    drawn = labelled_batch(gathered.manifest.split("train"), _BATCH) if learnt else []
    batch = tuple((item.path, item.label) for item in drawn)
    with clock.phase("report"):
        pictures = make_pictures([path for path, _ in batch] + (shown.paths() if found is not None else []))
        report = Report(
            title=finished.name,
            command=finished.facts["command"],
            evaluation=headline,
            predictions=finished.predictions[split],
            others=tuple(e for s, e in finished.evaluations.items() if s != split),
            class_sizes={s: gathered.manifest.split(s).class_sizes() for s in gathered.manifest.split_sizes()},
            split_note=gathered.manifest.split_note,
            selection=finished.facts["selection"],
            chosen=finished.fitted.chosen if finished.fitted is not None else {},
            history=finished.fitted.history if finished.fitted is not None else [],
            notes=finished.notes,
            left_out=finished.left_out,
            from_file=found is None,
            skipped=gathered.manifest.skipped,
            rejected=gathered.rejected,
            decode_notes=decode_notes(gathered),
            timings=clock.rounded(),
            environment=environment(backbones, measured) | finished.engine,
            backbones=tuple(one.card for one in backbones),
            batch=batch,
            features=features,
            epochs=finished.epochs,
            leaderboard=finished.leaderboard,
            threshold=finished.guard.threshold,
            unlike=unlike,
        )
        write_text(target, render_report(report, shown, pictures))


def decode_notes(gathered: Gathered) -> tuple[DecodeNote, ...]:
    """What decoding did to images, the most frequent first."""
    from regraft.evaluation.report.content import DecodeNote

    paths: dict[str, list[str]] = defaultdict(list)
    for path, notes in (gathered.extraction.notes if gathered.extraction is not None else {}).items():
        for note in notes:
            paths[note].append(path)
    ranked = sorted(paths.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return tuple(DecodeNote(note, len(where), tuple(where[:3])) for note, where in ranked)


def environment(backbones: Sequence[Frozen], gathered: Gathered) -> dict[str, str]:
    """Versions, and how the features came about, for the report."""
    facts = versions()
    if backbones and gathered.extraction is not None:
        space, views = backbones[0].spaces[0], len(backbones[0].spaces)
        facts |= {
            "runtime": f"{space.runtime}, {space.precision}",
            "features": f"{gathered.extraction.from_store} from the store, {gathered.extraction.computed} computed",
            "conversion": "; ".join(dict.fromkeys(one.conversion for one in backbones)),
            "views": "each image and its mirror image, averaged" if views > 1 else "each image as it is",
        }
        for one in backbones:
            if one.card.checkpoint:
                facts[f"weights file of {one.card.name}"] = "; ".join(told(one.card))
    return facts
