"""Prefixes that wrappers put before every name (`module.`, `_orig_mod.`, `backbone.`), known or not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEPTH = 5
_SHARE = 0.25
_MOST = 12
_KNOWN = {
    "module", "_orig_mod", "model", "backbone", "encoder", "net", "network", "trunk", "student", "teacher",
    "encoder_q", "base_encoder", "momentum_encoder", "online_network", "target_network", "visual", "features",
    "feature_extractor", "base_model", "ema_model", "model_ema", "img_encoder", "image_encoder", "vit", "resnet",
}  # fmt: skip


def prefixes(names: Iterable[str]) -> list[str]:
    """Prefixes that may be a wrapper's, with their final dot, shortest first and the empty one before all.

    A prefix may be one if at least a quarter of the names carry it, or if its last word is one that wrappers
    are known by. Which one is right shows when the rest is compared with a network.

    Args:
        names: the names of a state dict.
    """
    all_names = list(names)
    counts: Counter[str] = Counter()
    for name in all_names:
        words = name.split(".")[:-1]
        for depth in range(1, min(len(words), _DEPTH) + 1):
            counts[".".join(words[:depth]) + "."] += 1
    enough = max(2, _SHARE * len(all_names))
    found = [
        prefix for prefix, count in counts.items() if count >= enough or (prefix.split(".")[-2] in _KNOWN and count > 1)
    ]
    return ["", *sorted(found, key=lambda prefix: (prefix.count("."), -counts[prefix]))[:_MOST]]


def stripped(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Name without the prefix -> name, for the names that carry it; the others keep theirs unless it is taken."""
    found: dict[str, str] = {}
    rest: list[str] = []
    for name in names:
        if name.startswith(prefix):
            found[name[len(prefix) :]] = name
        else:
            rest.append(name)
    for name in rest:
        found.setdefault(name, name)
    return found
