"""What is wrong with pairs or options is told in one sentence, with exit code 2, and nothing is left behind."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from change_pairs import write_pairs

SMALL = ("--size", 64, "--epochs", 1, "--batch", 4)


def files(folder):
    return sorted(str(path) for path in Path(folder).rglob("*"))


def refused(regraft, *words):
    """What a refusal says; nothing may be there that was not there before."""
    before = files(".")
    said = regraft(*words)
    assert said.code == 2, said.err
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("regraft: "), said.err
    assert files(".") == before
    return last


def save(path, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def test_a_date_without_its_partner(regraft, pairs):
    (pairs / "B" / "p03.png").unlink()
    last = refused(regraft, "train", pairs, *SMALL)
    assert "p03" in last
    assert str(pairs / "B") in last
    assert "partner" in last


def test_a_missing_label(regraft, pairs):
    (pairs / "label" / "p03.png").unlink()
    last = refused(regraft, "train", pairs, *SMALL)
    assert "without a label of the same name" in last
    assert "p03" in last


def test_no_labels_at_all(regraft, pairs):
    shutil.rmtree(pairs / "label")
    assert "no folder of labels" in refused(regraft, "train", pairs, *SMALL)


def test_wrong_label_values_name_the_file_and_the_values(regraft, pairs):
    mask = np.zeros((64, 64))
    mask[:9], mask[9:20] = 128, 77
    save(pairs / "label" / "p05.png", mask)
    last = refused(regraft, "train", pairs, *SMALL)
    assert str(pairs / "label" / "p05.png") in last
    assert "0, 77, 128" in last


def test_masks_in_which_nothing_changed_teach_nothing(regraft, tmp_path):
    write_pairs(tmp_path / "d", 6, changed=False)
    assert "nothing to learn" in refused(regraft, "train", "d", *SMALL)


@pytest.mark.parametrize("kind", ["B", "label"])
def test_unequal_sizes_name_both_files(regraft, pairs, kind):
    shape = (64, 48) if kind == "label" else (64, 48, 3)
    save(pairs / kind / "p02.png", np.zeros(shape))
    last = refused(regraft, "train", pairs, *SMALL)
    for told in (str(pairs / "A" / "p02.png"), str(pairs / kind / "p02.png"), "64x64", "48x64"):
        assert told in last


def test_a_list_that_names_what_is_not_there(regraft, pairs):
    with (pairs / "list" / "val.txt").open("a") as handle:
        handle.write("nowhere.png\n")
    assert "nowhere" in refused(regraft, "train", pairs, *SMALL)


def test_one_corrupt_tile_is_put_aside_and_many_stop(regraft, pairs):
    for name in ("A/p00.png", "label/p09.png"):
        path = pairs / name
        path.write_bytes(path.read_bytes()[:60])
    last = refused(regraft, "train", pairs, *SMALL)
    assert "--max-rejected" in last
    said = regraft("train", pairs, *SMALL, "--max-rejected", 0.2, "--run", "r")
    assert said.code == 0, said.err
    with (Path("r") / "rejected.csv").open() as handle:
        assert {Path(row[0]).relative_to(pairs).as_posix() for row in list(csv.reader(handle))[1:]} == {
            "A/p00.png",
            "label/p09.png",
        }
    with (Path("r") / "manifest.csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == 10


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--views", "flip"), "--views has no effect with change detection"),
        (("--head", "mlp"), "--head has no effect"),
        (("--mixup", 0.2), "--mixup has no effect"),
        (("--smoothing", 0.1), "--smoothing has no effect"),
        (("--calibrate", "isotonic"), "--calibrate has no effect"),
        (("--abstain-at", 0.9), "--abstain-at has no effect"),
        (("--runtime", "openvino"), "--runtime has no effect"),
        (("--force",), "--force has no effect"),
        (("--unfreeze-from", "blocks.6"), "--unfreeze-from has no effect"),
        (("--label", "x"), "--label has no effect"),
        (("--metric", "macro_f1"), "metric macro_f1 is of one class an image"),
        (("--backbone", "efficientnet_lite0+timm/resnet18"), "one backbone, not"),
        (("--strategy", "svm"), "strategy svm is not for change detection"),
        (("--strategy", "lora"), "strategy lora is not for change detection"),
        (("--augment", "wild"), "none, light, default, heavy"),
        (("--preset", "mine"), "preset 'mine' is unknown"),
        (("--preset", "official", "--strategy", "linear-probe"), "preset 'official'"),
        (("--size", 31), "size is 31"),
        (("--epochs", 0), "epochs is 0"),
        (("--loss", "ce+iou"), "there is no loss 'iou'"),
        (("--model", "snunet"), "there is no model 'snunet'"),
        (("--model", "bit:tokens=none"), "bit:tokens=none"),
        (("--model", "linear"), "--strategy linear-probe"),
        (("--model", "bit", "--strategy", "linear-probe"), "belong together"),
        (("--augment", "light", "--strategy", "linear-probe"), "--augment has no effect with --strategy linear-probe"),
        (("--init", "best.pt"), "file:FILE@bit"),
        (("--init", "file:none.pt@bit"), "none.pt"),
        (("--init", "file:none.pt@bit", "--model", "unet"), "--model follows from the checkpoint"),
        (("--init", "file:none.pt@bit", "--backbone", "timm/resnet18"), "--backbone follows from the checkpoint"),
        (("--backbone", "resnet9999"), "resnet9999"),
        (("--budget", "0.0001s"), "less than one epoch takes"),
        (("--resume", "runs/none"), "runs/none"),
    ],
)
def test_careless_words_get_a_sentence(regraft, pairs, words, told):
    assert told in refused(regraft, "train", pairs, *words)


@pytest.mark.parametrize("words", [("--model", "unet"), ("--loss", "dice"), ("--preset", "official"), ("--init", "x")])
def test_options_of_pairs_are_refused_with_single_images(regraft, photos, words):
    assert "is for change detection" in refused(regraft, "train", photos, *words)


def test_asking_for_pairs_where_there_are_none(regraft, photos):
    assert "no change pairs" in refused(regraft, "train", photos, "--task", "change")
    assert "change pairs" in refused(regraft, "train", "--task", "change")
    assert "nowhere" in refused(regraft, "train", "nowhere", "--task", "change")
    assert "sample:textile" in refused(regraft, "train", "sample:textile", "--task", "change")


def test_a_run_that_is_there_is_not_replaced(regraft, pairs, trained):
    shutil.copytree(trained, "r")
    assert "--overwrite" in refused(regraft, "train", pairs, *SMALL, "--run", "r")
    assert "--overwrite" in refused(regraft, "evaluate", trained, "--run", "r")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--split", "test"), "split 'test' is not in"),
        (("--label", "x"), "--label has no effect"),
        (("--runtime", "openvino"), "runs on torch"),
        (("--features", "x.npz"), "--features has no effect"),
    ],
)
def test_evaluation_refuses_what_it_cannot_do(regraft, pairs, trained, words, told):
    assert told in refused(regraft, "evaluate", trained, pairs, *words)


def test_a_changed_bundle_is_refused(regraft, pairs, trained):
    shutil.copytree(trained / "bundle", "b")
    path = Path("b") / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    picture = pairs / "A" / "p00.png"
    assert "head.safetensors was changed" in refused(regraft, "predict", "b", picture, picture, "-o", "o.png")
    assert "head.safetensors was changed" in refused(regraft, "evaluate", "b", pairs)
    facts = Path("b") / "bundle.json"
    facts.write_text(facts.read_text().replace('"tile": 64', '"tile": 32'))
    assert "bundle.json was changed" in refused(regraft, "predict", "b", picture, picture, "-o", "o.png")
