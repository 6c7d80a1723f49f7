"""A person's own file: how it is named and to be taken, and which network it is of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.backbones.lookup import architecture_of
from regraft.checkpoints.shown import shown
from regraft.errors import CheckpointError, OptionError

if TYPE_CHECKING:
    from regraft.backbones.identify import Identity
    from regraft.checkpoints.checkpoint import Checkpoint

PREFIX = "file:"
_SENTENCES = 500  # characters
ARCHITECTURE, AMBIGUOUS, PREPROCESSING = "regraft.architecture", "regraft.ambiguous", "regraft.preprocessing"
"""What a file that `regraft checkpoint convert` wrote says of itself, in its safetensors header."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How a person's own file is to be taken.

    Attributes:
        part: which of several state dicts in it.
        trust: unpickle what asks for foreign classes, which runs the file's code.
        allow_partial: the smallest share (0..1) of the backbone's parameters that the file must have.
        mean: per channel, on the scale 0..1; None: as the recognised network's published weights expect.
        std: likewise.
        size: side of the input, pixels.
    """

    part: str | None = None
    trust: bool = False
    allow_partial: float = 0.9
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    size: int | None = None

    def check(self) -> None:
        """Raise an `OptionError` for a value that cannot be meant, before any work is done."""
        if not 0 <= self.allow_partial <= 1:
            raise OptionError(f"allow-partial is {self.allow_partial!r}; expected a share from 0 to 1, such as 0.5")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and max(map(abs, values)) > 1:
                raise OptionError(f"{name} is {values!r}; expected numbers on the scale 0..1: divide them by 255")
        if self.size is not None and self.size < 1:
            raise OptionError(f"size is {self.size!r}; expected the side of the network's input in pixels")


DEFAULTS = FileOptions()


@dataclass(frozen=True)
class Recognised:
    """A file, what network it is of, and how sure that is.

    Attributes:
        checkpoint: what was read.
        identity: what its tensors say; None where the architecture was named.
        architecture: what `build_module` takes.
        why: how the architecture is known, one sentence.
        certainty: as in `Identity`; what was named is certain.
        weights: the name with its tag, where the user named published weights that the file is of or began as.
    """

    checkpoint: Checkpoint
    identity: Identity | None
    architecture: str
    why: str
    certainty: str = "certain"
    weights: str = ""


def split_name(name: str) -> tuple[Path, str]:
    """`file:FILE[@ARCHITECTURE]` -> the path and the architecture, which may be empty.

    An @ in a file's own name is no separator where a file of the whole name exists.

    Raises:
        OptionError: it names no file.
    """
    text = name.removeprefix(PREFIX)
    if not text.strip():
        raise OptionError(f"{name!r} names no file; expected {PREFIX}FILE or {PREFIX}FILE@ARCHITECTURE.")
    before, at, after = text.rpartition("@")
    if not at or Path(text).exists():
        return Path(text).expanduser(), ""
    return Path(before).expanduser(), after


def recognise(checkpoint: Checkpoint, architecture: str, cache: Path) -> Recognised:
    """Find the network that a file is of.

    Args:
        checkpoint: what was read.
        architecture: what the user says it is; empty: the file's tensors say it.
        cache: the product's cache folder.

    Raises:
        BackboneError: no such architecture.
        CheckpointError: nothing fits; the message says what was nearest.
    """
    if architecture:
        named = architecture_of(architecture, cache)
        return Recognised(checkpoint, None, named, "named by the user", weights=architecture)
    if told := checkpoint.metadata.get(ARCHITECTURE):
        why, certainty = "as the file itself says", "certain"
        if guessed := checkpoint.metadata.get(AMBIGUOUS):
            why, certainty = f"{why}, which was converted from another: {shown(guessed, _SENTENCES)}", "ambiguous"
        return Recognised(checkpoint, None, architecture_of(told, cache), why, certainty)
    identity = identify_checkpoint(checkpoint)
    if not identity.guesses or identity.certainty == "unknown":
        raise CheckpointError(
            f"{checkpoint.path}: {identity.why} Name its architecture: {PREFIX}{checkpoint.path}@timm/NAME or"
            " @torchvision/NAME; `regraft backbones PATTERN` lists them."
        )
    return Recognised(checkpoint, identity, identity.guesses[0].architecture, identity.why, identity.certainty)


def identify_checkpoint(checkpoint: Checkpoint) -> Identity:
    """What the tensors of a file say; its own hints and its name break ties."""
    from regraft.backbones.identify import identify

    hints = (*checkpoint.hints, checkpoint.path.stem)
    return identify(checkpoint.state_dict, modules=checkpoint.part.modules, hints=hints)
