"""`regraft predict`: exits with 1 when some images could not be read; they have a row that says why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from regraft.backbones.files import warnings
from regraft.cli import terminal
from regraft.data.decode import MAX_PIXELS
from regraft.errors import OptionError
from regraft.evaluation.scores import counted
from regraft.inference.change.bundle import is_change_model
from regraft.inference.predictor import load
from regraft.inference.tabulate import check_target, images_of, write_predictions

if TYPE_CHECKING:
    from regraft.inference.predictor import Prediction

_SHOWN = 50
_MAPS = Parameter(group="What changed between two dates", negative="")
_PLAIN = {"align": False, "min_area": 0.0, "simplify": 0.0}  # of the options of maps; the others' default is None
_VECTORS = ("gpkg", "geojson")
_DATES = 2


def predict(
    model: str,
    images: Annotated[list[str] | None, Parameter(negative="")] = None,
    /,
    *,
    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
    runtime: str = "auto",
    pairs: Annotated[str | None, _MAPS] = None,
    vector: Annotated[str | None, _MAPS] = None,
    tile: Annotated[int | None, _MAPS] = None,
    overlap: Annotated[int | None, _MAPS] = None,
    threshold: Annotated[float | None, _MAPS] = None,
    align: Annotated[bool, _MAPS] = False,
    min_area: Annotated[float, _MAPS] = 0.0,
    simplify: Annotated[float, _MAPS] = 0.0,
) -> int:
    """Predict images with a trained model; with a model of change detection, map what changed between two dates.

    Args:
        model: A run folder, or a bundle.
        images: Image files, and folders that are searched for them; for a change model the two dates, before and after.
        output: Write all answers to this file: .csv, .json or .parquet; a change map is .tif or .png, and with --pairs
            a folder.
        overwrite: Replace the file if it exists.
        max_pixels: Images with more pixels are not decoded.
        runtime: What runs the backbone: auto (as it was trained), openvino or torch.
        pairs: Map every pair of this folder (A and B) or table; no labels are needed.
        vector: Write polygons of what changed too, .gpkg or .geojson; with --pairs the word gpkg or geojson.
        tile: Side of the tiles in pixels; by default that of the training, which is best.
        overlap: Pixels that neighbouring tiles share; by default a quarter of the tile.
        threshold: Probability from which on a pixel is changed; by default the one chosen on validation.
        align: Read the second date on the grid of the first if it lies on another.
        min_area: Leave out smaller polygons: square metres, or pixels where there are no coordinates.
        simplify: Simplify outlines by up to so many pixels.
    """
    how = {
        "vector": vector,
        "tile": tile,
        "overlap": overlap,
        "threshold": threshold,
        "align": align,
        "min_area": min_area,
        "simplify": simplify,
    }
    if is_change_model(Path(model)):
        if runtime == "openvino":
            raise OptionError("--runtime openvino: a change model runs on torch; leave it out")
        return _maps(model, images or [], pairs, output, {**how, "overwrite": overwrite, "max_pixels": max_pixels})
    for name, value in {"pairs": pairs, **how}.items():
        if value != _PLAIN.get(name):
            raise OptionError(f"--{name.replace('_', '-')} is for a change model; {model} looks at one image at a time")
    if not images:
        raise OptionError("no image is named: name image files or folders after the model")
    return _answers(model, images, output, overwrite=overwrite, max_pixels=max_pixels, runtime=runtime)


def _maps(model: str, images: list[str], pairs: str | None, output: str | None, how: dict[str, Any]) -> int:
    """Maps of one scene, or of many pairs."""
    from regraft.inference.change.predictor import load_change

    if output is None:
        what = "BEFORE AFTER -o change.tif" if pairs is None else "--pairs FOLDER -o FOLDER"
        raise OptionError(f"no output is named: regraft predict {model} {what}")
    for name in ("min_area", "simplify"):
        if how[name] and how["vector"] is None:
            raise OptionError(f"--{name.replace('_', '-')} is of polygons: name their file with --vector")
    if pairs is not None:
        return _maps_of_pairs(model, images, pairs, output, how)
    if len(images) != _DATES or any(Path(image).is_dir() for image in images):
        raise OptionError(
            "a change model is given the files of two dates, before and after; folders of pairs by --pairs FOLDER"
        )
    said: list[str] = []
    with terminal.listener() as listener:

        def say(line: str) -> None:
            said.append(line)
            listener.say(line)

        before, after = images
        made = load_change(model).map_scene(before, after, output, say=say, progress=listener.progress, **how)
    for notice in made.notices:
        if notice not in said:
            terminal.line(f"warning: {notice}", error=True)
    share = "no pixel has data in both dates" if made.changed is None else f"{100 * made.changed:.2f} % changed"
    terminal.line(f"wrote {', '.join(map(str, made.paths))}: {share}, {made.seconds:.1f} s")
    return 0


def _maps_of_pairs(model: str, images: list[str], pairs: str, output: str, how: dict[str, Any]) -> int:
    from regraft.inference.change.predictor import load_change
    from regraft.recipes.change_predict import SUMMARY, map_pairs

    if images:
        raise OptionError(f"--pairs names all pairs: leave {images[0]} out")
    if how["vector"] not in {None, *_VECTORS}:
        raise OptionError(f"vector {how['vector']!r}: with --pairs expected {' or '.join(_VECTORS)}, one file a pair")
    with terminal.listener() as listener:
        found = map_pairs(load_change(model), pairs, output, listener=listener, **how)
    failed = sum(error != "" for *_, error in found)
    terminal.line(f"wrote {len(found) - failed} maps to {output}; how much changed is in {Path(output) / SUMMARY}")
    return 1 if failed else 0


def _answers(
    model: str, images: list[str], output: str | None, *, overwrite: bool, max_pixels: int, runtime: str
) -> int:
    """An answer for each image."""
    target = None if output is None else Path(output)
    if target is not None:
        check_target(target, overwrite=overwrite)
    predictor = load(model, runtime=runtime)
    with terminal.listener() as listener:
        for card in predictor.bundle.cards:
            for warning in warnings(card):
                listener.warn(warning)
        threshold = predictor.bundle.guard.threshold
        if threshold is not None and not threshold.reached:
            listener.warn(f"this model could not promise an accuracy of {threshold.target:g}, unsure or not")
        paths = images_of(images)
        answers = predictor.predict(paths, max_pixels=max_pixels, on_progress=listener.progress)
    failed = [answer for answer in answers if answer.error is not None]
    if target is not None:
        write_predictions(answers, predictor.classes, target, tasks=predictor.tasks, overwrite=overwrite)
        terminal.line(f"wrote {target}: {counted(len(answers), 'image')}, {len(failed)} of them could not be read")
    else:
        for answer in answers[:_SHOWN] if len(answers) > 2 * _SHOWN else answers:
            terminal.line(f"{answer.path}  {_said(answer)}")
        if len(answers) > 2 * _SHOWN:
            terminal.line(f"... and {len(answers) - _SHOWN} more; write them all to a file with -o predictions.csv")
    for answer in failed[:_SHOWN] if target is not None else []:
        terminal.line(f"warning: {answer.path}: {answer.error}", error=True)
    return 1 if failed else 0


def _said(answer: Prediction) -> str:
    if answer.error is not None:
        return f"error: {answer.error}"
    if answer.tasks:
        said = "  ".join(f"{name}={own}" for name, own in answer.tasks.items())
    else:
        said = f"{answer.label}  {answer.probability:.3f}"
    if answer.unsure:
        said = f"unsure ({answer.label} {answer.probability:.3f})"
    return f"{said}  unlike the training images" if answer.is_unlike else said
