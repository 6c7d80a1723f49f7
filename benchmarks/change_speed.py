"""One training step on pairs, against the same network in plain NCHW float32, in the same run and taking turns.

python benchmarks/change_speed.py [MODEL] [--threads N]     # bit by default; three minutes

Both learn from the same 8 pairs of 256 x 256 in memory. The plain one is what one writes without thinking of it:
float32, channels first, torch's own gradients, all of BatchNorm learning.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from regraft.backbones.catalogue import preview
from regraft.models.change.net import build_change
from regraft.models.change.spec import parse_model
from regraft.models.depthwise import fast_depthwise
from regraft.models.freezing import freeze_statistics
from regraft.training.engine import has_bf16
from regraft.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from regraft.models.change.net import ChangeNet

REQUIRED = 2.0
BACKBONES = ("efficientnet_lite0", "timm/resnet18")
BATCH, SIDE, ROUNDS = 8, 256, 5


class Plain(nn.Module):
    """The parts of a `ChangeNet`, channels first."""

    def __init__(self, net: ChangeNet) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.contiguous_format)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T=2, C, H, W) -> logits (B, K, H, W); the sides are multiples of 32 here."""
        size = (x.shape[-2], x.shape[-1])
        maps = self.net.trunk(x.flatten(0, 1).contiguous())
        if self.net.neck is not None:
            one = self.net.neck(maps, size)
            logits: Tensor = self.net.head(one.reshape(-1, 2, *one.shape[1:]), size)
        else:
            logits = self.net.head([one.reshape(-1, 2, *one.shape[1:]) for one in maps], size)
        return logits


def main() -> None:
    """Print pairs a second of both, their ratio, and whether it is what was wanted."""
    asked = argparse.ArgumentParser()
    asked.add_argument("model", nargs="?", default="bit")
    asked.add_argument("--threads", type=int, default=os.cpu_count())
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(f"{options.model}, {options.threads} threads, bf16 {'in hardware' if has_bf16() else 'not in hardware'};")
    print(f"load average {os.getloadavg()[0]:.1f} beside this")
    for name in BACKBONES:
        plain, ours = _steps(name, options.model)
        plain(), ours()  # kernels are made
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(ROUNDS):
            for which, step in (("plain", plain), ("ours", ours)):
                began = time.perf_counter()
                step()
                times[which].append(time.perf_counter() - began)
        speeds = {which: BATCH / statistics.median(own) for which, own in times.items()}
        ratio = speeds["ours"] / speeds["plain"]
        print(
            f"{name:<20} plain {speeds['plain']:6.2f} pairs/s, Regraft {speeds['ours']:6.2f} pairs/s: {ratio:.2f} x"
            f" (wanted: {REQUIRED:.0f} x)"
        )


def _steps(name: str, model: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """One update of the plain network, and one of ours."""
    generator = torch.Generator().manual_seed(0)
    dates = torch.randn(BATCH, 2, 3, SIDE, SIDE, generator=generator)
    masks = (torch.rand(BATCH, SIDE, SIDE, generator=generator) > 0.9).long()  # noqa: PLR2004
    with tempfile.TemporaryDirectory() as cache:
        card = preview(name, Path(cache))
    found = []
    for fast in (False, True):
        net, _ = build_change(parse_model(model), card, None)
        module = net if fast else Plain(net)
        module.train()
        if fast:
            freeze_statistics(net.trunk)
        optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4)
        found.append(_step(module, optimiser, dates, masks, fast=fast, trunk=net.trunk))
    return found[0], found[1]


def _step(
    module: nn.Module, optimiser: torch.optim.Optimizer, dates: Tensor, masks: Tensor, *, fast: bool, trunk: nn.Module
) -> Callable[[], None]:
    def step() -> None:
        with fast_depthwise(trunk) if fast else nullcontext():
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=fast and has_bf16()):
                logits = module(dates)
            functional.cross_entropy(logits.float(), masks).backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    return step


if __name__ == "__main__":
    main()
