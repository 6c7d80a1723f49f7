"""Which names the zoos know, kept as JSON so that listing and resolving need not import torch (seconds)."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.atomic import write_text
from regraft.backbones.zoo import Entry
from regraft.errors import CannotWrite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regraft.backbones.zoo import Zoo

_LOG = logging.getLogger(__name__)


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of installed packages by their metadata; nothing is imported."""
    return {name: _version(name) for name in distributions}


@cache
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


@cache
def code_version() -> str:
    """A hash of the code that makes cards and lists, so that what an older Regraft kept is not believed."""
    here = Path(__file__).parent
    rooms = (here, here.parent / "checkpoints")
    files = [path for room in rooms for kind in ("*.py", "*.xz") for path in room.rglob(kind)]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def zoo_entries(zoo: Zoo, cache_folder: Path) -> list[Entry]:
    """All that a zoo offers; from `cache_folder` if the zoo's version has been listed before."""
    stamp = {"code": code_version(), **versions(zoo.DISTRIBUTIONS)}
    path = cache_folder / "cards" / f"index-{zoo.NAME}.json"
    if (kept := read_json(path)) and kept.get("stamp") == stamp:
        return [Entry(**values) for values in kept["entries"]]
    entries = list(zoo.entries())
    write_json(path, {"stamp": stamp, "entries": [asdict(entry) for entry in entries]})
    return entries


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if the file is missing, damaged or anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Keep a JSON object for the next time; a cache that cannot be written only costs time."""
    try:
        write_text(path, json.dumps(values))
    except (OSError, CannotWrite) as error:
        _LOG.warning("%s could not be written: %s", path, error)
