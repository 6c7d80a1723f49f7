"""Where pixels are kept: content-addressed, append-only, safe to kill and to share, as features are (see `store`).

A folder for all that decides a pixel besides the image's bytes; in it segments, safetensors files that are written
beside, renamed and never changed after.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import atomic_file, write_text
from regraft.features.segments import KEY_BYTES, read_header
from regraft.features.table import EXTRACTOR_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from regraft.backbones.preprocessing import Preprocessing


def open_space(cache: Path, preprocessing: Preprocessing, view: str) -> Path:
    """The folder for pixels that are made like this."""
    height, width = preprocessing.size
    facts: dict[str, Any] = {
        "resizing": f"{preprocessing.mode} {preprocessing.resize} for {height}x{width} {preprocessing.interpolation}",
        "view": view,
        "extractor": EXTRACTOR_VERSION,
    }
    if preprocessing.mode == "pad":
        facts["fill"] = [round(255 * m) for m in preprocessing.mean]
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    folder = cache / "pixels" / fingerprint
    if not (folder / "space.json").exists():
        write_text(folder / "space.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return folder


@dataclass(frozen=True)
class Found:
    """What a space holds.

    Attributes:
        files: the segments.
        places: by hex key: number of the file, position in it, height, width.
        notes: what the decoder said of an image, by hex key.
    """

    files: tuple[Path, ...]
    places: dict[str, tuple[int, int, int, int]]
    notes: dict[str, list[str]]

    @classmethod
    def of(cls, folder: Path) -> Found:
        """What is in the folder of a space; damaged segments are left out, so their images are decoded again."""
        files: list[Path] = []
        places: dict[str, tuple[int, int, int, int]] = {}
        notes: dict[str, list[str]] = {}
        for path in sorted(folder.glob("[!.]*.safetensors")):
            try:
                rows, said = _read_segment(path)
            except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError):
                continue
            places.update({key: (len(files), *place) for key, place in rows.items()})
            notes.update(said)
            files.append(path)
        return cls(tuple(files), places, notes)


def _read_segment(path: Path) -> tuple[dict[str, tuple[int, int, int]], dict[str, list[str]]]:
    """Position, height and width of each image of a segment, by key, and the decoder's notes by key."""
    header, start = read_header(path)
    offsets = {name: start + header[name]["data_offsets"][0] for name in ("keys", "shapes", "pixels")}
    count = header["keys"]["shape"][0]
    keys = np.fromfile(path, np.uint8, count * KEY_BYTES, offset=offsets["keys"]).reshape(count, KEY_BYTES)
    shapes = np.fromfile(path, np.int64, count * 2, offset=offsets["shapes"]).reshape(count, 2)
    begins = offsets["pixels"] + np.cumsum([0, *(3 * shapes.prod(axis=1))])
    if shapes.min(initial=1) < 1 or begins[-1] != start + header["pixels"]["data_offsets"][1]:
        raise ValueError(f"{path} is damaged")
    rows = {
        key.tobytes().hex(): (begin, height, width)
        for key, begin, (height, width) in zip(keys, begins.tolist(), shapes.tolist(), strict=False)
    }
    return rows, json.loads(header["__metadata__"]["notes"])


def append(folder: Path, images: dict[str, NDArray[np.uint8]], notes: dict[str, list[str]]) -> None:
    """Add images, uint8 (h, w, 3) by hex key, as one new segment: complete or absent, durable when this returns.

    Raises:
        CannotWrite: the disk is full or read-only, or permission is missing.
    """
    from safetensors.numpy import save_file

    arrays: dict[str, NDArray[Any]] = {
        "keys": np.frombuffer(bytes.fromhex("".join(images)), np.uint8).reshape(-1, KEY_BYTES),
        "shapes": np.array([image.shape[:2] for image in images.values()], np.int64),
        "pixels": np.concatenate([image.reshape(-1) for image in images.values()]),
    }
    with atomic_file(folder / f"{uuid.uuid4().hex}.safetensors") as temporary:
        save_file(arrays, temporary, metadata={"notes": json.dumps(notes)})
