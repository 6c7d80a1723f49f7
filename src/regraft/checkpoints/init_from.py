"""Start a network of one's own from a checkpoint, in one line of its constructor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regraft.checkpoints.checkpoint import Checkpoint
from regraft.checkpoints.match import SHARE, match

if TYPE_CHECKING:
    import os

    from torch import Tensor, nn

    from regraft.checkpoints.match_report import MatchReport


def init_from(
    module: nn.Module,
    checkpoint: str | os.PathLike[str] | Checkpoint | Mapping[str, Tensor],
    *,
    allow_partial: float = SHARE,
    allow_ambiguous: bool = False,
    part: str | None = None,
    trust: bool = False,
) -> MatchReport:
    """Fill `module` with what fits of a checkpoint, in place; call it last in a constructor.

        class Net(nn.Module):
            def __init__(self, weights=None):
                super().__init__()
                self.backbone = ...
                if weights:
                    regraft.init_from(self.backbone, weights)

    Args:
        module: the network, or a part of it.
        checkpoint: a file, or what was read from one.
        allow_partial: the smallest share (0..1) of the parameters outside the head that must be found.
        allow_ambiguous: where names say nothing and several alignments are equally good, take the first.
        part: of several state dicts in the file, which one.
        trust: unpickle a file that asks for foreign classes, which runs its code.

    Returns:
        What was loaded, adapted and left.

    Raises:
        PartialMatch: less was found; the module is as it was before.
        CheckpointError: the file cannot be read.
    """
    if isinstance(checkpoint, Checkpoint):
        state = checkpoint.state_dict
    elif isinstance(checkpoint, Mapping):
        state = dict(checkpoint)
    else:
        from regraft.checkpoints.read import read_checkpoint

        state = read_checkpoint(checkpoint, part=part, trust=trust).state_dict
    return match(state, module, allow_partial=allow_partial, allow_ambiguous=allow_ambiguous)
