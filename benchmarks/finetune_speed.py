"""Full fine-tuning at 224 pixels: images a second, evaluation included, against the tutorial loop in the same run.

python benchmarks/finetune_speed.py [DATA] [BACKBONE]     # efficientnet_lite0 or resnet18 (random weights); ten minutes

First two whole runs, then what each measure gives: bare training steps on images in memory, one measure at a time on
top of the former ones, and loading with and without decoded images in the store.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from torch.nn import functional
from torchvision import datasets, models, transforms

from measure import data_or_exit, regraft, run
from regraft.backbones import catalogue
from regraft.data.manifest import hash_items
from regraft.data.read import read_data
from regraft.features.pixels import keep_pixels
from regraft.models.depthwise import fast_depthwise
from regraft.training.augment import augmentation
from regraft.training.batches import PixelExamples
from regraft.training.engine import has_bf16
from regraft.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

REQUIRED = 2.5
EPOCHS, TUTORIAL_EPOCHS = 3, 2
BATCHES = (16, 32)
STEPS, WARM_UP = 5, 2
BACKBONES: dict[str, Callable[[], Any]] = {
    "efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=2),
    "resnet18": lambda: models.resnet18(num_classes=2),
}


@dataclass(frozen=True)
class Setting:
    """How a bare training step runs."""

    name: str
    channels_last: bool = False
    bf16: bool = False
    depthwise: bool = False
    kept_memory: bool = False
    compiled: bool = False
    threads: int = 2


def main() -> None:
    """Whole runs, then steps, then loading."""
    data = data_or_exit(sys.argv)
    backbone = sys.argv[2] if len(sys.argv) > 2 else "efficientnet_lite0"  # noqa: PLR2004
    if backbone not in BACKBONES:
        sys.exit(f"{backbone} is not measured here. Name one of {', '.join(BACKBONES)}.")
    print(
        f"{backbone} on {data.name}; {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    whole_runs(data, backbone)
    loading(data)
    steps(backbone)


def whole_runs(data: Path, backbone: str) -> None:
    """Rates of epochs after the first, which warms up here and decodes there."""
    loop = Path(__file__).with_name("tutorial_loop.py")
    done = run(sys.executable, loop, data, "--finetune", "--backbone", backbone, "--epochs", str(TUTORIAL_EPOCHS))
    images = sum(path.is_file() for split in ("train", "val") for path in (data / split).rglob("*"))
    theirs = [images / json.loads(line)["seconds"] for line in done.lines[:-1]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = backbone if backbone != "resnet18" else random_weights(folder)
        words = ("--strategy", "finetune", "--backbone", asked, "--force", "--epochs", str(EPOCHS))
        ours_done = regraft("train", data, *words, cache=folder / "cache", folder=folder)
        (history,) = (folder / "runs").glob("*/history.jsonl")
        rows = [json.loads(line) for line in history.read_text("utf-8").splitlines()]
    ours = [row["images_per_second"] for row in rows]
    print("fine-tuning, images a second by epoch, evaluation included")
    print(f"  tutorial  {told(theirs)}; {TUTORIAL_EPOCHS} epochs, {done.seconds:.0f} s in all")
    print(f"  regraft   {told(ours)}; {EPOCHS} epochs, {ours_done.seconds:.0f} s in all")
    ratio = statistics.median(ours[1:]) / statistics.median(theirs[1:])
    verdict = "reached" if ratio >= REQUIRED else "missed"
    print(f"  ratio after the first epoch {ratio:.2f}, required {REQUIRED}: {verdict}", flush=True)


def told(rates: list[float]) -> str:
    """Rates by epoch."""
    return ", ".join(f"{rate:.1f}" for rate in rates)


def random_weights(folder: Path) -> str:
    """A checkpoint of resnet18 as regraft takes it; no weights of it are packaged, and speed does not need any."""
    path = folder / "resnet18.pth"
    torch.save(models.resnet18().state_dict(), path)
    return f"file:{path}@torchvision/resnet18"


def loading(data: Path) -> None:
    """Milliseconds an image on one thread: the tutorial's way, and ours without and with the store."""
    steps_there = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    there = datasets.ImageFolder(
        str(data / "train"), transforms.Compose([*steps_there, transforms.Normalize([0.5] * 3, [0.5] * 3)])
    )
    with tempfile.TemporaryDirectory() as name:
        items = hash_items(read_data(data / "train").items)[0]
        how = catalogue.card("efficientnet_lite0", Path(name)).preprocessing
        kept = keep_pixels(items, how, Path(name), view="frame")
        again = keep_pixels(items, how, Path(name), view="frame")
        targets = np.zeros(len(items), np.int64)
        stored = PixelExamples(again.pixels, targets, augmentation("default", how), 0)
        decoded = PixelExamples(kept.pixels.source, targets, augmentation("default", how), 0)  # type: ignore[attr-defined]
        torch.set_num_threads(1)
        print("loading and augmenting, ms an image on one thread")
        print(f"  tutorial (decodes each time)  {each(there.__getitem__, len(there)):6.2f}")
        print(f"  regraft, decoding each time   {each(lambda row: decoded.load(row, 0), len(items)):6.2f}")
        print(f"  regraft, decoded in the store {each(lambda row: stored.load(row, 0), len(items)):6.2f}", flush=True)


