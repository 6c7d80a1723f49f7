"""Which images a head is judged by, what is told of it, and that the measured part has no say."""

from dataclasses import replace

import numpy as np
import pytest

from regraft import heads
from regraft.data.manifest import Item, Manifest
from regraft.errors import OptionError
from regraft.evaluation.abstaining import Threshold, choose_threshold
from regraft.evaluation.predictions import Predictions, softmax
from regraft.features.table import FeatureTable
from regraft.heads.calibrated import held_out_logits
from regraft.inference.guard import Guard
from regraft.recipes.gather import Gathered
from regraft.recipes.guard_head import check_guarding, check_judges, guard_head, tell_kept
from regraft.recipes.listen import Clock, Listener


def gathered(sizes, seed=0, apart=0.8):
    """Three clouds in 16 dimensions, so many images in each split."""
    generator = np.random.default_rng(seed)
    splits = [split for split, size in sizes.items() for _ in range(size)]
    targets = np.arange(len(splits)) % 3
    middles = np.random.default_rng(9).normal(size=(3, 16)) * apart
    features = (middles[targets] + generator.normal(size=(len(splits), 16)) + 3).astype(np.float32)
    items = tuple(
        Item(f"/{n}", "abc"[t], s, key=f"{n:064x}") for n, (s, t) in enumerate(zip(splits, targets, strict=True))
    )
    return Gathered(
        Manifest(items, ("a", "b", "c"), "clouds"),
        FeatureTable(tuple(i.key for i in items), features, ("f",)),
        (),
        None,
    )


WITH_TEST = {"train": 90, "val": 120, "test": 60}
WITHOUT = {"train": 120, "val": 60}


def fit(data, name="nearest-mean"):
    train = data.split("train")
    return heads.fit(name, train.table.features, np.array(train.manifest.targets()), 3)


def guarded(data, refit="nearest-mean", **options):
    said = []
    listener = Listener(say=said.append)
    found = guard_head(data, fit(data), refit, Clock.start(listener), listener, **options)
    assert tuple(said) == found.notes
    return found


def threshold_by_hand(logits, targets, target=0.8):
    return choose_threshold(softmax(logits).max(axis=1), logits.argmax(axis=1) == targets, target)


def test_validation_images_judge_where_there_is_a_test_part():
    data = gathered(WITH_TEST)
    found = guarded(data, method="none", abstain_at=0.8)
    val = data.split("val")
    logits = fit(data).head.logits(val.table.features)
    assert found.guard.threshold == threshold_by_hand(logits, np.array(val.manifest.targets()))
    assert found.notes[-1].count("120 validation images") == 1
    assert found.fitted.chosen["unsure_below"] == found.guard.threshold.value


def test_held_out_training_images_judge_where_there_is_none():
    data = gathered(WITHOUT)
    found = guarded(data, method="none", abstain_at=0.8)
    train = data.split("train")
    targets = np.array(train.manifest.targets())
    rows, logits = held_out_logits("nearest-mean", train.table.features, targets, 3)
    assert found.guard.threshold == threshold_by_hand(logits, targets[rows])
    assert "120 training images held out in turn" in found.notes[-1]


@pytest.mark.parametrize("sizes", [WITH_TEST, WITHOUT])
@pytest.mark.parametrize("method", ["auto", "temperature", "isotonic"])
def test_the_part_that_is_measured_has_no_say(sizes, method):
    """Other images and labels there change nothing."""
    data, measured = gathered(sizes), list(sizes)[-1]
    last = np.array([item.split == measured for item in data.manifest.items])
    other = np.where(last[:, None], -data.table.features * 5, data.table.features)
    items = tuple(replace(i, label="a") if i.split == measured else i for i in data.manifest.items)
    changed = replace(data, table=replace(data.table, features=other), manifest=replace(data.manifest, items=items))
    one, two = (guarded(d, method=method, abstain_at=0.8) for d in (data, changed))
    assert one.guard.threshold == two.guard.threshold
    features = gathered(WITH_TEST, seed=5).table.features
    assert np.array_equal(one.fitted.head.logits(features), two.fitted.head.logits(features))
    assert np.array_equal(one.guard.unlike(features), two.guard.unlike(features))


def test_calibration_is_told_and_kept():
    found = guarded(gathered(WITH_TEST), method="isotonic")
    assert found.fitted.head.name == "calibrated"
    assert found.fitted.chosen["calibration"] == "isotonic"
    assert "fewer than 1,000" in found.notes[0]
    assert found.guard.threshold is None
    heat = guarded(gathered(WITHOUT), method="temperature")
    assert heat.fitted.chosen["calibration"].startswith("temperature ")
    assert "held out in turn" in heat.notes[0]


def test_auto_without_a_test_part_leaves_the_head():
    data = gathered(WITHOUT)
    found = guarded(data)
    assert found.fitted.head.name == fit(data).head.name
    assert found.notes == ()
    assert found.guard.familiar is not None


def test_a_trained_network_is_familiar_with_validation_images_only_beside_a_test_part():
    for sizes, known in (({"val": 30, "test": 30}, True), ({"val": 30}, False)):
        data = gathered(sizes)
        found = guard_head(data, fit(gathered(WITH_TEST)), None, Clock.start(Listener()), Listener())
        assert (found.guard.familiar is not None) == known


def test_nothing_to_hold_out_is_told():
    data = gathered({"train": 3, "val": 6})
    found = guarded(data, method="isotonic", abstain_at=0.9)
    assert found.guard.threshold is None
    assert "no image can be held out" in found.notes[0]


@pytest.mark.parametrize("value", [0, 1, 1.5, -1, "0.9", True, float("nan")])
def test_accuracies_that_mean_nothing_are_refused(value):
    with pytest.raises(OptionError, match="abstain-at"):
        check_guarding("auto", value)


def test_options_are_checked():
    check_guarding("isotonic", 0.9)
    check_guarding("auto", None)
    with pytest.raises(OptionError, match="temperature"):
        check_guarding("platt", None)


def test_a_trained_network_needs_a_test_part_to_be_judged():
    check_judges(gathered(WITH_TEST), "isotonic", 0.9)
    check_judges(gathered(WITHOUT), "auto", None)
    with pytest.raises(OptionError, match="--abstain-at needs"):
        check_judges(gathered(WITHOUT), "auto", 0.9)
    with pytest.raises(OptionError, match="--calibrate isotonic needs"):
        check_judges(gathered(WITHOUT), "isotonic", None)


@pytest.mark.parametrize(
    ("value", "promised", "said"),
    [
        (0.75, 0.9, "unsure: 2 of 4 test images; of those kept 0.500 are right (95 % interval 0.095 to 0.905)"),
        (0.75, 0.5, "an accuracy of 0.8 could not be promised"),
        (0.75, 0.9, "fewer than the 0.8 that was asked for"),
        (0.99, 0.9, "unsure: 4 of 4 test images"),
    ],
)
def test_what_is_kept_of_measured_images_is_told(value, promised, said):
    confidence, names = np.array([0.9, 0.8, 0.7, 0.6]), tuple("abcd")
    logits = np.log(np.column_stack([confidence, 1 - confidence]))
    told = []
    threshold = Threshold(value, 0.8, promised, 1.0, 1.0, 50)
    predictions = Predictions(names, names, ("x", "y"), np.array([0, 1, 0, -1]) % 2, logits)
    tell_kept(Guard(threshold), predictions, "test", Listener(say=told.append))
    assert len(told) == 1
    assert said in told[0]
    tell_kept(Guard(), predictions, "test", Listener(say=told.append))
    assert len(told) == 1
