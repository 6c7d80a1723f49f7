"""Every command and snippet of the README and the documents is run, in order, in one folder a document."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin
from torch import nn
from torchvision import models

from odd_images import simple_folder

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Blocks of these kinds are pictures of files and trees. `sh` is only for make targets, checked below.
NOT_RUN = {"text", "sh"}


def blocks(path):
    return BLOCK.findall(path.read_text("utf-8"))


def two_dates(side, seed):
    """Ground before and after (side, side, 3), and where (side, side) bright houses came, 0 and 255."""
    rng = np.random.default_rng(seed)
    before = rng.normal(90, 10, (side, side, 3)).clip(0, 255).astype(np.uint8)
    after = (before * 0.9).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    for top, left in rng.integers(0, side - 16, (max(2, side // 40), 2)):
        after[top : top + 16, left : left + 16] = (230, 180, 160)
        mask[top : top + 16, left : left + 16] = 255
    return before, after, mask


def pairs_and_scene(folder):
    """pairs/ with A, B and label, and a scene of two dates with coordinates, before.tif and after.tif."""
    for name in ("A", "B", "label"):
        (folder / "pairs" / name).mkdir(parents=True)
    for n in range(12):
        for name, pixels in zip(("A", "B", "label"), two_dates(64, n), strict=True):
            Image.fromarray(pixels).save(folder / "pairs" / name / f"{n:02}.png")
    grid = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_400_000, 0.5, 0.5), "driver": "GTiff"}
    for name, pixels in zip(("before.tif", "after.tif"), two_dates(160, 99), strict=False):
        with rasterio.open(folder / name, "w", width=160, height=160, count=3, dtype="uint8", **grid) as file:
            file.write(pixels.transpose(2, 0, 1))


def published_bit(path):
    """A checkpoint with the names of the authors' `base_resnet18`."""
    network = nn.ModuleDict(
        {
            "resnet": models.resnet18(),
            "conv_pred": nn.Conv2d(512, 32, 3, padding=1),
            "classifier": nn.Sequential(
                nn.Conv2d(32, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 2, 3)
            ),
        }
    )
    torch.save({"epoch_id": 12, "model_G_state_dict": network.state_dict()}, path)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """What the documents take for granted.

    photos/, other_photos/, photos.csv, styles.csv, new/cat.jpg, model.pth; pairs/, before.tif, after.tif, best_ckpt.pt.
    """
    folder = tmp_path_factory.mktemp("docs")
    simple_folder(folder / "photos", classes=3, per_class=14)
    images = sorted((folder / "photos").rglob("*.jpg"))
    rows = [f"{path.relative_to(folder)},{path.parent.name},site{n % 12}" for n, path in enumerate(images)]
    (folder / "photos.csv").write_text("\n".join(["path,species,site", *rows]) + "\n")
    rows = [
        [
            path.relative_to(folder),
            path.parent.name,
            ("", "summer", "winter")[n % 3],
            n // 14 * 10 + n % 5,
            n % 2,
            n // 28,
        ]
        for n, path in enumerate(images)
    ]
    header = ["path", "species", "season", "price", "has_tail", "has_wings"]
    (folder / "styles.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in [header, *rows]))
    simple_folder(folder / "other_photos", classes=3, per_class=4, seed=5)
    (folder / "new").mkdir()
    shutil.copy(images[0], folder / "new" / "cat.jpg")
    network = models.resnet18(num_classes=7)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 12}, folder / "model.pth")
    pairs_and_scene(folder)
    published_bit(folder / "best_ckpt.pt")
    return folder


def run(words, folder):
    if words[0] == "regraft":
        words = [sys.executable, "-m", "regraft", *words[1:]]
    done = subprocess.run(words, check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"


DAILY = {"README.md", "change.md", "data.md"}
"""Whose commands every run of the tests tries; those of the others take minutes, and `make nightly` tries them."""


def _in_turn(path):
    has = any(kind not in NOT_RUN for kind, _ in blocks(path))
    return pytest.param(path, marks=[pytest.mark.nightly] if has and path.name not in DAILY else [], id=path.name)


@pytest.mark.parametrize("document", [_in_turn(path) for path in DOCUMENTS])
def test_commands_and_snippets_run(document, workplace, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(workplace, folder)
    for kind, text in blocks(document):
        if kind == "console":
            for line in text.splitlines():
                assert line.startswith("$ "), f"{document.name}: {line!r} is not a command"
                run(shlex.split(line[2:], comments=True), folder)
        elif kind == "python":
            run([sys.executable, "-c", text], folder)
        elif kind == "yaml":  # the next command reads it
            (folder / "my.yaml").write_text(text, "utf-8")
        else:
            assert kind in NOT_RUN, f"{document.name}: a block of kind {kind!r} is run by no test"


def test_make_targets_in_documents_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for document in [*DOCUMENTS, ROOT / "README.zh.md"]:
        for kind, text in blocks(document):
            for line in text.splitlines() if kind == "sh" else []:
                target = re.fullmatch(r"make ([\w-]+)\s*(#.*)?", line.strip())
                assert target, f"{document.name}: {line!r} is not run by any test; use a console block"
                assert re.search(rf"^(\.PHONY:.*\b)?{target[1]}\b.*:", makefile, re.MULTILINE) or (
                    f" {target[1]}" in makefile.split("bench-%")[0]
                ), f"no such target: {target[1]}"


def test_translation_has_the_same_commands():
    """What is run for README.md is thereby run for README.zh.md; only comments may be translated."""

    def bare(path):
        return [(kind, re.sub(r"#.*", "", text).split()) for kind, text in blocks(path)]

    assert bare(ROOT / "README.zh.md") == bare(ROOT / "README.md")


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "README.zh.md", ROOT / "CHANGELOG.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
