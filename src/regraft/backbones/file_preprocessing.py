"""What the images must look like for the network of a person's own file: as far as it is known, and from where."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from regraft.backbones.index import code_version, read_json, versions, write_json
from regraft.backbones.lookup import entries_of
from regraft.backbones.preprocessing import Preprocessing
from regraft.backbones.recognise import PREPROCESSING
from regraft.errors import CheckpointError, OptionError

if TYPE_CHECKING:
    from regraft.backbones.recognise import FileOptions, Recognised
    from regraft.backbones.zoo import Entry, Zoo

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SIDE, _CROP = 224, 0.875


def preprocessing_of(found: Recognised, cache: Path, options: FileOptions) -> tuple[Zoo, Preprocessing, str]:
    """The zoo that builds the network, what its input must look like, and where that is known from."""
    zoo, entries = entries_of(found.architecture, cache)
    stem = found.checkpoint.path.stem
    told = [entry for entry in entries if entry.name == found.weights]
    named = told or [entry for entry in entries if stem in {Path(entry.url).stem, entry.name.rpartition("/")[2]}]
    if saved := found.checkpoint.metadata.get(PREPROCESSING):
        base, source = _saved(found.checkpoint.path, saved), "as the file itself says"
    elif entries:
        entry = (named or entries)[0]
        base = published(zoo, entry, cache)
        source = f"of {entry.name}" + ("" if named else ", assumed: --mean, --std, --size say otherwise")
    else:
        base = usual_preprocessing()
        source = "of ImageNet, assumed: --mean, --std, --size say otherwise"
    seen = found.identity.input_size if found.identity else None
    side = options.size or (seen[0] if seen and seen[0] == seen[1] else None)
    base = base if side is None else resized(base, side)
    base = replace(base, mean=options.mean or base.mean, std=options.std or base.std)
    said = [flag for flag in ("mean", "std", "size") if getattr(options, flag) is not None]
    return zoo, base, source + (f"; {', '.join(said)} as given" if said else "")


def published(zoo: Zoo, entry: Entry, cache: Path) -> Preprocessing:
    """What published weights expect; kept in `cache`, since asking their zoo means importing it (seconds)."""
    stamp = {"code": code_version(), **versions(zoo.DISTRIBUTIONS)}
    path = cache / "cards" / f"preprocessing-{quote(entry.name, safe='')}.json"
    if (kept := read_json(path)) and kept.get("stamp") == stamp:
        return Preprocessing.from_dict(kept["preprocessing"])
    found = zoo.preprocessing(entry)
    write_json(path, {"stamp": stamp, "preprocessing": found.to_dict()})
    return found


def _saved(path: Path, text: str) -> Preprocessing:
    try:
        return Preprocessing.from_dict(json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError, OptionError) as error:
        raise CheckpointError(f"{path}: what it says of its preprocessing cannot be read ({error}).") from error


def usual_preprocessing() -> Preprocessing:
    """The usual evaluation transform, ImageNet's, where nothing else is known."""
    mean, std = _IMAGENET
    return Preprocessing((_SIDE, _SIDE), math.floor(_SIDE / _CROP), "shorter", "bilinear", mean, std)


def resized(base: Preprocessing, side: int) -> Preprocessing:
    """The same transform for a square input of another side, in the same proportions."""
    if base.size == (side, side):
        return base
    return replace(base, size=(side, side), resize=max(side, round(base.resize * side / min(base.size))))
