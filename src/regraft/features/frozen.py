"""A frozen backbone, ready to extract: from its card to the spaces of its rows and the runtime that fills them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.decode import MAX_PIXELS
from regraft.errors import OptionError
from regraft.features.convert import converted
from regraft.features.extract import extract, silent
from regraft.features.runtime import PRECISIONS, OpenVinoRuntime, TorchRuntime, choose_runtime, import_openvino
from regraft.features.table import VIEWS, FeatureSpace, FeatureTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from regraft.backbones.backbone import Backbone, BackboneCard
    from regraft.data.manifest import Item
    from regraft.features.extract import Extraction
    from regraft.features.runtime import Runtime


@dataclass(frozen=True)
class Frozen:
    """A frozen backbone.

    Attributes:
        card: which one.
        spaces: where its rows belong, one for each view.
        runtime: makes the runtime; call it only when something must be computed.
        weights: its state dict as safetensors, in the cache.
        conversion: how closely the converted network agrees with torch, or why it was not converted.
        notes: what the user should be told now (a new conversion, another runtime or precision than asked for).
    """

    card: BackboneCard
    spaces: tuple[FeatureSpace, ...]
    runtime: Callable[[], Runtime]
    weights: Path
    conversion: str
    notes: tuple[str, ...]


def check_options(runtime: str, precision: str, views: str) -> None:
    """Raise an `OptionError` for a word that the frozen path does not know, before any work is done."""
    for name, value, known in (
        ("runtime", runtime, ("auto", "openvino", "torch")),
        ("precision", precision, PRECISIONS),
        ("views", views, tuple(VIEWS)),
    ):
        if value not in known:
            raise OptionError(f"{name} {value!r} is unknown: use {', '.join(known)}")


def frozen(
    card: BackboneCard,
    build: Callable[[], Backbone],
    cache: Path,
    *,
    runtime: str = "auto",
    precision: str = "f32",
    views: str = "none",
    state_sha256: str | None = None,
) -> Frozen:
    """Prepare a frozen backbone; no torch is imported when its converted form is in the cache.

    Args:
        card: which backbone.
        build: builds it with its weights, called at most when it must be converted or run by torch.
        cache: the cache folder.
        runtime: "auto", "openvino" or "torch".
        precision: "f32", or "bf16" (opt-in: faster on processors that have it, and other digits).
        views: "none", or "flip" to average the features of an image and its mirror image.
        state_sha256: hash of the weights that a bundle brings, see `converted`.

    Raises:
        OptionError: a word that is not known.
    """
    check_options(runtime, precision, views)
    form = converted(card, build, cache, state_sha256=state_sha256)
    chosen = choose_runtime(runtime)
    notes = [form.note] if form.fresh or form.model is None else []
    if chosen == "openvino" and form.model is None:
        chosen = "torch"
        notes.append("torch runs it instead, on the CPU more slowly")
    if precision == "bf16" and chosen == "openvino" and not _openvino_has_bf16():
        precision = "f32"
        notes.append("this processor has no bf16: f32 runs instead")
    preprocessing = card.preprocessing
    spaces = tuple(
        FeatureSpace(card.architecture, form.state_sha256, preprocessing, chosen, precision, view)
        for view in VIEWS[views]
    )

    def start() -> Runtime:
        if chosen == "openvino" and form.model is not None:
            return OpenVinoRuntime(form.model, preprocessing, precision)
        return TorchRuntime(build().module, preprocessing, precision)

    return Frozen(card, spaces, start, form.weights, form.note, tuple(notes))


def features_of(
    items: Sequence[Item],
    backbones: Sequence[Frozen],
    cache: Path,
    *,
    max_pixels: int = MAX_PIXELS,
    on_progress: Callable[[int, int], None] = silent,
) -> Extraction:
    """Features of all items by one backbone or several, side by side; only what the stores lack is computed.

    Args:
        items: hashed items.
        backbones: one or more; their features stand beside each other in this order.
        cache: the cache folder.
        max_pixels: images with more are rejected before decoding.
        on_progress: told the number of images done and the total to be computed, for each backbone in turn.

    Returns:
        The extraction; an image that one backbone cannot be given is rejected for all. Counts are of images times
        backbones.
    """
    found: list[Extraction] = []
    left = tuple(items)
    for one in backbones:
        part = extract(left, one.spaces, cache, one.runtime, max_pixels=max_pixels, on_progress=on_progress)
        found.append(part)
        left = part.items
    if len(found) == 1:
        return found[0]
    there = {str(item.key) for item in left}
    parts = [part.table.features[[key in there for key in part.table.keys]] for part in found]
    table = FeatureTable(
        found[-1].table.keys,
        np.concatenate(parts, axis=1),
        tuple(fingerprint for part in found for fingerprint in part.table.fingerprints),
    )
    return replace(
        found[-1],
        table=table,
        rejected=tuple(skipped for part in found for skipped in part.rejected),
        notes={path: notes for part in found for path, notes in part.notes.items()},
        from_store=sum(part.from_store for part in found),
        computed=sum(part.computed for part in found),
        decode_seconds=sum(part.decode_seconds for part in found),
        seconds=sum(part.seconds for part in found),
    )


def _openvino_has_bf16() -> bool:
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
