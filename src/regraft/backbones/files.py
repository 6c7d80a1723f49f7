"""Backbones from a person's own file: `file:FILE` or `file:FILE@ARCHITECTURE`.

The file is read safely, its architecture recognised (or taken as named, or as a file that Regraft converted says),
the network built and filled, and everything that was found is kept in the card: how names were matched, what was
adapted, what is missing, where the preprocessing comes from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.backbones.backbone import Backbone, BackboneCard
from regraft.backbones.cards import keep_card, read_card, weights_sha256
from regraft.backbones.file_preprocessing import preprocessing_of
from regraft.backbones.index import versions
from regraft.backbones.recognise import DEFAULTS, PREFIX, FileOptions, recognise, split_name
from regraft.backbones.stages import stages
from regraft.checkpoints.match_report import percent
from regraft.errors import BackboneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from regraft.backbones.identify import Guess
    from regraft.backbones.preprocessing import Preprocessing
    from regraft.backbones.zoo import Zoo

_SHOWN = 3


def card_and_builder(
    name: str, cache: Path, options: FileOptions = DEFAULTS
) -> tuple[BackboneCard, Callable[[], Backbone]]:
    """The card of a backbone from a file, and what builds it; what was found before is read from `cache`.

    Args:
        name: `file:FILE` or `file:FILE@ARCHITECTURE`.
        cache: the product's cache folder.
        options: how the file is to be taken.

    Raises:
        CheckpointError: the file cannot be read, or fills less than `options.allow_partial` of the network.
        BackboneError: the architecture is unknown, or could not be recognised.
    """
    options.check()
    path, architecture = split_name(name)
    how = hashlib.sha256(repr((str(path.absolute()), options)).encode("utf-8", "surrogateescape")).hexdigest()
    asked = f"{PREFIX}{how[:32]}@{architecture}"  # a path can be longer than the name of a file in the cache
    known = read_card(asked, cache)
    if known is not None:
        return known, lambda: _load(path, architecture, cache, options)
    made = _load(path, architecture, cache, options)
    keep_card(asked, made.card, cache)
    return made.card, lambda: made


def _load(path: Path, architecture: str, cache: Path, options: FileOptions) -> Backbone:
    """Read, recognise, build and fill; the card tells all of it."""
    from regraft.checkpoints.match import match
    from regraft.checkpoints.read import read_checkpoint, weights_file

    if (path / "bundle.json").is_file() or (path / "bundle" / "bundle.json").is_file():
        raise BackboneError(f"{path} is a run or its bundle, not a weights file: name it as run:{path}.")
    found = recognise(read_checkpoint(path, part=options.part, trust=options.trust), architecture, cache)
    zoo, preprocessing, source = preprocessing_of(found, cache, options)
    network = sized(found.architecture, zoo, preprocessing.size)
    module = seeded(lambda: zoo.build_module(network))
    report = match(
        found.checkpoint.state_dict,
        module,
        allow_partial=options.allow_partial,
        head=(),
    )
    parts, output = _looked_at(module, preprocessing, path)
    file = weights_file(path)
    card = BackboneCard(
        name=f"{PREFIX}{path.absolute()}@{network}",
        architecture=network,
        weights=f"{path.name}{f', part {part}' if (part := found.checkpoint.part.name) else ''}",
        weights_file=str(file.absolute()),
        weights_sha256=weights_sha256(file),
        licence="unknown",
        preprocessing=preprocessing,
        feature_dim=output[0],
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        stages=parts,
        versions=versions(zoo.DISTRIBUTIONS),
        checkpoint={
            "container": found.checkpoint.container,
            "part": found.checkpoint.part.name,
            "recognised": found.why,
            "certainty": found.certainty,
            "preprocessing": source,
            "match": report.to_json(),
            "notes": list(found.checkpoint.notes),
        },
    )
    return Backbone(card, module)


def told(card: BackboneCard) -> list[str]:
    """What was found in a file, as lines for the user."""
    facts = card.checkpoint
    if not facts:
        return []
    matched = facts["match"]
    part = f", part {facts['part']}" if facts["part"] else ""
    lines = [
        f"{facts['container']}{part}: {facts['recognised']}",
        f"{percent(matched['share'])} of {matched['parameters']:,} parameters loaded {matched['how']}",
    ]
    lines += [
        f"  {stage}: {loaded:,} of {size:,}" for stage, (loaded, size) in matched["stages"].items() if loaded < size
    ]
    changes = sorted(set(matched["adapted"].values()))
    if changes:
        lines.append(f"adapted: {'; '.join(changes[:_SHOWN])}{' and more' if len(changes) > _SHOWN else ''}")
    lines.append(f"preprocessing: {card.preprocessing.sentence()} ({facts['preprocessing']})")
    return lines + [str(note) for note in [*facts["notes"], *matched["notes"]]]


def warnings(card: BackboneCard) -> list[str]:
    """What the user should act on: parts of the network that no file filled, an architecture that is a guess."""
    facts = card.checkpoint
    if not facts:
        return []
    said = [
        f"{len(names)} tensors of the network are {key} in the file, such as {names[0]}: they are left as initialised"
        for key in ("mismatched", "missing")
        if (names := list(facts["match"][key]))
    ]
    if facts["certainty"] == "ambiguous":
        said.append(f"{facts['recognised']} To choose between them: --backbone file:FILE@ARCHITECTURE")
    return said


def sized(architecture: str, zoo: Zoo, size: tuple[int, int]) -> str:
    """The architecture, with the input's side where the network is built for one and this is another."""
    fixed = zoo.fixed_size(architecture)
    if fixed is None or fixed == size:
        return architecture
    return f"{architecture.partition('?')[0]}?size={size[0]}"


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network so that what a file does not fill is the same random numbers each time."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def _looked_at(module: nn.Module, preprocessing: Preprocessing, path: Path) -> tuple[Any, tuple[int, ...]]:
    try:
        parts, output = stages(module, preprocessing.size)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BackboneError(
            f"{path}: the network does not take images of {preprocessing.size[0]} x {preprocessing.size[1]} pixels"
            f" ({str(error).splitlines()[0][:150]}). Choose another --size."
        ) from error
    if len(output) != 1:
        raise BackboneError(f"{path}: the network gives an output of shape {output}, not a row of features.")
    return parts, output


def describe(guess: Guess) -> str:
    """One guess in a line."""
    same = f" = {', '.join(guess.same_as)}" if guess.same_as else ""
    return (
        f"{guess.architecture}{same} ({guess.family}, {guess.depth} weight layers, {guess.width} features;"
        f" {percent(guess.share)} of its parameters, {guess.naming})"
    )
