"""Every command and snippet of the README and the documents is run, in order, in one folder a document."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision import models

from odd_images import simple_folder

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Blocks of these kinds are pictures of files and trees. `sh` is only for make targets, checked below.
NOT_RUN = {"text", "sh"}


def blocks(path):
    return BLOCK.findall(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """What the documents take for granted: photos/, other_photos/, photos.csv, styles.csv, new/cat.jpg, model.pth."""
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
    return folder


def run(words, folder):
    if words[0] == "regraft":
        words = [sys.executable, "-m", "regraft", *words[1:]]
    done = subprocess.run(words, check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
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
