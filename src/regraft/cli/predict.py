"""`regraft predict`: exits with 1 when some images could not be read; they have a row that says why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regraft.backbones.files import warnings
from regraft.cli import terminal
from regraft.data.decode import MAX_PIXELS
from regraft.evaluation.scores import counted
from regraft.inference.predictor import load
from regraft.inference.tabulate import check_target, images_of, write_predictions

if TYPE_CHECKING:
    from regraft.inference.predictor import Prediction

_SHOWN = 50


def predict(
    model: str,
    images: Annotated[list[str], Parameter(negative="")],
    /,
    *,
    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
    runtime: str = "auto",
) -> int:
    """Predict images with a trained model.

    Args:
        model: A run folder, or a bundle.
        images: Image files, and folders that are searched for them.
        output: Write all answers to this file: .csv, .json or .parquet.
        overwrite: Replace the file if it exists.
        max_pixels: Images with more pixels are not decoded.
        runtime: What runs the backbone: auto (as it was trained), openvino or torch.
    """
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
