"""`regraft show`: what a labelled batch of the data looks like."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.atomic import atomic_file, check_writable
from regraft.data.decode import MAX_PIXELS, read_image
from regraft.data.manifest import check_not_empty
from regraft.errors import DataError, ImageRejected, OptionError, RunExists
from regraft.recipes.change_data import names_pairs, read_named
from regraft.recipes.gather import Source
from regraft.recipes.listen import Listener

if TYPE_CHECKING:
    from PIL import Image

    from regraft.data.manifest import Item, Manifest

_LISTENER = Listener()
_SIDE = 160


def labelled_batch(manifest: Manifest, count: int, seed: int = 0) -> list[Item]:
    """Some images, drawn at random, as many of each class as of the others while there are any."""
    order = np.random.default_rng(seed).permutation(len(manifest.items))
    by_class: dict[str | None, list[Item]] = {}
    for position in order:
        item = manifest.items[position]
        by_class.setdefault(item.label, []).append(item)
    ranked = [by_class[name] for name in (*manifest.classes, None) if name in by_class]
    turns = [(turn, rank, item) for rank, items in enumerate(ranked) for turn, item in enumerate(items)]
    chosen = sorted(turns, key=lambda t: t[:2])[:count]
    return [item for _, _, item in sorted(chosen, key=lambda t: (t[1], t[0]))]


def labelled_images(
    data: str | os.PathLike[str],
    *,
    images: int = 24,
    split: str | None = None,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    label: str | None = None,
    path_column: str | None = None,
    max_pixels: int = MAX_PIXELS,
    listener: Listener = _LISTENER,
) -> list[tuple[Image.Image, str | None]]:
    """Decoded images with their labels; those that cannot be read are told and left out.

    Raises:
        DataError: no images, or none that can be read.
        OptionError: a split that the data does not have.
    """
    if images < 1:
        raise OptionError(f"images is {images}; expected at least 1")
    manifest = check_not_empty(Source(data, root, label, path_column).read())
    for hint in manifest.hints:
        listener.warn(hint)
    if split is not None:
        sizes = manifest.split_sizes()
        manifest = manifest.split(split)
        if not manifest.items:
            has = ", ".join(sizes) or "no splits"
            raise OptionError(f"split {split!r} is not in {data}, which has {has}")
    decoded: list[tuple[Image.Image, str | None]] = []
    for item in labelled_batch(manifest, images, seed):
        try:
            image = read_image(item.path, max_pixels=max_pixels, at_least=_SIDE).image
        except ImageRejected as error:
            listener.warn(str(error))
            continue
        decoded.append((image, item.label))
    if not decoded:
        raise DataError(f"none of the images in {data} can be read")
    return decoded


def _pairs_picture(
    data: str | os.PathLike[str],
    count: int,
    columns: int | None,
    split: str | None,
    seed: int,
    max_pixels: int,
    listener: Listener,
) -> Image.Image:
    """Some pairs: before, after and, where there are labels, what changed."""
    from regraft.data.bands import load_bands
    from regraft.data.change_labels import find_coding, read_label
    from regraft.evaluation.report.change_pictures import pairs_picture, picture_limits, to_picture

    if count < 1:
        raise OptionError(f"images is {count}; expected at least 1")
    whole = read_named(data, labelled=False)
    pairs = whole if split is None else whole.split(split)
    if not pairs.items:
        has = ", ".join(whole.split_sizes()) or "no splits"
        raise OptionError(f"split {split!r} is not in {data}, which has {has}")
    coding = find_coding(whole) if any(item.label for item in whole.items) else None
    drawn = np.random.default_rng(seed).permutation(len(pairs.items))[:count]
    shown = []
    for number in sorted(int(n) for n in drawn):
        pair = pairs.items[number]
        try:
            before, after = (load_bands(path, max_pixels=max_pixels) for path in (pair.before, pair.after))
            label = (
                None if pair.label is None or coding is None else read_label(pair.label, coding, max_pixels=max_pixels)
            )
        except ImageRejected as error:
            listener.warn(str(error))
            continue
        plain = before.values.dtype == np.uint8 and before.values.shape[-1] == 3  # noqa: PLR2004
        limits = None if plain else picture_limits(before.values, after.values)
        first, second = (to_picture(one.values, one.valid, limits) for one in (before, after))
        shown.append((first, second, label, pair.name))
    if not shown:
        raise DataError(f"none of the pairs in {data} can be read")
    return pairs_picture(shown, columns, title=str(data), classes=2 if coding is None else coding.classes)


def show(
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    images: int = 24,
    columns: int | None = None,
    split: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    root: str | os.PathLike[str] | None = None,
    label: str | None = None,
    path_column: str | None = None,
    max_pixels: int = MAX_PIXELS,
    listener: Listener = _LISTENER,
) -> Image.Image:
    """Draw a batch of labelled images, as a model would be given it.

    Args:
        data: A folder, a table, a meta list, or sample:textile; or pairs of two dates with their masks.
        output: The .png or .jpg file to write; on a terminal with colours it is shown there when left out.
        images: How many, or how many pairs.
        columns: How many side by side.
        split: Only images of train, val or test.
        seed: Another seed draws other images.
        overwrite: Replace the file if it exists.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels.
        path_column: The table's column with the paths.
        max_pixels: Images with more pixels are not decoded.
        listener: Who is told what happens.

    Returns:
        The picture.

    Raises:
        RegraftError: whatever is wrong with the data or the options, in a sentence.
    """
    from regraft.evaluation.report.batch import batch_picture

    target = None if output is None else Path(output)
    pairs = names_pairs(data, "auto")
    if pairs and (root, label, path_column) != (None, None, None):
        raise OptionError("--root, --label and --path-column have no effect with pairs: leave them out")
    if target is not None and target.suffix.lower() not in {".png", ".jpg", ".jpeg"}:
        raise OptionError(f"{target}: pictures are written as .png or .jpg; choose one of these endings")
    if target is not None and target.exists() and not overwrite:
        raise RunExists(f"{target} exists already. Choose another name, or replace it with --overwrite.")
    if target is not None:
        check_writable(target)
    if pairs:
        picture = _pairs_picture(data, images, columns, split, seed, max_pixels, listener)
    else:
        batch = labelled_images(
            data,
            images=images,
            split=split,
            seed=seed,
            root=root,
            label=label,
            path_column=path_column,
            max_pixels=max_pixels,
            listener=listener,
        )
        picture = batch_picture(batch, columns=columns, title=str(data))
    if target is not None:
        with atomic_file(target) as temporary:
            picture.save(temporary, "PNG" if target.suffix.lower() == ".png" else "JPEG")
    return picture
