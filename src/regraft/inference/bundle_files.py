"""The files of a bundle: bundle.json, which says what the others are and what their bytes hash to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from regraft.backbones.cards import sha256
from regraft.errors import BundleError
from regraft.inference.checks import SELF, content_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FORMAT, CHANGE_FORMAT = 2, 3
_READ = (1, 2, 3)  # format 1 had one backbone or none
FACTS = "bundle.json"


def weights_name(position: int) -> str:
    """The name of the file with the weights of a bundle's backbone, counted from 0."""
    return "backbone.safetensors" if position == 0 else f"backbone-{position + 1}.safetensors"


def bundle_folder(place: Path) -> Path:
    """The folder with bundle.json: that of a run, or `place` itself.

    Raises:
        BundleError: neither has one.
    """
    folder = place / "bundle" if (place / "bundle" / FACTS).is_file() else place
    if not place.exists():
        raise BundleError(
            f"{place} does not exist. Expected a run (as `regraft train` leaves it) or its `bundle` folder."
        )
    if not (folder / FACTS).is_file():
        raise BundleError(
            f"{place} holds no bundle. Expected a run (as `regraft train` leaves it) or its `bundle` folder."
        )
    return folder


def damaged(folder: Path, what: str) -> BundleError:
    """The error that says so."""
    return BundleError(f"{folder} is damaged: {what}. Copy it again.")


def write_facts(content: dict[str, Any], folder: Path, files: Iterable[str]) -> None:
    """Write bundle.json, with the hashes of the other files and of itself."""
    whole = {**content, "sha256": {name: sha256(folder / name) for name in files}}
    whole[SELF] = content_sha256(whole)
    (folder / FACTS).write_text(json.dumps(whole, indent=1, ensure_ascii=True) + "\n", "utf-8")


def read_facts(folder: Path) -> dict[str, Any]:
    """The content of bundle.json, of a known format and unchanged since it was written.

    Raises:
        BundleError: it is not so.
    """
    try:
        content = json.loads((folder / FACTS).read_text("utf-8"))
    except OSError as error:
        raise BundleError(f"{folder / FACTS} cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise damaged(folder, f"{FACTS} is not JSON") from error
    if type(content) is not dict or type(content.get("format")) is not int:
        raise damaged(folder, f"{FACTS} does not say which format it has")
    if content["format"] not in _READ:
        raise BundleError(
            f"{folder} is of bundle format {content['format']}; this Regraft reads up to {max(_READ)}. Install a newer"
            " one."
        )
    if content.get(SELF) != content_sha256(content):
        raise damaged(folder, f"{FACTS} was changed after it was written")
    return content


def check_files(folder: Path, hashes: dict[str, Any], needed: set[str]) -> None:
    """Refuse files that are missing, that bundle.json does not know, or that have changed.

    Raises:
        BundleError: naming the file.
    """
    for name in sorted(hashes.keys() - needed):
        raise BundleError(f"{folder}: bundle.json names a file {name!r} that does not belong in this bundle")
    for name in sorted(needed):
        if name not in hashes:
            raise damaged(folder, f"{FACTS} has no checksum of {name}")
        if not (folder / name).is_file():
            raise BundleError(f"{folder} is incomplete: {name} is missing. Copy the whole folder.")
        try:
            found = sha256(folder / name)
        except OSError as error:
            raise BundleError(f"{folder / name} cannot be read ({error.strerror or error}).") from error
        if found != hashes[name]:
            raise BundleError(f"{folder}: {name} was changed or damaged after it was written. Copy it again.")
