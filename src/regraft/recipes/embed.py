"""`regraft embed`: the features of images, for whatever comes after."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from regraft.backbones.recognise import FileOptions
from regraft.data.decode import MAX_PIXELS
from regraft.features.external import check_target, write_features
from regraft.features.frozen import check_options
from regraft.features.store import cache_folder, usable_cache
from regraft.recipes.backbone import prepare_backbones
from regraft.recipes.change_data import refuse_pairs
from regraft.recipes.gather import Gathered, Source, check_numbers, gather, read_and_hash
from regraft.recipes.listen import Clock, Listener

if TYPE_CHECKING:
    from regraft.features.frozen import Frozen

_LISTENER = Listener()


def embed(
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    backbone: str = "efficientnet_lite0",
    overwrite: bool = False,
    views: Literal["none", "flip"] = "none",
    precision: Literal["f32", "bf16"] = "f32",
    runtime: Literal["auto", "openvino", "torch"] = "auto",
    part: str | None = None,
    trust: bool = False,
    allow_partial: float = 0.9,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    size: int | None = None,
    root: str | os.PathLike[str] | None = None,
    label: str | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    max_rejected: float = 0.05,
    max_pixels: int = MAX_PIXELS,
    listener: Listener = _LISTENER,
) -> Gathered:
    """Compute the features of images, labelled or not, and write them to a file.

    Args:
        data: A folder, a table, a meta list, or sample:textile.
        output: The .npz or .parquet file to write: keys, paths, labels, splits, groups, features (N, D).
        backbone: Which pretrained network, as `regraft backbones` lists them; or file:FILE[@ARCHITECTURE], a checkpoint
            of your own; or run:RUN, the backbone of a run. a+b puts the features of several side by side.
        overwrite: Replace the file if it exists.
        views: flip averages the features of each image and its mirror image.
        precision: bf16 is faster on processors that have it, and gives other digits.
        runtime: What runs the backbone; auto takes CUDA where there is one, else OpenVINO.
        part: Of a checkpoint file with several state dicts, which one (`regraft checkpoint inspect` lists them).
        trust: Unpickle a checkpoint file that asks for foreign classes, which runs its code.
        allow_partial: Smallest share of the backbone's parameters that a checkpoint file must have.
        mean: Channel means (0..1) that the network of a checkpoint file expects, where not those of its zoo.
        std: Channel standard deviations, likewise.
        size: Side of the input in pixels, likewise.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels.
        path_column: The table's column with the paths.
        split_column: The table's column with train, val, test.
        group_column: The table's column with groups.
        max_rejected: Share of unreadable images above which the command stops.
        max_pixels: Images with more pixels are rejected before they are decoded.
        listener: Who is told what happens.

    Returns:
        The images that could be read (`.manifest`), their features (`.table`) and those that could not.

    Raises:
        RegraftError: whatever is wrong with the data or the options, in a sentence.
    """
    clock = Clock()
    check_options(runtime, precision, views)
    own = FileOptions(part, trust, allow_partial, mean=mean, std=std, size=size)
    own.check()
    refuse_pairs(data, "embed")
    check_numbers(max_rejected=max_rejected, max_pixels=max_pixels)
    target = None if output is None else Path(output)
    if target is not None:
        check_target(target, overwrite=overwrite)
    cache = usable_cache(cache_folder())
    source = Source(data, root, label, path_column, split_column, group_column)
    manifest, lost = read_and_hash(source, clock, listener, labelled=False)
    ready = prepare_backbones(
        backbone, cache, clock, listener, runtime=runtime, precision=precision, views=views, options=own
    )
    found = gather(manifest, lost, ready, cache, clock, listener, max_pixels=max_pixels, max_rejected=max_rejected)
    if target is not None:
        about = {
            **_told(ready),
            "views": views,
            "precision": ready[0].spaces[0].precision,
            "runtime": ready[0].spaces[0].runtime,
            "fingerprints": list(found.table.fingerprints),
        }
        write_features(found.manifest.items, found.table, target, about, overwrite=overwrite)
        listener.say(f"wrote {target}: {len(found.manifest)} images, {found.table.features.shape[1]} features each")
    return found


def _told(backbones: tuple[Frozen, ...]) -> dict[str, Any]:
    """What a feature file says of its backbone, or of its backbones and how many features each has."""
    cards = [replace(one.card, stages=()).to_dict() for one in backbones]
    if len(cards) == 1:
        return {"backbone": cards[0]}
    return {"backbones": cards, "blocks": [one.card.feature_dim for one in backbones]}
