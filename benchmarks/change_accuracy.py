"""Change detection on levir_mini: three networks on a pretrained and on a randomly started backbone, the same budget.

python benchmarks/change_accuracy.py [--budget 8m] [--data FOLDER] [--only NAME]    # six trainings: about an hour

The F1 is of the changed pixels of the validation pairs, by which the best epoch and the threshold were chosen too (the
folder has no test part), so all six are a little too good in the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import timm
import torch

from measure import HYMENOPTERA, regraft

WANTED, WANTED_MINUTES = 0.80, 40


@dataclass(frozen=True)
class Candidate:
    """One training.

    Attributes:
        name: for the table.
        words: options of `regraft train`.
        pretrained: whether its backbone is.
    """

    name: str
    words: tuple[str, ...]
    pretrained: bool


def candidates(random_weights: Path) -> list[Candidate]:
    """What is compared; a frozen backbone of random weights needs a file of them."""
    lite, resnet = ("--backbone", "efficientnet_lite0"), ("--backbone", "timm/resnet18", "--strategy", "scratch")
    frozen = ("--strategy", "linear-probe", "--backbone", f"file:{random_weights}@timm/resnet18")
    return [
        Candidate("BIT (default)", lite, pretrained=True),
        Candidate("siamese UNet", (*lite, "--model", "unet"), pretrained=True),
        Candidate("linear difference", (*lite, "--strategy", "linear-probe"), pretrained=True),
        Candidate("BIT", resnet, pretrained=False),
        Candidate("siamese UNet", (*resnet, "--model", "unet"), pretrained=False),
        Candidate("linear difference", frozen, pretrained=False),
    ]


def main() -> None:
    """Print a table of F1, precision, recall and IoU of the change class."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--budget", default="8m")
    asked.add_argument("--data", type=Path, default=HYMENOPTERA.parent / "levir_mini")
    asked.add_argument("--only", default="")
    asked.add_argument("--keep", type=Path)
    options = asked.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not here. Name a folder with A/, B/, label/ and list/.")
    print(f"budget {options.budget} each; load average {os.getloadavg()[0]:.1f} beside this")
    print("| network | backbone | F1 | 95 % interval | precision | recall | IoU | epochs | minutes |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        weights = folder / "random.pth"
        torch.save(timm.create_model("resnet18", pretrained=False).state_dict(), weights)
        for number, one in enumerate(candidates(weights)):
            if options.only in one.name + str(one.pretrained):
                _row(one, options.data.resolve(), options.budget, folder, options.keep or folder, number)


def _row(one: Candidate, data: Path, budget: str, folder: Path, keep: Path, number: int) -> None:
    target = keep.resolve() / f"run{number}"
    words: list[str | Path] = ["train", data, *one.words, "--budget", budget, "--run", target]
    taken = regraft(*words, cache=folder / "cache", folder=folder)
    found = json.loads((target / "metrics.json").read_text("utf-8"))
    low, high = found["intervals"]["f1"]
    backbone = "efficientnet_lite0, pretrained" if one.pretrained else "resnet18, random"
    reached = f" (wanted: {WANTED:.2f} in {WANTED_MINUTES})" if "default" in one.name else ""
    print(
        f"| {one.name} | {backbone} | {found['f1']:.3f}{reached} | {low:.3f} to {high:.3f} | {found['precision']:.3f} |"
        f" {found['recall']:.3f} | {found['iou']:.3f} | {found['chosen']['epochs']} | {taken.seconds / 60:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
