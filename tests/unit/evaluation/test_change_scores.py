"""What found changes are worth: pairs, intervals over them, words."""

import json
import math

import numpy as np
import pytest

from regraft.errors import DataError
from regraft.evaluation.change import BINS, SCORES, PixelCounts, count, total
from regraft.evaluation.change_scores import evaluate_change

CLASSES = ("unchanged", "changed")


def pair(seed, side=24, share=0.1, good=2.0):
    """Probabilities and label of one pair, in which more or less changed and is found more or less well."""
    rng = np.random.default_rng(seed)
    label = (rng.random((side, side)) < share).astype(np.uint8)
    change = 1 / (1 + np.exp(-(rng.normal(size=(side, side)) - 2 + 2 * good * label)))
    return np.stack([1 - change, change]).astype(np.float32), label


def pairs(n=25):
    rng = np.random.default_rng(7)
    return [pair(i, share=rng.uniform(0.02, 0.3), good=rng.uniform(0.5, 2.5)) for i in range(n)]


def evaluated(n=25, **options):
    counts = [count(*one) for one in pairs(n)]
    return evaluate_change([f"{i}.png" for i in range(n)], counts, CLASSES, 0.5, **options)


def same(a, b):
    return a == pytest.approx(b, nan_ok=True)


def test_neither_order_nor_tiles_change_anything():
    whole = evaluated()
    names, counts = [], []
    for i, (probabilities, label) in reversed(list(enumerate(pairs()))):
        for y in (0, 11):
            rows = slice(y, 11 if y == 0 else None)
            names.append(f"{i}.png")
            counts.append(count(probabilities[:, rows], label[rows]))
    tiled = evaluate_change(names, counts, CLASSES, 0.5)
    assert same(tiled.scores, whole.scores)
    for name in SCORES:
        assert same(tiled.intervals[name], whole.intervals[name])
    assert tiled.per_pair == whole.per_pair
    assert tiled.n == whole.n == 25


def test_intervals_are_over_pairs():
    """The bootstrap against one written out with a loop; and it is much wider than one over pixels would be."""
    whole = evaluated()
    counts = [count(*one) for one in pairs()]
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(600):
        tp = fp = fn = 0
        for i in rng.integers(0, 25, 25):
            (_, false), (missed, found) = counts[i].confusion.tolist()
            tp, fp, fn = tp + found, fp + false, fn + missed
        drawn.append(2 * tp / (2 * tp + fp + fn))
    low, high = whole.intervals["f1"]
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)
    assert low < whole.scores["f1"] < high
    assert high - low > 0.04
    assert evaluated().intervals == whole.intervals
    assert evaluated(seed=1).intervals != whole.intervals


def test_each_pair_has_its_own_pixels():
    whole = evaluated(6)
    for one, (probabilities, label) in zip(whole.per_pair, pairs(6), strict=True):
        said = probabilities[1] >= 0.5
        assert (one.found, one.false, one.missed) == (
            (said & (label == 1)).sum(),
            (said & (label == 0)).sum(),
            (~said & (label == 1)).sum(),
        )
        assert one.iou == pytest.approx(one.found / (one.found + one.wrong))
    assert sum(one.pixels for one in whole.per_pair) == whole.counts.pixels == 6 * 24 * 24
    assert whole.false == sum(one.false for one in whole.per_pair)


def test_the_words():
    whole = evaluated(split="test")
    low, high = whole.intervals["f1"]
    assert whole.sentence().startswith(
        f"test change F1 {whole.scores['f1']:.3f} (95 % interval {low:.3f} to {high:.3f}"
    )
    assert "25 pairs" in whole.sentence()
    share = whole.counts.changed / whole.counts.pixels
    assert f"gives {2 * share / (1 + share):.3f})" in whole.sentence()
    assert whole.caution == ""
    assert not whole.notes
    assert "threshold was chosen on it" in evaluated(split="val", chosen_here=True).caution
    assert "3 of 25 pairs were" in evaluated(seen=3).caution
    assert "7 pairs" in evaluated(7).notes[0]


def test_json_holds_all_of_it():
    whole = evaluated()
    content = json.loads(json.dumps(whole.to_json(), allow_nan=False))
    assert [name for name in content if name in SCORES] == list(SCORES)
    assert content["f1"] == whole.scores["f1"]
    assert np.array_equal(content["histogram"], whole.counts.histogram)
    assert content["per_pair"][3]["name"] == whole.per_pair[3].name
    assert content["per_class"][1]["f1"] == whole.scores["f1"]
    assert content["per_class"][1]["support"] == whole.counts.changed


def test_the_threshold_decides_the_table():
    counts = [count(*one) for one in pairs()]
    high = evaluate_change([str(i) for i in range(25)], counts, CLASSES, 0.9)
    assert high.threshold == 230 / BINS
    assert high.scores["recall"] < evaluated().scores["recall"]
    assert high.table[1, 1] / high.table[1].sum() == pytest.approx(high.scores["recall"])
    assert np.array_equal(evaluated().table, evaluated().counts.confusion)


def test_nothing_changed_is_told():
    counts = [count(*pair(i, share=0)) for i in range(3)]
    whole = evaluate_change(list("abc"), counts, CLASSES, 0.5)
    assert "not defined" in whole.sentence()
    assert "not defined" in whole.notes[0]
    assert all(math.isnan(bound) for bound in whole.intervals["f1"])
    content = json.loads(json.dumps(whole.to_json(), allow_nan=False))
    assert content["f1"] is None
    assert content["accuracy"] == whole.scores["accuracy"]
    assert content["baseline_f1"] is None
    assert whole.per_pair[0].f1 is None


def test_pairs_without_change_are_drawn_too():
    counts = [count(*pair(0)), *(count(*pair(i, share=0)) for i in range(1, 4))]
    low, high = evaluate_change(list("abcd"), counts, CLASSES, 0.5).intervals["f1"]
    assert 0 < low < high < 1


def test_one_pair_has_no_interval():
    whole = evaluate_change(["a"], [count(*pair(0))], CLASSES, 0.5)
    assert math.isnan(whole.intervals["f1"][0])
    assert "interval" not in whole.sentence()
    assert "single pair" in whole.notes[0]
    assert whole.to_json()["intervals"]["f1"] == [None, None]


def test_more_classes_and_one_that_is_absent():
    label = np.zeros((8, 8), np.uint8)
    label[:4] = 1
    probabilities = np.full((3, 8, 8), 0.1, np.float32)
    probabilities[0, 2:], probabilities[1, :2] = 0.8, 0.8
    whole = evaluate_change(["a"], [count(probabilities, label)], ("same", "built", "gone"), 0.5)
    assert whole.table.tolist() == [[32, 0, 0], [16, 16, 0], [0, 0, 0]]
    assert whole.per_class[2].f1 is None
    assert whole.scores["mean_iou"] == pytest.approx((32 / 48 + 16 / 32) / 2)
    assert "'gone'" in whole.notes[0]


def test_no_label_at_all_is_an_error_and_some_a_note():
    empty = PixelCounts.empty(2)
    with pytest.raises(DataError, match="2 pairs"):
        evaluate_change(["a", "b"], [empty, empty], CLASSES, 0.5)
    whole = evaluate_change(["a", "b"], [empty, count(*pair(0))], CLASSES, 0.5)
    assert whole.n == 1
    assert "1 pair without a labelled pixel" in whole.notes[0]
    assert whole.counts.pixels == total([empty, count(*pair(0))]).pixels
