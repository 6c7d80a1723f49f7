"""The options of a training on pairs: what is refused, and what fills the gaps."""

import inspect
from types import SimpleNamespace

import pytest

import regraft
from regraft.errors import OptionError
from regraft.losses.pixels import parse_loss
from regraft.models.change.spec import parse_model
from regraft.recipes.catalogue import strategy
from regraft.recipes.change_options import (
    CHANGE,
    DEFAULT,
    LINEAR,
    OFFICIAL,
    PRESETS,
    STRATEGIES,
    check_change,
    check_not_change,
    recipe_for,
)
from regraft.training.schedules import parse_schedule


def options_of(**given):
    parameters = inspect.signature(regraft.train).parameters
    return {n: p.default for n, p in parameters.items() if n != "listener"} | {"data": "town"} | given


def check(name="auto", **given):
    options = options_of(strategy=name, **given)
    check_change(SimpleNamespace(**options), options, strategy(name), regraft.train)


@pytest.mark.parametrize("name", ["auto", *STRATEGIES])
def test_what_nobody_set_is_fine(name):
    check(name)


@pytest.mark.parametrize(
    "given",
    [
        {"backbone": "timm/resnet18", "model": "bit:token_len=2", "loss": "focal+dice", "size": 128},
        {"augment": "heavy", "ema": True, "optimiser": "sgd", "schedule": "step:7:0.1", "class_weights": "balanced"},
        {"preset": "official", "metric": "loss", "early_stop": 3, "eval_every": 10, "tensorboard": True},
        {"init": "file:a.pt@bit", "part": "model_G_state_dict", "trust": True},
        {"budget": "10m", "lr": 1e-3, "layer_decay": 0.8, "weight_decay": 0.1, "clip": 0.0, "accumulate": 2},
        {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0), "resplit": True, "seed": 4, "devices": 2},
    ],
)
def test_what_has_a_meaning_is_fine(given):
    check(**given)
    check_not_change(options_of(strategy="finetune", ema=True), regraft.train)


@pytest.mark.parametrize("name", ["svm", "knn", "lp-ft", "partial", "gradual", "lora"])
def test_other_strategies_are_refused_with_those_there_are(name):
    with pytest.raises(
        OptionError, match=f"strategy {name} is not for change detection: use finetune, scratch, linear-"
    ):
        check(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("views", "flip"), ("runtime", "torch"), ("calibrate", "none"), ("abstain_at", 0.9), ("unfreeze_from", "x"),
        ("freeze", "x"), ("task_weights", "uncertainty"), ("head", "mlp"), ("mixup", 0.2), ("smoothing", 0.0),
        ("force", True), ("features", "x.npz"), ("root", "x"), ("label", "x"), ("path_column", "x"),
        ("split_column", "x"), ("group_column", "x"),
    ],
)  # fmt: skip
def test_an_option_without_effect_is_refused_by_its_name(name, value):
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} has no effect with change detection"):
        check(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("augment", "light"), ("layer_decay", 0.5), ("ema", True), ("init", "x")])
def test_a_probe_has_no_use_for_what_trains_a_network(name, value):
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} has no effect with --strategy linear-probe"):
        check("linear-probe", **{name: value})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"metric": "macro_f1"}, "F1 of changed pixels, or by --metric loss"),
        ({"metric": "balanced_accuracy"}, "metric balanced_accuracy"),
        ({"backbone": "a+b"}, "one backbone, not a"),
        ({"augment": "my.yaml"}, "none, light, default, heavy"),
        ({"preset": "ours"}, "preset 'ours' is unknown"),
        ({"size": 31}, "size is 31"),
        ({"size": 5000}, "size is 5000"),
        ({"size": True}, "size is True"),
        ({"init": "file:a.pt"}, "file:FILE@bit"),
        ({"init": "a.pt@bit"}, "file:FILE@bit"),
        ({"init": "file:a.pt@bit", "model": "bit"}, "--model follows from the checkpoint"),
        ({"init": "file:a.pt@bit", "backbone": "timm/resnet18"}, "--backbone follows from the checkpoint"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 3, "budget": "1m"}, "one of them"),
        ({"lr": 100.0}, "lr is 100"),
        ({"schedule": "step:7"}, "step:7:0.1"),
    ],
)
def test_values_that_would_fail_are_refused_early(given, told):
    with pytest.raises(OptionError) as error:
        check(**given)
    assert told in str(error.value)


@pytest.mark.parametrize("name", CHANGE)
def test_what_only_pairs_have_is_refused_elsewhere(name):
    with pytest.raises(OptionError, match=f"--{name} is for change detection"):
        check_not_change(options_of(**{name: "x"}), regraft.train)


def test_the_recipe_follows_from_preset_and_strategy():
    def recipe(name, preset=None):
        return recipe_for(SimpleNamespace(preset=preset), name)

    assert recipe("finetune") is recipe("scratch") is DEFAULT
    assert recipe("linear-probe") is LINEAR
    assert recipe("finetune", "official") is OFFICIAL


def test_the_official_preset_is_the_publication_s():
    # Chen, Qi and Shi 2021 (arXiv 2103.00208) and their training script.
    assert (OFFICIAL.optimiser, OFFICIAL.lr, OFFICIAL.weight_decay, OFFICIAL.batch) == ("sgd", 0.01, 5e-4, 8)
    assert (OFFICIAL.schedule, OFFICIAL.longest, OFFICIAL.loss) == ("linear", 200, "ce")
    assert OFFICIAL.plain
    assert OFFICIAL.head_lr == OFFICIAL.lr
    assert parse_model(OFFICIAL.model).neck.neck == "last"


@pytest.mark.parametrize("recipe", [DEFAULT, LINEAR, *PRESETS.values()])
def test_every_recipe_can_be_built(recipe):
    assert parse_model(recipe.model).text == recipe.model
    assert parse_loss(recipe.loss).text == recipe.loss
    parse_schedule(recipe.schedule)
    assert recipe.lr > 0
    assert recipe.longest >= 1
