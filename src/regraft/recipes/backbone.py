"""The backbone that the user named: of the catalogue, from a file of their own, or from a run."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.backbones import catalogue, files
from regraft.backbones.backbone import Backbone
from regraft.backbones.lookup import resolve, zoo_of
from regraft.backbones.recognise import DEFAULTS, PREFIX, split_name
from regraft.backbones.stages import stages
from regraft.errors import BundleError, OptionError
from regraft.features.frozen import frozen
from regraft.inference.bundle import read_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from regraft.backbones.backbone import BackboneCard
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


def prepare_backbones(
    name: str,
    cache: Path,
    clock: Clock,
    listener: Listener,
    *,
    runtime: str,
    precision: str,
    views: str,
    options: FileOptions = DEFAULTS,
) -> tuple[Frozen, ...]:
    """The backbones of a name such as `a+b`, each as `prepare_backbone` makes it.

    Raises:
        RegraftError: as `prepare_backbone`; or one is named twice.
    """
    names = [one for part in backbone_names(name) for one in _expanded(part)]
    twice = next((one for n, one in enumerate(names) if one in names[:n]), None)
    if twice is not None:
        raise OptionError(f"backbone {name!r} names {twice} twice; its features would only stand there twice")
    if len(names) > 1 and options != DEFAULTS and not any(one.startswith(PREFIX) for one in names):
        # Options of a file are of the one file among them; a size is of all.
        _only_for_files(options, names[0])
    return tuple(
        prepare_backbone(
            one,
            cache,
            clock,
            listener,
            runtime=runtime,
            precision=precision,
            views=views,
            options=options if len(names) == 1 or one.startswith(PREFIX) else replace(DEFAULTS, size=options.size),
        )
        for one in names
    )


def backbone_names(name: str) -> list[str]:
    """The names in `a+b+c`; a plus that belongs to the path of a file or run stays where it is.

    Raises:
        OptionError: an empty name.
    """
    if not isinstance(name, str):
        raise OptionError(f"backbone is {name!r}; expected a name, or several with a plus between them, such as a+b")
    names: list[str] = []
    rest = name.split("+")
    while rest:
        length = 1
        if rest[0].startswith((PREFIX, RUN)):
            lengths = range(1, len(rest) + 1)
            length = next((n for n in lengths if _is_there("+".join(rest[:n]))), 1)
        names.append("+".join(rest[:length]).strip())
        rest = rest[length:]
    if not all(names):
        raise OptionError(f"backbone {name!r} has an empty name; expected one name, or several such as a+b")
    return names


def check_names(names: Iterable[str], cache: Path) -> None:
    """Refuse a name that the catalogue does not know; what it knows may still be unusable here.

    Raises:
        BackboneError: it is unknown; the message gives close matches.
        OptionError: an empty name.
    """
    for name in dict.fromkeys(part for whole in names for part in backbone_names(whole)):
        if not name.startswith((PREFIX, RUN)):
            resolve(name, cache)


def _is_there(name: str) -> bool:
    place = split_name(name)[0] if name.startswith(PREFIX) else _place_of_run(name)[0]
    return place.exists()


def short_name(name: str) -> str:
    """For the name of a run's folder: a file's or run's own name without its place."""
    if len(names := backbone_names(name)) > 1:
        return "+".join(map(short_name, names))
    if name.startswith(PREFIX):
        return split_name(name)[0].stem
    return Path(name.removeprefix(RUN)).name if name.startswith(RUN) else name


def absolute_name(name: str) -> str:
    """The same backbone by a name that holds in any folder."""
    if len(names := backbone_names(name)) > 1:
        return "+".join(map(absolute_name, names))
    if name.startswith(PREFIX):
        path, architecture = split_name(name)
        return f"{PREFIX}{path.absolute()}{f'@{architecture}' if architecture else ''}"
    return f"{RUN}{Path(name.removeprefix(RUN)).expanduser().absolute()}" if name.startswith(RUN) else name


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
    _only_for_files(options, name)
    if name.startswith(RUN):
        card, build, state_sha256 = _of_run(name)
    else:
        (card, build), state_sha256 = catalogue.card_and_builder(name, cache), None
    if options.size is not None and card.preprocessing.size != (options.size, options.size):
        card, build = _at_size(card, build, options.size)
    return card, build, state_sha256


def _only_for_files(options: FileOptions, name: str) -> None:
    """Refuse what is said of a file beside a name that is none; a size is for all."""
    bare = replace(options, size=None)
    given = [field for field in options.__slots__ if getattr(bare, field) != getattr(DEFAULTS, field)]
    if given:
        flags = ", ".join(f"--{field.replace('_', '-')}" for field in given)
        raise OptionError(f"{flags}: only for a file of your own, --backbone file:FILE, not for {name!r}")


def _at_size(
    card: BackboneCard, build: Callable[[], Backbone], side: int
) -> tuple[BackboneCard, Callable[[], Backbone]]:
    """The backbone for inputs of another size; what is resized before the crop keeps its proportion to it."""
    zoo = zoo_of(card.architecture)
    if zoo is not None and zoo.fixed_size(card.architecture) is not None:
        raise OptionError(
            f"size {side}: {card.name} is built for images of {card.preprocessing.size[0]} pixels. Choose a network"
            " that takes any size, such as a convolutional one."
        )
    before = card.preprocessing
    frame = round(before.resize * side / min(before.size))
    preprocessing = replace(before, size=(side, side), resize=max(side, frame))
    made = build()
    try:
        parts, _ = stages(made.module, (side, side))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise OptionError(
            f"size {side}: {card.name} does not take images of that size ({str(error).splitlines()[0][:150]})"
        ) from error
    card = replace(card, preprocessing=preprocessing, stages=parts)
    return card, lambda: Backbone(card, made.module)


def _of_run(name: str) -> tuple[BackboneCard, Callable[[], Backbone], str | None]:
    """The backbone of a run; of one with several, that whose number stands after a hash, counted from 1."""
    place, number = _place_of_run(name)
    bundle = read_bundle(place)
    if not bundle.cards:
        raise BundleError(
            f"{place} was trained on a feature file and has no backbone. Name a run that was trained on images."
        )
    if number > len(bundle.cards):
        raise BundleError(f"{place} has {len(bundle.cards)} backbones ({bundle.backbone}); there is no number {number}")
    # Whoever looks at the new run must see where its backbone came from, not only what that one was made of.
    own = f"{RUN}{place.absolute()}" + (f"#{number}" if len(bundle.cards) > 1 else "")
    build = functools.partial(bundle.build, number - 1)
    return replace(bundle.cards[number - 1], name=own), build, bundle.states[number - 1]


def _place_of_run(name: str) -> tuple[Path, int]:
    """The folder that `run:FOLDER` or `run:FOLDER#2` names, and the number."""
    text = name.removeprefix(RUN)
    place = Path(text).expanduser()
    body, hash_sign, number = text.rpartition("#")
    if not place.exists() and hash_sign and number.isdecimal() and int(number) >= 1:
        return Path(body).expanduser(), int(number)
    return place, 1


def _expanded(name: str) -> list[str]:
    """A run of several backbones stands for all of them."""
    if not name.startswith(RUN):
        return [name]
    place = Path(name.removeprefix(RUN)).expanduser()
    count = len(read_bundle(place).cards) if place.exists() else 0
    return [f"{name}#{number + 1}" for number in range(count)] if count > 1 else [name]
