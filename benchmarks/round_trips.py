"""Every torchvision classifier and many of timm, saved in all common forms, read back, recognised and loaded.

python benchmarks/round_trips.py [ARCHITECTURE ...]

Weights are random, nothing is downloaded. The lists and the steps are those of the nightly test
(tests/unit/backbones/round_trips.py); this prints their figures, and every trip that did not end well.
"""

from __future__ import annotations

import importlib
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
STEPS: Any = importlib.import_module("unit.backbones.round_trips")
_CLOSE = 1e-6


def main() -> None:
    """Go through all networks, then print the summary."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    architectures = sys.argv[1:] or [*STEPS.TORCHVISION, *STEPS.TIMM]
    trips: list[Any] = []
    own: dict[str, float | None] = {}
    broken: list[str] = []
    began = time.perf_counter()
    for number, architecture in enumerate(architectures, 1):
        start = time.perf_counter()
        try:
            found, own[architecture] = one(architecture)
        except Exception as error:  # noqa: BLE001 (the others go on)
            broken.append(architecture)
            print(f"{architecture} BROKEN: {type(error).__name__}: {str(error).splitlines()[:1]}", flush=True)
            continue
        trips += found
        print_one(found, own[architecture])
        print(f"{number}/{len(architectures)} {architecture} {time.perf_counter() - start:.1f} s", flush=True)
    summary(trips, own, broken, time.perf_counter() - began)


def one(architecture: str) -> tuple[list[Any], float | None]:
    """All forms of one network."""
    with tempfile.TemporaryDirectory() as folder:
        found: tuple[list[Any], float | None] = STEPS.round_trips(architecture, Path(folder))
    return found


def print_one(trips: list[Any], own: float | None) -> None:
    """What did not go well; trips alike in one line."""
    lines: dict[str, list[str]] = {}
    for trip in trips:
        if trip.place != 1:
            where = f"in place {trip.place}" if trip.place else "NOT IN THE LIST"
            lines.setdefault(f"taken for {trip.named or 'nothing'} ({trip.certainty}), {where}", []).append(trip.form)
        if trip.problem or not trip.loaded:
            what = f"share {trip.share:.6f}, complete {trip.complete}, tensors equal {trip.equal}"
            said = f"NOT LOADED: {what}, difference {trip.difference:.3g} {trip.problem}"
            lines.setdefault(said, []).append(trip.form)
        right = STEPS.OTHER_CLASSES if trip.form == "head" else STEPS.CLASSES
        if trip.classes != right:
            lines.setdefault(f"classes told as {trip.classes}", []).append(trip.form)
    for line, forms in lines.items():
        print(f"  {trips[0].architecture} [{', '.join(forms)}] {line}", flush=True)
    if own is not None and own > _CLOSE:
        print(f"  {trips[0].architecture} differs from the source's own features by {own:.3g}", flush=True)


def summary(trips: list[Any], own: dict[str, float | None], broken: list[str], seconds: float) -> None:
    """The figures that the issue asks for."""
    print()
    for zoo in ("torchvision/", "timm/"):
        figures(zoo.rstrip("/"), [trip for trip in trips if trip.architecture.startswith(zoo)])
    figures("both", trips)
    by_form = Counter(trip.form for trip in trips)
    first = Counter(trip.form for trip in trips if trip.place == 1)
    print("named first by form: " + ", ".join(f"{form} {first[form]}/{by_form[form]}" for form in by_form))
    asked = [value for value in own.values() if value is not None]
    print(f"the source's own features: {len(asked)} networks, largest difference {max(asked, default=0):.3g}")
    slow = sorted(trips, key=lambda trip: -float(trip.identify_seconds))[:3]
    told = ", ".join(f"{t.identify_seconds:.2f} s ({t.architecture}, {t.form})" for t in slow)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024
    print(f"longest identify: {told}")
    print(f"broken: {', '.join(broken) or 'none'}")
    print(f"{seconds:.0f} s on one thread, peak memory {peak:.1f} GB")


def figures(what: str, trips: list[Any]) -> None:
    """One line for some of the trips."""
    if not trips:
        return
    names = {trip.architecture for trip in trips}
    always = names - {trip.architecture for trip in trips if trip.place != 1}
    first = sum(trip.place == 1 for trip in trips) / len(trips)
    listed = sum(trip.place > 0 for trip in trips) / len(trips)
    loaded = [trip for trip in trips if trip.loaded]
    print(
        f"{what}: {len(names)} architectures, {len(trips)} files; named first {first:.2%} (in all forms"
        f" {len(always)} architectures, {len(always) / len(names):.2%}), in the list {listed:.2%}, loaded whole"
        f" {len(loaded)}, largest difference {max((trip.difference for trip in loaded), default=0):.3g}"
    )


if __name__ == "__main__":
    main()
