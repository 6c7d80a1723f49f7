"""Cards on the disk: valid only while the weights file and all code that made the card are the same."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote

from regraft.backbones.backbone import BackboneCard
from regraft.backbones.index import code_version, read_json, versions, write_json
from regraft.errors import CheckpointError

_CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def weights_sha256(path: Path) -> str:
    """Hash of a weights file; of an index of several, one of all their bytes.

    Raises:
        CheckpointError: an index that cannot be read.
    """
    if path.suffix != ".json":
        return sha256(path)
    from regraft.checkpoints.containers.index import files

    return hashlib.sha256("".join(map(sha256, files(path))).encode()).hexdigest()


def read_card(asked: str, cache: Path) -> BackboneCard | None:
    """The card kept for a name, or None if there is none that can be believed.

    Rereads the whole weights file to hash it (about 1.5 GB/s).
    """
    kept = read_json(_path(asked, cache))
    if not kept or kept.get("asked") != asked or kept.get("code") != code_version():
        return None
    try:
        card = BackboneCard.from_dict(kept["card"])
        same = (
            card.versions == versions(card.versions) and weights_sha256(Path(card.weights_file)) == card.weights_sha256
        )
    except (KeyError, TypeError, ValueError, OSError, AttributeError, CheckpointError):
        return None
    return card if same else None


def write_card(asked: str, card: BackboneCard, cache: Path) -> None:
    """Keep a card under the name that was asked for and under its own full name."""
    for name in {asked, card.name}:
        keep_card(name, card, cache)


def keep_card(asked: str, card: BackboneCard, cache: Path) -> None:
    """Keep a card under one name."""
    write_json(_path(asked, cache), {"asked": asked, "code": code_version(), "card": card.to_dict()})


def _path(name: str, cache: Path) -> Path:
    return cache / "cards" / f"{quote(name, safe='', errors='surrogateescape')}.json"
