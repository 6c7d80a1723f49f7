"""Make the index of fingerprints anew from the installed zoos: `python -m regraft.backbones.fingerprint_build`.

Takes minutes; no weights and no network connection are needed. The same versions of the zoos give the same bytes.
"""

from __future__ import annotations

import io
import json
import lzma
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import atomic_file
from regraft.backbones.fingerprint_collect import architectures, record
from regraft.backbones.fingerprint_twins import functions, twin_groups
from regraft.backbones.fingerprints import ARRAYS, COUNTER, FORMAT
from regraft.backbones.index import versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regraft.backbones.fingerprint_collect import Record

DISTRIBUTIONS = ("timm", "torchvision")


def main() -> None:
    """Build and write the index into the installed package, or to the path given."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("fingerprints.xz")
    with atomic_file(target) as temporary:
        temporary.write_bytes(make())


def make() -> bytes:
    """The index of all networks of the installed zoos."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would be other numbers
    try:
        records = [record(architecture) for architecture in architectures()]
        groups = twin_groups(records)
        return encode(records, groups, [functions(group) if len(group) > 1 else [0] for group in groups])
    finally:
        torch.set_num_threads(threads)


def encode(records: Sequence[Record], groups: Sequence[Sequence[Record]], numbers: Sequence[Sequence[int]]) -> bytes:
    """Records to the bytes of the index's file.

    Args:
        records: all networks.
        groups: the same networks, grouped by equal tensors.
        numbers: for each group, each network's function.
    """
    shapes, names, words = _Numbers(), _Numbers(), _Numbers()
    tokens, lists = _Numbers(), _Numbers()
    body_of = {r.architecture: place for place, group in enumerate(groups) for r in group}
    function_of = {
        r.architecture: n for group, row in zip(groups, numbers, strict=True) for r, n in zip(group, row, strict=True)
    }
    rows = []
    for one in records:
        sequence = tuple(
            tokens[
                names[s.name], shapes[s.shape], shapes[s.larger], shapes[s.pattern], s.role, s.integer
            ]
            for s in one.slots
            if not s.name.endswith(COUNTER)
        )  # fmt: skip
        telling = _telling(one, groups[body_of[one.architecture]])
        rows.append(
            [one.architecture, one.family, one.published, one.size, one.width, one.parameters, lists[sequence],
             body_of[one.architecture], function_of[one.architecture], [words[word] for word in telling]]
        )  # fmt: skip
    header = {
        "format": FORMAT,
        "versions": versions(DISTRIBUTIONS),
        "networks": rows,
        "modules": list(words),
        "shapes": list(shapes),
    }
    return _packed(header, list(names), np.array(list(tokens), np.int32), list(lists))


class _Numbers(dict[Any, int]):
    """Things -> numbers in the order of their first appearance."""

    def __missing__(self, key: Any) -> int:
        self[key] = len(self)
        return self[key]


def _telling(one: Record, twins: Iterable[Record]) -> list[str]:
    """Modules without tensors that this network has and some network with equal tensors has not."""
    common = set.intersection(*(set(twin.modules) for twin in twins))
    return [name for name in one.modules if name not in common]


def _packed(header: dict[str, Any], names: list[str], table: np.ndarray, lists: list[tuple[int, ...]]) -> bytes:
    def steps(values: Any) -> np.ndarray:  # neighbours differ by little, which packs better
        return np.diff(np.asarray(values, np.int32), prepend=0).astype(np.int32)

    name, shape, larger, pattern, role, integer = table.T
    arrays = {
        "header": np.frombuffer(json.dumps(header, separators=(",", ":")).encode(), np.uint8),
        "names": np.frombuffer("\n".join(names).encode(), np.uint8),
        "name": steps(name),
        "shape": steps(shape),
        "larger": (larger - shape).astype(np.int16),
        "pattern": (pattern - shape).astype(np.int16),
        "role": role.astype(np.int8),
        "integer": integer.astype(np.int8),
        "ends": steps(np.cumsum([len(sequence) for sequence in lists])),
        "tokens": steps([token for sequence in lists for token in sequence]),
    }
    stream = io.BytesIO()
    for key in ARRAYS:
        np.save(stream, arrays[key], allow_pickle=False)
    return lzma.compress(stream.getvalue(), preset=9 | lzma.PRESET_EXTREME)


if __name__ == "__main__":
    main()
