"""The catalogue, the command that repeats a run, and the batch that is shown."""

import shlex
from collections import Counter
from pathlib import Path

import pytest

from regraft import heads
from regraft.data.manifest import Item, Manifest
from regraft.errors import OptionError, RunExists
from regraft.recipes.catalogue import STRATEGIES, strategy
from regraft.recipes.evaluate import evaluate
from regraft.recipes.listen import Clock
from regraft.recipes.run import choose_folder, command_line
from regraft.recipes.show import labelled_batch
from regraft.recipes.train import train
from regraft.recipes.training_options import seconds_of


def test_every_strategy_has_a_head_that_exists():
    assert {s.head for s in STRATEGIES.values()} == set(heads.NAMES)
    assert strategy("mlp").name == "mlp-head"
    with pytest.raises(OptionError, match=r"linear-probe.*Did you mean linear-probe"):
        strategy("linear-prob")


def test_the_command_names_what_differs_from_the_defaults():
    options = {"data": "my photos", "seed": 3, "overwrite": True, "backbone": "efficientnet_lite0", "run": Path("r")}
    words = shlex.split(command_line(train, options))
    assert words == ["regraft", "train", "my photos", "--run", "r", "--overwrite", "--seed", "3"]
    assert command_line(evaluate, {"model": "r", "data": None}) == "regraft evaluate r"


def test_folders_of_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert choose_folder(None, "a", overwrite=False) == Path("runs/a")
    Path("runs/a").mkdir(parents=True)
    assert choose_folder(None, "a", overwrite=False) == Path("runs/a-2")
    with pytest.raises(RunExists, match="runs/a"):
        choose_folder("runs/a", "a", overwrite=False)
    with pytest.raises(RunExists, match="is not a run"):
        choose_folder("runs/a", "a", overwrite=True)
    Path("runs/a/metrics.json").write_text("{}")
    assert choose_folder("runs/a", "a", overwrite=True) == Path("runs/a")
    Path("runs/a/thesis.txt").write_text("")
    with pytest.raises(RunExists, match="is not a run"):
        choose_folder("runs/a", "a", overwrite=True)


def test_batches_show_all_classes_alike():
    items = tuple(Item(f"/{n}", "big" if n < 90 else "small") for n in range(100))
    manifest = Manifest(items, ("big", "small"), "test")
    batch = labelled_batch(manifest, 12, seed=1)
    assert Counter(item.label for item in batch) == {"big": 6, "small": 6}
    assert batch == labelled_batch(manifest, 12, seed=1)
    assert batch != labelled_batch(manifest, 12, seed=2)
    assert len(labelled_batch(manifest, 1000)) == 100
    assert Counter(item.label for item in labelled_batch(manifest, 30)) == {"big": 20, "small": 10}


def test_clock_adds_up():
    clock = Clock()
    clock.add("a", 1.0)
    clock.add("a", 0.5)
    with clock.phase("b"):
        pass
    clock.import_now("json")
    assert clock.seconds["a"] == 1.5
    assert list(clock.rounded()) == ["a", "b", "import"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("1h30m", 5400), (" 1H 30m 5s", 5405), ("10 m", 600)]
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "30m1h", "1h30", "soon", "-5s", "1e3", "h", None])
def test_what_is_no_time(text):
    with pytest.raises(OptionError, match="1h30m"):
        seconds_of(text)
