"""The backbone that the user named: of the catalogue, from a file of their own, or from a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.backbones import catalogue, files
from regraft.backbones.recognise import DEFAULTS, PREFIX, split_name
from regraft.errors import BundleError, OptionError
from regraft.features.frozen import frozen
from regraft.inference.bundle import read_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from regraft.backbones.backbone import Backbone, BackboneCard
    from regraft.backbones.recognise import FileOptions
    from regraft.features.frozen import Frozen
    from regraft.recipes.listen import Clock, Listener

RUN = "run:"


def prepare_backbone(
    name: str,
    cache: Path,
    clock: Clock,
    listener: Listener,
    *,
    runtime: str,
    precision: str,
    views: str,
    options: FileOptions = DEFAULTS,
) -> Frozen:
    """A named backbone, frozen and ready; converts it the first time.

    Args:
        name: of the catalogue, `file:FILE[@ARCHITECTURE]` or `run:RUN`.
        cache: the product's cache folder.
        clock: counts the time.
        listener: is told what was found.
        runtime: as in `features.frozen`.
        precision: likewise.
        views: likewise.
        options: how a file is to be taken.

    Raises:
        RegraftError: the name, the file or the run cannot be used.
    """
    with clock.phase("backbone"):
        card, build, state_sha256 = named(name, cache, options)
        ready = frozen(card, build, cache, runtime=runtime, precision=precision, views=views, state_sha256=state_sha256)
    listener.say(
        f"backbone {card.name}: {card.feature_dim} features, {card.parameters / 1e6:.1f} M parameters,"
        f" {ready.spaces[0].runtime} {ready.spaces[0].precision}"
        + (", each image and its mirror image" if len(ready.spaces) > 1 else "")
    )
    for line in files.told(card):
        listener.say(f"  {line}")
    for warning in files.warnings(card):
        listener.warn(warning)
    for note in ready.notes:
        listener.say(f"  {note}")
    return ready


def short_name(name: str) -> str:
    """For the name of a run's folder: a file's or run's own name without its place."""
    if name.startswith(PREFIX):
        return split_name(name)[0].stem
    return Path(name.removeprefix(RUN)).name if name.startswith(RUN) else name


def named(
    name: str, cache: Path, options: FileOptions = DEFAULTS
) -> tuple[BackboneCard, Callable[[], Backbone], str | None]:
    """The card of a backbone, what builds it, and the hash of the weights that a run brings.

    Args:
        name: as in `prepare_backbone`.
        cache: the product's cache folder.
        options: how a file is to be taken.

    Raises:
        RegraftError: the name, the file or the run cannot be used.
    """
    if name.startswith(PREFIX):
        return *files.card_and_builder(name, cache, options), None
    if options != DEFAULTS:
        given = [field for field in options.__slots__ if getattr(options, field) != getattr(DEFAULTS, field)]
        flags = ", ".join(f"--{field.replace('_', '-')}" for field in given)
        raise OptionError(f"{flags}: only for a file of your own, --backbone file:FILE, not for {name!r}")
    if name.startswith(RUN):
        return _of_run(Path(name.removeprefix(RUN)).expanduser())
    return *catalogue.card_and_builder(name, cache), None


def _of_run(place: Path) -> tuple[BackboneCard, Callable[[], Backbone], str | None]:
    bundle = read_bundle(place)
    if bundle.card is None:
        raise BundleError(
            f"{place} was trained on a feature file and has no backbone. Name a run that was trained on images."
        )
    # Whoever looks at the new run must see where its backbone came from, not only what that one was made of.
    return replace(bundle.card, name=f"{RUN}{place.absolute()}"), bundle.build, bundle.state_sha256
