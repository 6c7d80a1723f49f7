"""What a training on pairs starts from: a pretrained backbone, nothing, or a published network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regraft.backbones.catalogue import preview
from regraft.backbones.recognise import FileOptions
from regraft.recipes.backbone import prepare_backbone

if TYPE_CHECKING:
    from pathlib import Path
    from types import SimpleNamespace

    from regraft.backbones.backbone import BackboneCard
    from regraft.checkpoints.match_report import MatchReport
    from regraft.models.change.published import Published
    from regraft.models.change.spec import ModelSpec
    from regraft.recipes.listen import Clock, Listener

_INIT, _AS_BIT = "file:", "@bit"


@dataclass(frozen=True)
class Start:
    """What is there before the first step.

    Attributes:
        card: of the backbone.
        weights: its state dict as safetensors, or None for random ones.
        weights_sha256: of the weights, or of the whole checkpoint.
        spec: the network, where the checkpoint says which one.
        published: that checkpoint.
    """

    card: BackboneCard
    weights: Path | None
    weights_sha256: str
    spec: ModelSpec | None = None
    published: Published | None = None

    def told(self, report: MatchReport) -> list[str]:
        """What was taken from the checkpoint, in lines for people."""
        assert self.published is not None
        unused: dict[str, list[str]] = {}
        for name, why in self.published.unused.items():
            unused.setdefault(why, []).append(name)
        left = [f"  not used: {len(names)} tensors such as {names[0]}, {why}" for why, names in unused.items()]
        said = str(report).replace("the backbone's", "the network's")
        return [f"  {said}", *left, *(f"  {note}" for note in self.published.notes)]


def find_start(asked: SimpleNamespace, strategy: str, cache: Path, clock: Clock, listener: Listener) -> Start:
    """What the options say that training starts from.

    Raises:
        RegraftError: the name or the file cannot be used.
    """
    if asked.init is not None:
        return _published(asked, cache, clock)
    if strategy == "scratch":
        with clock.phase("backbone"):
            return Start(_bare(preview(asked.backbone, cache), "none: random first weights", "", ""), None, "none")
    own = FileOptions(asked.part, asked.trust, asked.allow_partial)
    backbone = prepare_backbone(
        asked.backbone, cache, clock, listener, runtime="torch", precision="f32", views="none", options=own
    )
    return Start(backbone.card, backbone.weights, backbone.spaces[0].weights_sha256)


def _published(asked: SimpleNamespace, cache: Path, clock: Clock) -> Start:
    from pathlib import Path

    from regraft.backbones.cards import sha256
    from regraft.models.change.published import load_published
    from regraft.models.change.spec import ModelSpec, NeckOptions

    file = Path(asked.init.removeprefix(_INIT).removesuffix(_AS_BIT))
    with clock.phase("backbone"):
        published = load_published(file, part=asked.part, trust=asked.trust)
        digest = sha256(file)
        card = preview(published.deduced.architecture, cache)
        card = _bare(card, f"{file.name}, a published BIT network", str(file.absolute()), digest)
        spec = ModelSpec("bit", published.deduced.options, NeckOptions(neck="last"))
        return Start(card, None, digest, spec, published)


def _bare(card: BackboneCard, weights: str, file: str, digest: str) -> BackboneCard:
    """The card of a network that has other weights than its zoo publishes, or none."""
    return replace(card, name=card.architecture, weights=weights, weights_file=file, weights_sha256=digest)
