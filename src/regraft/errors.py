"""The one exception tree of Regraft.

    RegraftError                 every error that Regraft raises on purpose
    ├── DataError                the user's images, tables or labels
    │   ├── ImageRejected        one file that cannot be decoded (carries path and reason)
    │   ├── TooManyRejected      more unreadable images than the run allows
    │   └── SplitError           splits that are missing, partial or impossible
    ├── BackboneError            a backbone's name or weights
    │   └── BackboneUnavailable  known, but its weights are not on this machine
    ├── CheckpointError          a weights file that does not fit or cannot be read
    │   └── PartialMatch         it fills too little of its network (carries the report)
    ├── BundleError              a run or bundle folder that cannot be used
    ├── RunExists                a run folder that would have been overwritten
    ├── CannotWrite              a file or folder that cannot be written (disk full, read-only)
    ├── TrainingFailed           a loss that is not a number, too little memory for one image
    ├── TrainingStopped          Ctrl-C or SIGTERM; the state is saved (carries the signal)
    ├── OptionError              a value that a command or function does not take
    └── MissingExtra             an optional package that is not installed

Every message names the value, what was expected and what to do next. The command line prints the
message and exits with 2; it never shows a traceback for one of these.
"""

from __future__ import annotations

from typing import Any


class RegraftError(Exception):
    """Every error that Regraft raises on purpose."""


class DataError(RegraftError):
    """The user's images, tables or labels cannot be used as they are."""


class ImageRejected(DataError):
    """One file that cannot be decoded as a whole image.

    Attributes:
        path: the file, as the caller named it.
        reason: one sentence, without the path.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class TooManyRejected(DataError):
    """More unreadable images than the run allows."""


class SplitError(DataError):
    """Splits that are missing, partial or impossible to make."""


class BackboneError(RegraftError):
    """A backbone's name or weights cannot be used."""


class BackboneUnavailable(BackboneError):
    """The backbone is known, but its weights are not on this machine and cannot be fetched."""


class CheckpointError(RegraftError):
    """A weights file that does not fit its network or cannot be read."""


class PartialMatch(CheckpointError):
    """A checkpoint that fills too little of its network; nothing was copied.

    Attributes:
        report: the `MatchReport`: what fits and what does not.
        short: the message without what the report says.
    """

    def __init__(self, message: str, report: Any, short: str) -> None:
        super().__init__(message)
        self.report = report
        self.short = short


class BundleError(RegraftError):
    """A run or bundle folder that is missing, incomplete or of another format."""


class RunExists(RegraftError):
    """A run folder that would have been overwritten."""


class CannotWrite(RegraftError):
    """A file or folder that cannot be written: disk full, read-only, no permission."""


class TrainingFailed(RegraftError):
    """A training that cannot go on: a loss that is not a number, or too little memory for one image."""


class TrainingStopped(RegraftError):
    """A training that was asked to stop; its state is saved.

    Attributes:
        signal: the signal that asked.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class OptionError(RegraftError):
    """A value that a command or function does not take."""


class MissingExtra(RegraftError):
    """An optional package that is not installed.

    Args:
        package: the distribution that is missing.
        extra: the Regraft extra that brings it.
        purpose: what it is needed for, as in "reading Parquet tables".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'regraft[{extra}]'")
