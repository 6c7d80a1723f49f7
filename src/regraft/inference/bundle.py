"""The bundle: one folder that tells everything about a model and predicts wherever it is copied.

    bundle/
      bundle.json            classes, preprocessing, backbone card, head, strategy, data hash, metrics, versions
      head.safetensors       the head's arrays
      backbone.safetensors   the backbone's weights (absent where features came from a file); of several backbones
                             whose features stand side by side, backbone.safetensors, backbone-2.safetensors, ...
      guard.safetensors      what tells images unlike the training images (absent where that is not known)

Reading never runs code from the folder: safetensors and JSON only, each file checked against its hash, which
bundle.json holds beside its own.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft import heads
from regraft.backbones.backbone import Backbone
from regraft.errors import BundleError
from regraft.inference.bundle_files import (
    CHANGE_FORMAT,
    FACTS,
    FORMAT,
    bundle_folder,
    check_files,
    damaged,
    read_facts,
    weights_name,
    write_facts,
)
from regraft.inference.checks import head_fits, read_card, wrong_with
from regraft.inference.guard import Guard, read_guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regraft.backbones.backbone import BackboneCard
    from regraft.heads.head import Head

FEATURES_ONLY = (
    "This model was trained on a feature file and has no backbone, so it cannot look at images; it can only be "
    "evaluated on feature files: regraft evaluate MODEL --features FILE"
)
_HEAD, _GUARD = "head.safetensors", "guard.safetensors"


@dataclass(frozen=True, repr=False)
class Bundle:
    """A trained model.

    Attributes:
        classes: the K class names; position is class index.
        head: features (N, D) -> logits (N, K).
        cards: the backbones, whose features stand side by side; none where features came from a file.
        views: "none" or "flip".
        precision: "f32" or "bf16".
        runtime: "openvino" or "torch": what the features were computed with.
        feature_dim: D.
        facts: strategy, data, metrics, versions: JSON values for people and programs.
        folder: where the bundle was read from, or None before it is written.
        states: hashes of the backbones' weights, once read.
        guard: what it says beside its answers.
    """

    classes: tuple[str, ...]
    head: Head
    cards: tuple[BackboneCard, ...]
    views: str
    precision: str
    runtime: str
    feature_dim: int
    facts: dict[str, Any]
    folder: Path | None = None
    states: tuple[str, ...] = ()
    guard: Guard = field(default_factory=Guard)

    def __repr__(self) -> str:
        """One line; weights and facts are too long to print."""
        backbone = self.backbone or "a feature file"
        folder = "" if self.folder is None else f", {str(self.folder)!r}"
        return f"Bundle({self.head.name} on {backbone}, {len(self.classes)} classes{folder})"

    @property
    def backbone(self) -> str | None:
        """The backbone's name, or several with a plus between them; None where features came from a file."""
        return "+".join(card.name for card in self.cards) or None

    def build(self, position: int = 0) -> Backbone:
        """A backbone with this bundle's own weights, as torch builds it.

        Args:
            position: which of several.

        Raises:
            BundleError: the bundle has no backbone.
            CheckpointError: its weights do not fit the architecture of the installed zoo.
        """
        if not self.cards or self.folder is None:
            raise BundleError(FEATURES_ONLY)
        card = self.cards[position]
        from regraft.backbones.catalogue import build_module
        from regraft.checkpoints.match import match
        from regraft.checkpoints.read import read_state_dict

        module = build_module(card.architecture)
        match(read_state_dict(self.folder / weights_name(position)), module, allow_partial=1, head=())
        return Backbone(card, module)


