"""The bundle: one folder that tells everything about a model and predicts wherever it is copied.

    bundle/
      bundle.json            classes, preprocessing, backbone card, head, strategy, data hash, metrics, versions
      head.safetensors       the head's arrays
      backbone.safetensors   the backbone's weights (absent where features came from a file)

Reading never runs code from the folder: safetensors and JSON only, each file checked against its hash.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft import heads
from regraft.backbones.backbone import Backbone, BackboneCard
from regraft.backbones.cards import sha256
from regraft.errors import BundleError

if TYPE_CHECKING:
    from regraft.heads.head import Head

FORMAT = 1
_HEAD, _BACKBONE, _FACTS = "head.safetensors", "backbone.safetensors", "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A trained model.

    Attributes:
        classes: the K class names; position is class index.
        head: features (N, D) -> logits (N, K).
        card: the backbone, or None where features came from a file.
        views: "none" or "flip".
        precision: "f32" or "bf16".
        runtime: "openvino" or "torch": what the features were computed with.
        feature_dim: D.
        facts: strategy, data, metrics, versions: JSON values for people and programs.
        folder: where the bundle was read from, or None before it is written.
        state_sha256: hash of its backbone.safetensors, once read.
    """

    classes: tuple[str, ...]
    head: Head
    card: BackboneCard | None
    views: str
    precision: str
    runtime: str
    feature_dim: int
    facts: dict[str, Any]
    folder: Path | None = None
    state_sha256: str | None = None

    def build(self) -> Backbone:
        """The backbone with this bundle's own weights, as torch builds it.

        Raises:
            BundleError: the bundle has no backbone.
            CheckpointError: its weights do not fit the architecture of the installed zoo.
        """
        if self.card is None or self.folder is None:
            raise BundleError("this bundle was trained on a feature file and has no backbone: give it features")
        from regraft.backbones.catalogue import build_module
        from regraft.checkpoints.match import match, require
        from regraft.checkpoints.read import read_state_dict

        module = build_module(self.card.architecture)
        require(match(read_state_dict(self.folder / _BACKBONE), module), 1.0)
        return Backbone(self.card, module)


def write_bundle(bundle: Bundle, folder: Path, weights: Path | None) -> None:
    """Write a bundle into a new folder (inside a run that is itself written atomically).

    Args:
        bundle: what to write.
        folder: a folder that does not exist yet.
        weights: the backbone's state dict as safetensors; copied.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file(bundle.head.arrays(), folder / _HEAD)
    files = [_HEAD]
    if weights is not None:
        shutil.copyfile(weights, folder / _BACKBONE)
        files.append(_BACKBONE)
    content = {
        "format": FORMAT,
        "classes": list(bundle.classes),
        "head": {"name": bundle.head.name, "settings": bundle.head.settings()},
        "backbone": None if bundle.card is None else bundle.card.to_dict(),
        "views": bundle.views,
        "precision": bundle.precision,
        "runtime": bundle.runtime,
        "feature_dim": bundle.feature_dim,
        "facts": bundle.facts,
        "sha256": {name: sha256(folder / name) for name in files},
    }
    (folder / _FACTS).write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n", "utf-8")


def read_bundle(place: Path) -> Bundle:
    """Read a bundle, from its own folder or from a run that holds one.

    Raises:
        BundleError: no bundle there, one of another format, or one whose files do not match their hashes.
    """
    folder = place / "bundle" if (place / "bundle" / _FACTS).is_file() else place
    if not (folder / _FACTS).is_file():
        raise BundleError(
            f"{place} holds no bundle. Expected a run (as `regraft train` leaves it) or its `bundle` folder."
        )
    try:
        content = json.loads((folder / _FACTS).read_text("utf-8"))
        if content["format"] != FORMAT:
            raise BundleError(
                f"{folder} is of bundle format {content['format']}; this Regraft reads {FORMAT}. Install a newer one."
            )
        _check_files(folder, content["sha256"])
        return _assemble(folder, content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder} is damaged ({type(error).__name__}: {error}). Copy it again.") from error


def _check_files(folder: Path, hashes: dict[str, str]) -> None:
    for name, expected in hashes.items():
        if name not in {_HEAD, _BACKBONE}:
            raise BundleError(f"{folder}: bundle.json names a file {name!r} that does not belong in a bundle")
        if not (folder / name).is_file():
            raise BundleError(f"{folder} is incomplete: {name} is missing. Copy the whole folder.")
        if sha256(folder / name) != expected:
            raise BundleError(f"{folder}: {name} was changed or damaged after it was written. Copy it again.")


def _assemble(folder: Path, content: dict[str, Any]) -> Bundle:
    from safetensors.numpy import load_file

    card = content["backbone"]
    return Bundle(
        classes=tuple(content["classes"]),
        head=heads.load(content["head"]["name"], load_file(folder / _HEAD), content["head"]["settings"]),
        card=None if card is None else BackboneCard.from_dict(card),
        views=content["views"],
        precision=content["precision"],
        runtime=content["runtime"],
        feature_dim=content["feature_dim"],
        facts=content["facts"],
        folder=folder,
        state_sha256=content["sha256"].get(_BACKBONE),
    )
