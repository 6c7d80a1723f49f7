"""`regraft checkpoint`: what a weights file is, what of it fits a network, and the same as a clean file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.atomic import atomic_file, check_writable
from regraft.backbones.file_preprocessing import preprocessing_of
from regraft.backbones.files import seeded, sized
from regraft.backbones.recognise import (
    AMBIGUOUS,
    ARCHITECTURE,
    PREPROCESSING,
    FileOptions,
    Recognised,
    identify_checkpoint,
    recognise,
)
from regraft.checkpoints.match import fill, plan_match, require
from regraft.checkpoints.read import read_checkpoint
from regraft.checkpoints.shown import shown
from regraft.checkpoints.wrappers import prefixes, stripped
from regraft.errors import CheckpointError, OptionError, RunExists
from regraft.features.store import cache_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.backbones.identify import Identity
    from regraft.backbones.preprocessing import Preprocessing
    from regraft.checkpoints.checkpoint import Checkpoint
    from regraft.checkpoints.match_report import MatchReport

_SOURCE = "regraft.source"


@dataclass(frozen=True)
class Inspection:
    """What a file is.

    Attributes:
        checkpoint: what was read.
        identity: which network its tensors are of.
        preprocessing: what that network's input looks like; None where no network fits.
        source: where the preprocessing is known from.
    """

    checkpoint: Checkpoint
    identity: Identity
    preprocessing: Preprocessing | None
    source: str


@dataclass(frozen=True)
class Matching:
    """What of a file fits a network.

    Attributes:
        checkpoint: what was read.
        architecture: the network, as Regraft builds it.
        why: how the architecture is known.
        report: what fits and what does not.
        output: the file that was written, or None.
    """

    checkpoint: Checkpoint
    architecture: str
    why: str
    report: MatchReport | None
    output: Path | None = None


def inspect(
    file: str | os.PathLike[str],
    *,
    part: str | None = None,
    trust: bool = False,
) -> Inspection:
    """Say what a weights file holds, what wraps it, which architecture it is of and which head it has.

    Args:
        file: The weights file; an index of several; or a folder with exactly one of either.
        part: Of several state dicts in the file, which one to look at.
        trust: Unpickle a file that asks for foreign classes, which runs its code.

    Raises:
        CheckpointError: it cannot be read.
    """
    checkpoint = read_checkpoint(file, part=part, trust=trust)
    identity = identify_checkpoint(checkpoint)
    if not identity.guesses or identity.certainty == "unknown":
        return Inspection(checkpoint, identity, None, "")
    found = Recognised(checkpoint, identity, identity.guesses[0].architecture, identity.why)
    _, preprocessing, source = preprocessing_of(found, cache_folder(), FileOptions())
    return Inspection(checkpoint, identity, preprocessing, source)


def match(
    file: str | os.PathLike[str],
    *,
    to: str | None = None,
    allow_partial: float = 0.9,
    allow_ambiguous: bool = False,
    part: str | None = None,
    trust: bool = False,
) -> Matching:
    """Say what of a weights file fits a network, tensor by tensor; nothing is trained and nothing written.

    Args:
        file: The weights file.
        to: The network: timm/NAME, torchvision/NAME or a packaged one; by default the one that is recognised.
        allow_partial: Smallest share of the backbone's parameters that the file must have.
        allow_ambiguous: Where the names say nothing and several alignments are equally good, take the first.
        part: Of several state dicts in the file, which one.
        trust: Unpickle a file that asks for foreign classes, which runs its code.

    Raises:
        PartialMatch: less fits; the error carries the report.
        RegraftError: the file cannot be read, or the network is unknown.
    """
    FileOptions(allow_partial=allow_partial).check()
    found = recognise(read_checkpoint(file, part=part, trust=trust), to or "", cache_folder())
    architecture, module, _, _ = _network(found, meta=True)
    plan = plan_match(found.checkpoint.state_dict, module, allow_ambiguous=allow_ambiguous, head=())
    require(plan.report, allow_partial)
    return Matching(found.checkpoint, architecture, found.why, plan.report)


def convert(
    file: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    to: str | None = None,
    allow_partial: float = 0.9,
    allow_ambiguous: bool = False,
    part: str | None = None,
    trust: bool = False,
    overwrite: bool = False,
) -> Matching:
    """Write the backbone of a weights file as clean safetensors, which says of itself which network it is of.

    Without wrappers, head and pickle, under the names of the network. A file of no known network keeps its own
    names, without what wrappers put before them.

    Args:
        file: The weights file.
        output: The .safetensors file to write.
        to: The network: timm/NAME, torchvision/NAME or a packaged one; by default the one that is recognised.
        allow_partial: Smallest share of the backbone's parameters that the file must have.
        allow_ambiguous: Where the names say nothing and several alignments are equally good, take the first.
        part: Of several state dicts in the file, which one.
        trust: Unpickle a file that asks for foreign classes, which runs its code.
        overwrite: Replace the output if it exists.

    Raises:
        PartialMatch: less fits; nothing is written.
        RegraftError: the file cannot be read, the network is unknown, or the output cannot be written.
    """
    FileOptions(allow_partial=allow_partial).check()
    target = Path(output)
    if target.suffix != ".safetensors":
        raise OptionError(f"{target} would be safetensors whatever its name: let it end with .safetensors.")
    check_writable(target)
    if target.exists() and not overwrite:
        raise RunExists(f"{target} exists already. Choose another file, or replace it with --overwrite.")
    checkpoint = read_checkpoint(file, part=part, trust=trust)
    try:
        found = recognise(checkpoint, to or "", cache_folder())
    except CheckpointError:
        if to:
            raise
        _save(_bare(checkpoint), target, {_SOURCE: shown(checkpoint.path.name)})
        return Matching(checkpoint, "", "no known network: names and tensors as they are", None, target)
    architecture, module, preprocessing, _ = _network(found, meta=False)
    plan = plan_match(checkpoint.state_dict, module, allow_ambiguous=allow_ambiguous, head=())
    require(plan.report, allow_partial)
    fill(module, plan, checkpoint.state_dict)
    filled = {row.name for row in plan.report.rows if row.filled}
    state = {name: tensor for name, tensor in module.state_dict().items() if name in filled}
    facts = {
        ARCHITECTURE: architecture,
        PREPROCESSING: json.dumps(preprocessing.to_dict()),
        _SOURCE: shown(checkpoint.path.name),
        **({AMBIGUOUS: found.why} if found.certainty == "ambiguous" else {}),  # a guess must not become a certainty
    }
    _save(state, target, facts)
    return Matching(checkpoint, architecture, found.why, plan.report, target)


def _network(found: Recognised, *, meta: bool) -> tuple[str, nn.Module, Preprocessing, str]:
    """The network for a file: its architecture with the input's size, a module, preprocessing and its source."""
    import torch

    zoo, preprocessing, source = preprocessing_of(found, cache_folder(), FileOptions())
    architecture = sized(found.architecture, zoo, preprocessing.size)
    if meta:
        try:
            with torch.device("meta"):
                return architecture, zoo.build_module(architecture), preprocessing, source
        except (RuntimeError, NotImplementedError):
            pass  # a few builders compute with their own numbers
    return architecture, seeded(lambda: zoo.build_module(architecture)), preprocessing, source


def _bare(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors under their names without a prefix that all of them carry."""
    names = list(checkpoint.state_dict)
    shared = [prefix for prefix in prefixes(names) if all(name.startswith(prefix) for name in names)]
    view = stripped(names, shared[-1])
    return {short: checkpoint.state_dict[name] for short, name in view.items()}


def _save(state: dict[str, Tensor], target: Path, facts: dict[str, str]) -> None:
    from safetensors.torch import save_file

    with atomic_file(target) as temporary:
        save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, temporary, metadata=facts)
