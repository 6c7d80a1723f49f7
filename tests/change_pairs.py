"""Small change pairs, made by code: noise in which a bright square appears."""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = ("A", "B", "label")


def drawn(draws, side=64, *, changed=True, bands=3):
    """Before, after (side, side, bands) uint8 and the mask (side, side), 0 or 255."""
    before = draws.integers(60, 100, (side, side, bands)).astype(np.uint8)
    after = (before + draws.integers(0, 6, before.shape)).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    if changed:
        top, left = draws.integers(0, side - 24, 2)
        square = (slice(top, top + 24), slice(left, left + 24))
        after[square], mask[square] = 230, 255
    return before, after, mask


def write_pairs(folder, count=12, *, seed=0, changed=True, side=64, lists=True, start=0):
    """A/, B/, label/ and, of the first two thirds and the rest, list/train.txt and list/val.txt."""
    folder, draws = Path(folder), np.random.default_rng(seed)
    names = [f"p{number:02d}.png" for number in range(start, start + count)]
    for kind in FOLDERS:
        (folder / kind).mkdir(parents=True)
    for name in names:
        for kind, values in zip(FOLDERS, drawn(draws, side, changed=changed), strict=True):
            Image.fromarray(values).save(folder / kind / name)
    if lists:
        (folder / "list").mkdir()
        cut = 2 * count // 3
        for split, own in (("train", names[:cut]), ("val", names[cut:])):
            (folder / "list" / f"{split}.txt").write_text("\n".join(own) + "\n")
    return folder


def published_name(name):
    """What a tensor of our network after the backbone is called in the authors' checkpoints."""
    first, _, rest = name.partition(".")
    if not first.startswith("transformer"):
        return name
    layer, _, inside = rest.partition(".")
    for ours, theirs in {
        "attention_norm.": "0.fn.norm.", "attention.to_out.": "0.fn.fn.to_out.0.", "attention.": "0.fn.fn.",
        "mlp_norm.": "1.fn.norm.", "mlp.": "1.fn.fn.net.",
    }.items():  # fmt: skip
        if inside.startswith(ours):
            return f"{first}.layers.{layer}.{theirs}{inside.removeprefix(ours)}"
    raise AssertionError(name)