def write_bundle(bundle: Bundle, folder: Path, weights: Sequence[Path]) -> None:
    """Write a bundle into a new folder (inside a run that is itself written atomically).

    Args:
        bundle: what to write.
        folder: a folder that does not exist yet.
        weights: each backbone's state dict as safetensors; copied.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    # safetensors writes memory as it lies: a transposed array would come back with its numbers in another order.
    save_file({name: np.ascontiguousarray(array) for name, array in bundle.head.arrays().items()}, folder / _HEAD)
    files = [_HEAD]
    for position, file in enumerate(weights):
        shutil.copyfile(file, folder / weights_name(position))
        files.append(weights_name(position))
    if bundle.guard.arrays():
        save_file(bundle.guard.arrays(), folder / _GUARD)
        files.append(_GUARD)
    content: dict[str, Any] = {
        "format": FORMAT,
        "classes": list(bundle.classes),
        "head": {"name": bundle.head.name, "settings": bundle.head.settings()},
        "backbones": [card.to_dict() for card in bundle.cards],
        "views": bundle.views,
        "precision": bundle.precision,
        "runtime": bundle.runtime,
        "feature_dim": bundle.feature_dim,
        "facts": bundle.facts,
        "guard": bundle.guard.settings(),
    }
    write_facts(content, folder, files)


def read_bundle(place: Path) -> Bundle:
    """Read a bundle, from its own folder or from a run that holds one.

    Raises:
        BundleError: no bundle there, one of another format, or one that was changed or damaged after it was
            written, in its files or in what bundle.json says of them.
    """
    folder = bundle_folder(place)
    content = _read_facts(folder)
    needed = {_HEAD, *map(weights_name, range(len(content["backbones"])))}
    if (content.get("guard") or {}).get("familiar") is not None:
        needed.add(_GUARD)
    check_files(folder, content["sha256"], needed)
    return _assemble(folder, content)


def _read_facts(folder: Path) -> dict[str, Any]:
    """The content of bundle.json, of this format, unchanged since it was written, and with everything in it."""
    content = read_facts(folder)
    if content["format"] == CHANGE_FORMAT:
        raise BundleError(
            f"{folder} is a model of change detection, which is given two dates: regraft predict RUN BEFORE AFTER -o"
            " change.tif, or regraft.load_change. Here a model that looks at one image is expected."
        )
    if content["format"] == 1:
        one = content.get("backbone")
        content["backbones"] = [] if one is None else [one]
    if what := wrong_with(content):
        raise damaged(folder, f"{FACTS} was changed, {what}")
    return content


def _assemble(folder: Path, content: dict[str, Any]) -> Bundle:
    return Bundle(
        classes=tuple(content["classes"]),
        head=_read_head(folder, content),
        cards=tuple(card for card in map(read_card, content["backbones"]) if card is not None),
        views=content["views"],
        precision=content["precision"],
        runtime=content["runtime"],
        feature_dim=content["feature_dim"],
        facts=content["facts"],
        folder=folder,
        states=tuple(content["sha256"][weights_name(n)] for n in range(len(content["backbones"]))),
        guard=_read_guard(folder, content),
    )


def _read_head(folder: Path, content: dict[str, Any]) -> Head:
    name, width, classes = content["head"]["name"], content["feature_dim"], len(content["classes"])
    if name not in heads.LOADED:
        raise BundleError(
            f"{folder} has the head {name!r}, which this Regraft does not know (it knows {', '.join(heads.LOADED)}). "
            "A newer Regraft may be needed."
        )
    head = heads.load(name, _read_arrays(folder, _HEAD), content["head"]["settings"])
    if not head_fits(head, width, classes):
        raise damaged(
            folder,
            f"its head does not turn {width} features (the 'feature_dim' of {FACTS}) into {classes} classes",
        )
    return head


def _read_guard(folder: Path, content: dict[str, Any]) -> Guard:
    """The guard; one that guards nothing for a bundle from before there were any."""
    if content.get("guard") is None:
        return Guard()
    guard = read_guard(content["guard"], _read_arrays(folder, _GUARD) if _GUARD in content["sha256"] else {})
    if guard.familiar is not None and sum(guard.familiar.blocks) != content["feature_dim"]:
        raise damaged(folder, f"its {_GUARD} is not of the {content['feature_dim']} features that {FACTS} names")
    return guard


def _read_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays: dict[str, np.ndarray] = load_file(folder / name)
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(folder, f"{name} cannot be read") from error
    return arrays
