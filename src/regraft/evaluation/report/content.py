"""What a report is made of. Equal contents give the same bytes: no clock, no machine, no random number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.backbones.backbone import BackboneCard
    from regraft.data.manifest import Skipped
    from regraft.evaluation.abstaining import Threshold
    from regraft.evaluation.comparison import Leaderboard
    from regraft.evaluation.predictions import Predictions
    from regraft.evaluation.scores import Evaluation


@dataclass(frozen=True, slots=True)
class DecodeNote:
    """Something that decoding did to images and the reader should know.

    Attributes:
        note: what was done, in a sentence ("turned upright as EXIF says").
        count: to how many images.
        examples: a few of their paths.
    """

    note: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything that the report shows; what is empty is left out.

    Attributes:
        title: what was done to what ("linear-probe on hymenoptera").
        command: what to type to do it again.
        evaluation: the headline's numbers.
        predictions: what `evaluation` was measured on; its wrong and right ones make the gallery.
        others: evaluations of other parts, such as the training part.
        class_sizes: for each split in manifest words, the number of images of each class.
        split_note: how the splits came about.
        selection: how the settings were chosen and on which images, in a sentence.
        chosen: the settings that were chosen, JSON values.
        history: one row for each candidate that was compared, JSON values, as in `heads.head.Fitted`.
        epochs: one row for each evaluation during a training by back-propagation, as in history.jsonl; what may stand
            in a row is told in `epochs.describe`.
        notes: further sentences that the reader must know.
        skipped: files that are not part of the data, with reasons.
        rejected: images that could not be decoded, with reasons.
        left_out: further sentences about images that took no part ("the model does not know 'wasps': ...").
        from_file: whether the features came from a file, so that no image was opened.
        decode_notes: what decoding did to images.
        timings: seconds for each part of the work, in order of time.
        environment: versions, precision, runtime, rows taken from the store: name to value.
        backbones: the cards of the backbones.
        batch: path and label of some training images, for the grid.
        features: (N, D), one row for each row of `predictions`, for the map.
        leaderboard: of the comparison that chose the strategy.
        threshold: the confidence below which answers are unsure, where one was asked for.
        unlike: (N,) how far each image of `predictions` is from the training images, above 1 for what is unlike them.
    """

    title: str
    command: str
    evaluation: Evaluation
    predictions: Predictions
    others: tuple[Evaluation, ...] = ()
    class_sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    split_note: str = ""
    selection: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    epochs: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    rejected: tuple[Skipped, ...] = ()
    left_out: tuple[str, ...] = ()
    from_file: bool = False
    decode_notes: tuple[DecodeNote, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    backbones: tuple[BackboneCard, ...] = ()
    batch: tuple[tuple[str, str | None], ...] = ()
    features: NDArray[np.float32] | None = None
    leaderboard: Leaderboard | None = None
    threshold: Threshold | None = None
    unlike: NDArray[np.float64] | None = None
