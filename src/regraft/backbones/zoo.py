"""What a source of backbones offers; `packaged`, `timm_zoo` and `torchvision_zoo` are such modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn

    from regraft.backbones.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class Entry:
    """One network with one set of weights, and where its file is to be had. No weights are read to know it.

    Attributes:
        name: the full name with its tag, `timm/resnet34.a1_in1k`.
        architecture: what the zoo's `build_module` takes: without a tag, unless the weights shape the network.
        weights: the weights' tag, for people.
        repo: the hub repository of the file, with an optional `@revision`; empty if there is none.
        filename: the file in `repo`; empty means the hub's usual names.
        url: where else the file is published; its last part is its name in torch's cache. May be empty.
        path: a file that is on this machine by itself; may be empty.
    """

    name: str
    architecture: str
    weights: str
    repo: str = ""
    filename: str = ""
    url: str = ""
    path: str = ""


def split_size(architecture: str) -> tuple[str, int | None]:
    """`timm/vit_tiny_patch16_224?size=160` -> the architecture and the side, None where there is none."""
    name, mark, side = architecture.partition("?size=")
    return name, int(side) if mark and side.isdecimal() and int(side) > 0 else None


class Zoo(Protocol):
    """The functions of one source of backbones."""

    @property
    def NAME(self) -> str:  # noqa: N802 (a module's constant)
        """As in the listing: packaged, timm or torchvision."""
        ...

    @property
    def DISTRIBUTIONS(self) -> tuple[str, ...]:  # noqa: N802
        """The packages whose versions define the networks."""
        ...

    def entries(self) -> Sequence[Entry]:
        """All that it offers; among those of one architecture the default comes first."""
        ...

    def build_module(self, architecture: str, classes: int = 0) -> nn.Module:
        """The network with random weights, in eval mode, without classifier or with one of so many classes.

        An architecture may end with `?size=SIDE`, where the network is built for one size of input.
        """
        ...

    def fixed_size(self, architecture: str) -> tuple[int, int] | None:
        """Height and width of the input that the network is built for; None if it takes any."""
        ...

    def load(self, entry: Entry, path: Path) -> nn.Module:
        """The network with all its weights from `path`; raises CheckpointError if one is missing."""
        ...

    def preprocessing(self, entry: Entry) -> Preprocessing:
        """What the weights expect."""
        ...

    def licence(self, entry: Entry) -> str:
        """The weights' licence, or "unknown"."""
        ...
