"""TensorBoard's event files of a training: curves, some inputs, the confusion matrix."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from regraft.errors import CannotWrite, MissingExtra
from regraft.evaluation.report.batch import batch_picture
from regraft.evaluation.report.matrix_picture import matrix_picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

MOST_INPUTS = 32
_TILE = 160
_FLUSH_SECONDS = 20  # what a kill may lose


@dataclass(frozen=True)
class Writer:
    """Writes into one folder until it is closed.

    Each method may raise `CannotWrite`: the disk is full or read-only.

    Attributes:
        folder: where the event files are.
        events: torch's `SummaryWriter`.
    """

    folder: Path
    events: Any

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """Add a point to each curve.

        Args:
            values: tag -> value; None is left out. Tags are such as `train/loss`, `train/accuracy`, `val/loss`,
                `val/accuracy`, `lr/backbone`, `lr/head`, `speed/images_per_second`.
            step: updates of the weights so far.
        """
        with _naming(self.folder):
            for tag, value in values.items():
                if value is not None:
                    # a float64 array, because torch's own way of NaN is to log a warning for each
                    self.events.add_scalar(tag, np.float64(value), step)

    def inputs(self, batch: Tensor | NDArray[np.uint8], names: Sequence[str], step: int) -> None:
        """Add a grid of images as the network gets them, with the name of its class beneath each.

        Args:
            batch: (B, 3, H, W) uint8 RGB; the first `MOST_INPUTS` are drawn.
            names: B class names.
            step: updates of the weights so far.
        """
        pixels = np.asarray(batch if isinstance(batch, np.ndarray) else batch.detach().cpu().numpy(), np.uint8)
        images = [Image.fromarray(np.ascontiguousarray(one.transpose(1, 2, 0))) for one in pixels[:MOST_INPUTS]]
        self._picture("inputs", batch_picture(zip(images, names, strict=False), tile=_TILE), step)

    def confusion(self, matrix: NDArray[np.integer], classes: Sequence[str], step: int) -> None:
        """Add a confusion matrix as a picture.

        Args:
            matrix: (K, K) counts, rows true, columns predicted.
            classes: K names.
            step: updates of the weights so far.
        """
        self._picture("confusion", matrix_picture(matrix, classes), step)

    def close(self) -> None:
        """Write what is left and let go of the file."""
        with _naming(self.folder):
            self.events.close()

    def _picture(self, tag: str, picture: Image.Image, step: int) -> None:
        with _naming(self.folder):
            self.events.add_image(tag, np.asarray(picture), step, dataformats="HWC")


def open_writer(folder: Path, *, done: int | None = None) -> Writer:
    """Open a folder for the events of a training, new or resumed.

    Args:
        folder: created if it is not there. TensorBoard shows all event files in it as one training.
        done: when resuming, the updates of the weights that the state has. What an earlier session wrote of later
            ones is then hidden by TensorBoard, so that the curves show each step once. Without it nothing is hidden.

    Raises:
        MissingExtra: TensorBoard is not installed.
        CannotWrite: the folder cannot be made.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "tensorboard", "writing for TensorBoard") from error
    with _naming(folder):
        first = None if done is None else done + 1
        events = SummaryWriter(str(folder), purge_step=first, flush_secs=_FLUSH_SECONDS)
    return Writer(folder, events)


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Say in a sentence where writing failed."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(
            f"{folder} cannot be written: {error.strerror or error}. Make room, or train without --tensorboard."
        ) from error
