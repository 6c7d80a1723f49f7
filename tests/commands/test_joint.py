"""Several backbones trained as one model, end to end on tiny files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import regraft as package
from regraft.backbones.catalogue import build
from regraft.features.store import cache_folder

BOTH = "efficientnet_lite0+efficientnet_lite1"
NAMES = BOTH.split("+")
SHORT = ("--size", 64, "--epochs", 1, "--batch", 8)


@pytest.fixture(autouse=True)
def _one(one_thread):
    pass


def bundle(run):
    return json.loads((Path(run) / "bundle" / "bundle.json").read_text())


def history(run):
    return [json.loads(line) for line in (Path(run) / "history.jsonl").read_text().splitlines()]


def learnt(run, position):
    """Names of a backbone's tensors that training changed."""
    file = "backbone.safetensors" if position == 0 else f"backbone-{position + 1}.safetensors"
    before = build(NAMES[position], cache_folder()).module.state_dict()
    after = load_file(Path(run) / "bundle" / file)
    assert after.keys() == before.keys()
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def test_two_backbones_are_trained_as_one_and_measured_as_any_model(regraft, photos):
    said = regraft("train", photos, "--backbone", BOTH, "--strategy", "finetune", *SHORT, "--force", "--run", "run")
    assert said.code == 0, said.err
    assert "one model of efficientnet_lite0 trained, efficientnet_lite1 trained" in said.err
    facts = bundle("run")
    assert facts["feature_dim"] == 2560
    assert all(card["weights"].endswith("trained by finetune") for card in facts["backbones"])
    assert all("conv_stem.weight" in learnt("run", position) for position in (0, 1))
    again = regraft("evaluate", "run", "--run", "again")
    assert again.code == 0, again.err
    one, other = (json.loads((Path(run) / "metrics.json").read_text()) for run in ("run", "again"))
    assert one["log_loss"] == other["log_loss"], "the same path, so the same digits"
    assert one["backbone"] == BOTH
    assert [p.error for p in package.load("run").predict(sorted(photos.rglob("*.*"))[:2])] == [None, None]


def test_a_frozen_backbone_keeps_every_bit_and_its_rows_in_the_store(regraft, photos):
    words = ("--backbone", BOTH, "--strategy", "finetune", *SHORT, "--force", "--freeze", "efficientnet_lite0")
    said = regraft("train", photos, *words, "--run", "run")
    assert said.code == 0, said.err
    assert "efficientnet_lite0 frozen, efficientnet_lite1 trained" in said.err
    assert not learnt("run", 0)
    assert "conv_stem.weight" in learnt("run", 1)
    first, second = bundle("run")["backbones"]
    assert "trained" not in first["weights"]
    assert "trained by finetune" in second["weights"]
    found = package.embed(photos, backbone=NAMES[0], size=64).table.fingerprints
    assert tuple(space.fingerprint() for space in package.load("run").ready()[0].spaces) == found


def test_lp_ft_starts_from_the_probe_on_all_features(regraft, photos):
    said = regraft("train", photos, "--backbone", BOTH, "--strategy", "lp-ft", *SHORT, "--force", "--run", "run")
    assert said.code == 0, said.err
    start = history("run")[0]
    probe = float(re.search(r"linear probe on the frozen backbone (\d\.\d+)", said.err)[1])
    assert start["step"] == 0
    assert start["val_accuracy"] == pytest.approx(probe, abs=1e-4), "of one size, so only digits differ"


def test_scratch_leaves_a_frozen_backbone_its_pretraining(regraft, photos):
    words = ("--backbone", BOTH, "--strategy", "scratch", *SHORT, "--freeze", NAMES[1], "--run", "run")
    assert regraft("train", photos, *words).code == 0
    assert not learnt("run", 1)
    first, second = bundle("run")["backbones"]
    assert first["weights"] == "scratch"
    assert second["weights"] != "scratch"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--strategy", "partial"), r"partial trains one backbone, not 2.*finetune, lp-ft, scratch"),
        (("--strategy", "lora"), "lora trains one backbone, not 2"),
        (("--strategy", "finetune", "--head", "conv"), "--head conv is for one backbone, not 2"),
        (
            ("--strategy", "finetune", "--freeze", "resnet"),
            f"'resnet' is none of the backbones: use {', '.join(NAMES)}",
        ),
        (("--strategy", "finetune", "--freeze", ",".join(NAMES)), "leaves nothing of .* to train"),
        (("--strategy", "linear-probe", "--freeze", NAMES[0]), "--freeze has no effect with --strategy linear-probe"),
        (("--strategy", "finetune", "--freeze", f"{NAMES[0]},"), "freeze '' is none of the backbones"),
    ],
)
def test_what_has_no_meaning_is_a_sentence(regraft, photos, words, expected):
    said = regraft("train", photos, "--backbone", BOTH, *words)
    assert said.code != 0
    assert re.search(expected, said.err), said.err
    assert not Path("runs").exists()


def test_freezing_the_only_backbone_is_a_sentence(regraft, photos):
    said = regraft("train", photos, "--strategy", "finetune", "--freeze", NAMES[0])
    assert said.code != 0
    assert "no effect with one backbone" in said.err


def test_a_stopped_training_goes_on_exactly(regraft, photos, monkeypatch):
    words = ("--backbone", BOTH, "--strategy", "finetune", "--size", 64, "--epochs", 2, "--batch", 8, "--force")
    words = (*words, "--freeze", NAMES[0], "--head", "mlp")
    assert regraft("train", photos, *words, "--run", "whole").code == 0
    from regraft.training import loop

    original, steps = loop._count, [0]

    def count(run, told, stepper):
        original(run, told, stepper)
        steps[0] += 1
        if steps[0] == 5:
            run.asked.signal = 15

    monkeypatch.setattr(loop, "_count", count)
    stopped = regraft("train", photos, *words, "--run", "cut")
    assert stopped.code != 0
    assert "--resume cut" in stopped.err
    monkeypatch.setattr(loop, "_count", original)
    said = regraft("train", "--resume", "cut")
    assert said.code == 0, said.err
    for name in ("backbone.safetensors", "backbone-2.safetensors", "head.safetensors"):
        assert (Path("whole") / "bundle" / name).read_bytes() == (Path("cut") / "bundle" / name).read_bytes(), name
    losses = [[row["train_loss"] for row in history(run)] for run in ("whole", "cut")]
    np.testing.assert_array_equal(*losses)