def each(load: Callable[[int], object], count: int) -> float:
    """Milliseconds that loading one of `count` takes."""
    load(0)
    began = time.perf_counter()
    for row in range(count):
        load(row)
    return 1000 * (time.perf_counter() - began) / count


def steps(backbone: str) -> None:
    """The table of bare training steps: images a second, the fastest of a few steps."""
    print(f"bare training steps, images a second, fastest of {STEPS}; each line adds to the ones above it")
    base = Setting("NCHW float32")
    print(f"  {base.name + ', batch 4':<34} {rate(backbone, base, 4):6.1f}", flush=True)
    print(f"  {'':<34} {'  '.join(f'batch {batch:<2}' for batch in BATCHES)}")
    for setting in settings():
        if setting.kept_memory and not keep_freed_memory():
            continue
        rates = [cell(backbone, setting, batch) for batch in BATCHES]
        print(f"  {setting.name:<34} {'  '.join(rates)}", flush=True)


def cell(backbone: str, setting: Setting, batch: int) -> str:
    """The rate, or why there is none: a compiler that fails is a finding, not an end."""
    try:
        return f"{rate(backbone, setting, batch):8.1f}"
    except Exception as error:
        if not setting.compiled:
            raise
        return f"failed ({type(error).__name__})"


def settings() -> list[Setting]:
    """One measure after the other, as far as this machine has them."""
    half = has_bf16()
    found = [
        Setting("NCHW float32"),
        Setting("+ channels_last", channels_last=True),
        *([Setting("+ bf16", channels_last=True, bf16=True)] if half else []),
        Setting("+ fast_depthwise", channels_last=True, bf16=half, depthwise=True),
        Setting("+ freed memory kept (glibc)", channels_last=True, bf16=half, depthwise=True, kept_memory=True),
        Setting("  the same on one thread", True, half, True, True, threads=1),
    ]
    if shutil.which("c++") or shutil.which("g++"):
        found.append(Setting("  the same compiled, two threads", True, half, True, True, compiled=True))
    return found


def rate(backbone: str, setting: Setting, batch: int) -> float:
    """Images a second of forward, backward and an SGD step."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    network: nn.Module = BACKBONES[backbone]().train().to(memory_format=layout)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    images = torch.randn(batch, 3, 224, 224).contiguous(memory_format=layout)
    labels = torch.arange(batch) % 2
    seconds = []
    with fast_depthwise(network) if setting.depthwise else contextlib.nullcontext():
        model: Any = torch.compile(network) if setting.compiled else network
        for _ in range(WARM_UP + STEPS):
            began = time.perf_counter()
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=setting.bf16):
                out = model(images)
            loss: Any = functional.cross_entropy(out.float(), labels)
            loss.backward()
            optimiser.step()
            seconds.append(time.perf_counter() - began)
    return batch / min(seconds[WARM_UP:])


if __name__ == "__main__":
    main()
