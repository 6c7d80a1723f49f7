"""Several tasks taught to the network at once, on a few small images of which much is not known."""

import csv
import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import regraft
from odd_images import simple_folder
from regraft.backbones.recognise import FileOptions
from regraft.errors import OptionError
from regraft.features.store import cache_folder, usable_cache
from regraft.heads.tasks import TaskHeads
from regraft.recipes.begun import Begun
from regraft.recipes.catalogue import strategy
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.task_training import fine_tune_tasks
from regraft.recipes.tasks_data import gather_tasks

LABELS = ["kind", "tags:multilabel", "price:regression"]


@pytest.fixture(autouse=True)
def _one(one_thread):
    pass


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    simple_folder(folder / "photos", classes=3, per_class=14)
    rows = []
    for number, path in enumerate(sorted((folder / "photos").rglob("*.*"))):
        kind = int(path.parent.name[-1])
        tags = "|".join(name for name, there in (("a", kind == 0), ("b", kind < 2)) if there) or "|"
        price = f"{100 + 10 * kind + number % 3}"
        known = [number % 5 != 1, number % 6 != 2, number % 7 != 3]
        cells = [cell if there else "" for cell, there in zip((path.parent.name, tags, price), known, strict=True)]
        rows.append([path, *cells])
    target = folder / "table.csv"
    with target.open("w", newline="") as handle:
        csv.writer(handle).writerows([["path", "kind", "tags", "price"], *rows])
    return target


def train(table, target, **given):
    defaults = {n: p.default for n, p in inspect.signature(regraft.train).parameters.items() if n != "listener"}
    options = {**defaults, "data": table, "label": LABELS, "size": 64, "epochs": 1, "batch": 8, "force": True, **given}
    listener, cache, plan = Listener(), usable_cache(cache_folder()), strategy(options["strategy"])
    clock = Clock.start(listener)
    found = gather_tasks(SimpleNamespace(**options), plan, FileOptions(size=64), cache, clock, listener)
    backbones, gathered, data = found
    options["run"] = target
    own = (options, plan, gathered, backbones, cache, target, target.name, (), None, clock, listener)
    return fine_tune_tasks(Begun(*own), data, None)


def history(run):
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_a_trained_trunk_has_a_head_a_task_and_is_told_beside_the_frozen_ones(table, tmp_path):
    run = train(table, tmp_path / "run", strategy="finetune", task_weights="uncertainty", mixup=0.2)
    names = ["kind", "tags", "price"]
    (row,) = history(tmp_path / "run")
    assert row["val_score"] == pytest.approx(np.mean([max(0, row[f"val_task/{name}"]) for name in names]))
    assert row["train_loss"] == pytest.approx(sum(row[f"train_task/{name}"] for name in names), rel=1e-4)
    assert row["weighing_lr"] > row["head_lr"] > row["lr"]
    tasks = run.metrics["tasks"]
    assert list(tasks) == names
    assert all(tasks[name]["alone"] is not None for name in names)
    assert run.metrics["strategy"] == "finetune"
    bundle = regraft.load(tmp_path / "run").bundle
    assert isinstance(bundle.head, TaskHeads)
    assert [part.head.name for part in bundle.head.parts] == ["linear-probe", "multilabel", "ridge"]
    assert len(bundle.head.parts[1].thresholds) == 2
    assert bundle.cards[0].weights.endswith("trained by finetune")
    told = bundle.head.logits(np.zeros((1, bundle.feature_dim), np.float32))
    assert 80 < told[0, -1] < 150, "numbers are told in their own unit"
    assert not Path(f"{tmp_path / 'run'}.training").exists()


def test_lp_ft_starts_where_the_frozen_heads_are(table, tmp_path):
    run = train(table, tmp_path / "run", strategy="lp-ft", precision="f32", augment="none", force=False, lr=1e-12)
    start, row = history(tmp_path / "run")
    assert start["step"] == 0
    assert row["val_score"] == pytest.approx(start["val_score"], abs=1e-6), "at no rate nothing moves"
    tasks = run.metrics["tasks"]
    assert run.metrics["strategy"] == "linear-probe", "no epoch was better than the start"
    assert all(one["value"] == pytest.approx(one["alone"]) for one in tasks.values())


def test_a_metric_of_one_task_is_refused(table, tmp_path):
    with pytest.raises(OptionError, match="metric macro_f1 is of one task"):
        train(table, tmp_path / "run", strategy="finetune", metric="macro_f1")
    assert not list(tmp_path.iterdir())
