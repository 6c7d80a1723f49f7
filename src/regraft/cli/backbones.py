"""`regraft backbones`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regraft.backbones import catalogue, files
from regraft.backbones.lookup import resolve
from regraft.backbones.recognise import PREFIX
from regraft.cli import terminal
from regraft.errors import BackboneError
from regraft.features.store import cache_folder
from regraft.recipes.backbone import RUN, named

if TYPE_CHECKING:
    from regraft.backbones.backbone import BackboneCard

_SHOWN = 200


def backbones(pattern: str | None = None, /) -> int:
    """List pretrained networks, those that can be used right now first; or take one apart.

    Args:
        pattern: A full name, file:FILE or run:RUN shows that network's stages; anything else lists the names that
            hold it, as in resnet or 'timm/vit*'. Without it, what can be used now is listed.
    """
    cache = cache_folder()
    if pattern is None:
        here = catalogue.available(cache)
        for name in here:
            terminal.line(name)
        terminal.line(
            f"{len(here)} can be used right now. More: regraft backbones 'timm/*', regraft backbones 'torchvision/*'",
            error=True,
        )
        return 0
    if pattern.startswith((PREFIX, RUN)):
        card, _, _ = named(pattern, cache)
        _show(card)
        terminal.line("")
        for line in (*files.told(card), *files.warnings(card)):
            terminal.line(f"  {line}")
        return 0
    if _is_name(pattern, cache):
        card = catalogue.preview(pattern, cache)
        _show(card)
        if not card.weights_file:
            needs = catalogue.needed(pattern, cache)
            terminal.line(f"The weights are not on this machine; training with it would need {needs}.", error=True)
        return 0
    listed = catalogue.names(pattern, cache)
    width = max(len(entry.name) for entry in listed[:_SHOWN])
    for entry in listed[:_SHOWN]:
        terminal.line(f"{entry.name:<{width}}  {'here' if entry.available else 'download'}  {entry.where}")
    if len(listed) > _SHOWN:
        terminal.line(f"... and {len(listed) - _SHOWN} more: narrow the pattern", error=True)
    return 0


def _is_name(pattern: str, cache: Path) -> bool:
    try:
        resolve(pattern, cache)
    except BackboneError:
        return False
    return True


def _show(card: BackboneCard) -> None:
    prep = card.preprocessing
    terminal.line(f"{card.name}: {card.feature_dim} features, {card.parameters:,} parameters")
    terminal.line(f"  weights        {card.weights} ({card.licence}), {card.weights_file or 'not here'}")
    terminal.line(f"  network        {card.architecture}, " + ", ".join(f"{n} {v}" for n, v in card.versions.items()))
    terminal.line(f"  preprocessing  {prep.sentence()}")
    terminal.line("")
    names = max(5, *(len(stage.name) for stage in card.stages))
    kinds = max(4, *(len(stage.kind) for stage in card.stages))
    terminal.line(f"  {'stage':<{names}}  {'kind':<{kinds}}  {'output of one image':<20} {'parameters':>12}")
    for stage in card.stages:
        shape = "x".join(map(str, stage.shape))
        terminal.line(f"  {stage.name:<{names}}  {stage.kind:<{kinds}}  {shape:<20} {stage.parameters:>12,}")
