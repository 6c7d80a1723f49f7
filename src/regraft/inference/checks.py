"""Whether the content of a bundle.json is what Regraft writes: what is wrong with it, in words."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.backbones.backbone import BackboneCard
from regraft.backbones.files import told, warnings
from regraft.errors import RegraftError
from regraft.features.runtime import PRECISIONS
from regraft.features.table import VIEWS

if TYPE_CHECKING:
    from regraft.heads.head import Head

SELF = "self_sha256"
_WORDS = {list: "a list", dict: "a group of names and values", str: "a text", int: "a whole number"}
_TYPES: dict[str, type] = {
    "classes": list,
    "head": dict,
    "backbones": list,
    "views": str,
    "precision": str,
    "runtime": str,
    "feature_dim": int,
    "facts": dict,
    "sha256": dict,
}
_KNOWN = {"views": tuple(VIEWS), "precision": PRECISIONS, "runtime": ("openvino", "torch", "none")}
_CARD_TEXTS = ("name", "architecture", "weights", "weights_file", "weights_sha256", "licence")


def content_sha256(content: dict[str, Any]) -> str:
    """The checksum of a bundle.json, over everything in it but the checksum; layout does not count."""
    rest = {key: value for key, value in content.items() if key != SELF}
    text = json.dumps(json.loads(json.dumps(rest)), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def wrong_with(content: dict[str, Any]) -> str:
    """What is wrong with the content of a bundle.json of this format, as part of a sentence; empty for nothing."""
    for key, kind in _TYPES.items():
        if type(content.get(key)) is not kind:
            return f"its {key!r} is not {_WORDS[kind]}"
    for key, known in _KNOWN.items():
        if content[key] not in known:
            return f"its {key!r} is {content[key]!r}; known: {', '.join(known)}"
    if type(content.get("guard", {})) is not dict:
        return f"its 'guard' is not {_WORDS[dict]}"
    return _wrong_with_head(content) or _wrong_with_cards(content)


def _wrong_with_head(content: dict[str, Any]) -> str:
    names, head = content["classes"], content["head"]
    if not all(type(name) is str for name in names) or len(set(names)) < len(names):
        return "its 'classes' are not distinct names"
    if type(head.get("name")) is not str or type(head.get("settings")) is not dict:
        return "its 'head' has no name or no settings"
    settings = head["settings"]
    if type(settings.get("n_classes")) is not int or settings["n_classes"] != len(names):
        return f"it names {len(names)} classes, but its head is for {settings.get('n_classes')!r}"
    temperature = settings.get("temperature", 1.0)
    if type(temperature) not in {int, float} or not math.isfinite(temperature) or temperature <= 0:
        return f"its head's temperature is {temperature!r}, not a number above 0"
    if content["feature_dim"] < 1:
        return f"its 'feature_dim' is {content['feature_dim']}, not a number of features"
    return ""


def _wrong_with_cards(content: dict[str, Any]) -> str:
    if not content["backbones"]:
        return ""
    cards = [read_card(values) for values in content["backbones"]]
    widths = [card.feature_dim for card in cards if card is not None]
    if len(widths) < len(cards):
        return "one of its 'backbones' does not describe a backbone"
    if sum(widths) != content["feature_dim"]:
        given = " and ".join(map(str, widths))
        return f"its backbone gives {given} features, but its 'feature_dim' is {content['feature_dim']}"
    return ""


def read_card(values: object) -> BackboneCard | None:
    """The card that these JSON values describe, or None where they describe none."""
    if type(values) is not dict:
        return None
    try:
        card = BackboneCard.from_dict(values)
    except (RegraftError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
    try:
        told(card), warnings(card)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
    texts = all(type(getattr(card, name)) is str for name in _CARD_TEXTS)
    numbers = type(card.feature_dim) is int and type(card.parameters) is int
    return card if texts and numbers and type(card.versions) is dict else None


def head_fits(head: Head, width: int, classes: int) -> bool:
    """Whether a head turns features (1, width) into logits (1, classes): the only whole test of its parts."""
    try:
        with np.errstate(all="ignore"):
            logits = head.logits(np.zeros((1, width), np.float32))
    except (RegraftError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError):
        return False
    return logits.shape == (1, classes)
