"""Feature extraction with decoding, against a bare loop of the same runtime over images already in memory.

python benchmarks/extract.py [DATA]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from measure import data_or_exit
from regraft.backbones import catalogue
from regraft.data.decode import read_image
from regraft.data.manifest import hash_items
from regraft.data.read import read_data
from regraft.features.extract import extract
from regraft.features.frozen import frozen

REPEATS = 7
REQUIRED = 1.3


def main() -> None:
    """Print milliseconds an image for both, and the ratio pair by pair."""
    data = data_or_exit(sys.argv)
    backbone = sys.argv[2] if len(sys.argv) > 2 else "efficientnet_lite0"  # noqa: PLR2004
    items, _ = hash_items(read_data(data).items)
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name)
        card = catalogue.card(backbone, cache)
        ready = frozen(card, lambda: catalogue.build(backbone, cache), cache)
        runtime = ready.runtime()
        images = [card.preprocessing(read_image(item.path).image) for item in items]
        bare, whole = [], []
        for repeat in range(REPEATS + 1):
            began = time.perf_counter()
            rows: dict[int, object] = {}
            runtime.run(len(images), lambda n: [(n, images[n])], rows.__setitem__)
            middle = time.perf_counter()
            found = extract(items, ready.spaces, cache / str(repeat), lambda: runtime)
            end = time.perf_counter()
            assert found.computed == len(images)
            if repeat:  # the first one warms up
                bare.append(1000 * (middle - began) / len(items))
                whole.append(1000 * (end - middle) / len(items))
    ratios = [a / b for a, b in zip(whole, bare, strict=True)]
    busy = 1000 * found.decode_seconds / len(items)
    print(f"{backbone} on {len(items)} images, {runtime.device}, {runtime.name} {runtime.precision}")
    print(f"bare loop in memory     {statistics.median(bare):.2f} ms an image")
    print(f"extraction with decode  {statistics.median(whole):.2f} ms an image (decoding threads busy {busy:.2f} ms)")
    print(
        f"ratio                   {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}),"
        f" required {REQUIRED}"
    )


if __name__ == "__main__":
    main()
