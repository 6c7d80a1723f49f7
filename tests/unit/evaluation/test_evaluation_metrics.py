import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as oracle

from regraft.errors import DataError
from regraft.evaluation.intervals import wilson
from regraft.evaluation.metrics import evaluate
from regraft.evaluation.predictions import Predictions


def make(n, k, seed=0, strength=1.5, weights=None):
    rng = np.random.default_rng(seed)
    targets = rng.choice(k, n, p=weights)
    logits = rng.normal(size=(n, k)) * 1.3
    logits[np.arange(n), targets] += strength
    return predictions(targets, logits)


def predictions(targets, logits, classes=None):
    n, k = np.shape(logits)
    return Predictions(
        paths=tuple(f"image{i}.jpg" for i in range(n)),
        keys=tuple(f"{i:064x}" for i in range(n)),
        classes=tuple(classes or (f"class{i}" for i in range(k))),
        targets=np.asarray(targets, np.int64),
        logits=np.asarray(logits, np.float64),
    )


def reordered(p, order):
    return replace(p, paths=tuple(p.paths[i] for i in order), targets=p.targets[order], logits=p.logits[order])


@pytest.mark.parametrize(("n", "k"), [(153, 2), (90, 3), (400, 7), (200, 40)])
def test_scores_agree_with_scikit_learn(n, k):
    p = make(n, k, seed=n)
    result = evaluate(p, split="val")
    said, every = p.predicted(), list(range(k))
    scores = result.scores
    assert scores["accuracy"] == pytest.approx(oracle.accuracy_score(p.targets, said))
    assert scores["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(p.targets, said))
    present = sorted(set(p.targets))
    f1 = oracle.f1_score(p.targets, said, labels=present, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(f1)
    assert scores["log_loss"] == pytest.approx(oracle.log_loss(p.targets, p.probabilities(), labels=every))
    if k > 2:
        top = min(5, k - 1)
        expected = oracle.top_k_accuracy_score(p.targets, p.logits, k=top, labels=every)
        assert scores[f"top_{top}_accuracy"] == pytest.approx(expected)
    np.testing.assert_array_equal(result.confusion, oracle.confusion_matrix(p.targets, said, labels=every))


def test_per_class_scores_agree_with_scikit_learn():
    p = make(300, 5, seed=2)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(p.targets, p.predicted())
    found = evaluate(p, split="test").per_class
    assert [s.name for s in found] == list(p.classes)
    np.testing.assert_allclose([s.precision for s in found], precision)
    np.testing.assert_allclose([s.recall for s in found], recall)
    np.testing.assert_allclose([s.f1 for s in found], f1)
    assert [s.support for s in found] == support.tolist()
    hits = [round(s.recall * s.support) for s in found]
    np.testing.assert_allclose([s.recall_interval for s in found], wilson(hits, support))


def test_each_score_lies_in_its_interval():
    for seed in range(8):
        result = evaluate(make(120, 4, seed=seed, strength=0.6 * seed), split="val")
        assert result.intervals.keys() == result.scores.keys()
        for name, (low, high) in result.intervals.items():
            assert low <= result.scores[name] <= high, name
            assert math.isfinite(low)
            assert math.isfinite(high)


def test_accuracies_have_wilson_intervals():
    p = make(150, 8)
    result = evaluate(p, split="val")
    hits = int((p.predicted() == p.targets).sum())
    np.testing.assert_allclose(result.intervals["accuracy"], wilson(hits, 150))
    top = round(result.scores["top_5_accuracy"] * 150)
    np.testing.assert_allclose(result.intervals["top_5_accuracy"], wilson(top, 150))


def test_log_loss_interval_is_about_the_normal_one():
    p = make(2000, 3)
    low, high = evaluate(p, split="val").intervals["log_loss"]
    losses = -np.log(p.probabilities()[np.arange(2000), p.targets])
    error = 1.96 * losses.std() / 2000**0.5
    np.testing.assert_allclose([low, high], [losses.mean() - error, losses.mean() + error], atol=0.15 * error)


def test_balanced_accuracy_interval_covers_the_truth():
    # class recalls 0.9 and 0.6 by construction; 60 data sets of 120 images
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        targets = rng.integers(0, 2, 120)
        right = rng.random(120) < np.where(targets == 0, 0.9, 0.6)
        said = np.where(right, targets, 1 - targets)
        low, high = evaluate(predictions(targets, np.eye(2)[said]), split="val").intervals["balanced_accuracy"]
        covered += low <= 0.75 <= high
    assert covered >= 52


def test_order_of_rows_changes_nothing():
    p = make(200, 6, seed=4)
    first = evaluate(p, split="val")
    second = evaluate(reordered(p, np.random.default_rng(0).permutation(200)), split="val")
    for name, value in first.scores.items():
        assert second.scores[name] == pytest.approx(value, rel=1e-12)
        assert second.intervals[name] == pytest.approx(first.intervals[name], rel=1e-9)
    np.testing.assert_array_equal(first.confusion, second.confusion)


def test_names_and_order_of_classes_change_nothing():
    p = make(400, 5, seed=5)
    order = np.random.default_rng(1).permutation(5)
    place = np.argsort(order)
    turned = predictions(place[p.targets], p.logits[:, order], [p.classes[i] for i in order])
    first, second = evaluate(p, split="val"), evaluate(turned, split="val")
    for name, value in first.scores.items():
        assert second.scores[name] == pytest.approx(value)
        assert second.intervals[name] == pytest.approx(first.intervals[name], abs=0.02)
    assert {s.name: s.f1 for s in first.per_class} == pytest.approx({s.name: s.f1 for s in second.per_class})


def test_adding_to_every_logit_of_a_row_changes_nothing():
    p = make(100, 4)
    shifted = replace(p, logits=p.logits + np.random.default_rng(0).normal(size=(100, 1)) * 50)
    first, second = evaluate(p, split="val"), evaluate(shifted, split="val")
    assert second.scores == pytest.approx(first.scores)


def test_rows_without_a_known_class_do_not_count():
    p = make(80, 3)
    targets = p.targets.copy()
    targets[::4] = -1
    known = np.flatnonzero(targets >= 0)
    part, all_rows = evaluate(reordered(p, known), split="val"), evaluate(replace(p, targets=targets), split="val")
    assert all_rows.n == 60
    assert all_rows.scores == part.scores
    assert "20 images without a known class not counted." in all_rows.notes


def test_classes_without_images_are_left_out_of_the_means_and_named():
    p = make(100, 3)
    wide = predictions(p.targets, np.column_stack([p.logits, np.full(100, -50.0)]), [*"abc", "never"])
    result = evaluate(wide, split="val")
    three = evaluate(p, split="val").scores
    assert result.scores["balanced_accuracy"] == pytest.approx(three["balanced_accuracy"])
    assert result.scores["macro_f1"] == pytest.approx(three["macro_f1"])
    assert any("'never'" in note and "1 class" in note for note in result.notes)
    last = result.per_class[-1]
    assert (last.support, last.recall, last.f1, last.precision) == (0, None, None, None)


def test_a_class_that_is_predicted_but_absent_lowers_the_f1_of_the_others():
    p = predictions([0, 0, 1, 1], np.eye(3)[[0, 2, 1, 1]])
    result = evaluate(p, split="val")
    assert result.scores["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert result.per_class[2].precision == 0


def test_ties_go_to_the_first_class_in_accuracy_and_in_top_k():
    result = evaluate(predictions([0, 1, 2, 3], np.zeros((4, 4))), split="val")
    assert result.scores["accuracy"] == 0.25
    assert result.scores["top_3_accuracy"] == 0.75


def test_top_k_is_absent_for_two_classes_and_k_can_be_chosen():
    assert not any(name.startswith("top") for name in evaluate(make(50, 2), split="val").scores)
    assert "top_2_accuracy" in evaluate(make(50, 3), split="val").scores
    assert "top_3_accuracy" in evaluate(make(50, 10), split="val", top_k=3).scores


def test_baseline_is_the_most_frequent_class():
    p = predictions([0, 1, 1, 1, 2], np.eye(3)[[0, 1, 1, 0, 2]])
    result = evaluate(p, split="val")
    assert (result.baseline_class, result.baseline_accuracy) == ("class1", 0.6)


def test_without_a_mistake_the_intervals_still_have_width():
    p = predictions(np.arange(150) % 2, np.eye(2)[np.arange(150) % 2] * 9)
    result = evaluate(p, split="test")
    low, high = result.intervals["balanced_accuracy"]
    assert high == 1
    assert wilson(75, 75)[0] < low < 1
    assert result.intervals["macro_f1"] == (low, high)
    assert any("Not one mistake" in note for note in result.notes)


def test_one_image_is_measured():
    result = evaluate(predictions([1], [[0.0, 1.0]]), split="test")
    assert result.scores["accuracy"] == 1
    assert "1 image;" in result.sentence()
    assert any("too narrow" in note for note in result.notes)


def test_certain_mistakes_cost_a_finite_loss():
    result = evaluate(predictions([0, 1], [[0.0, 1e6], [0.0, 1e6]]), split="val")
    assert result.scores["log_loss"] == pytest.approx(-math.log(np.finfo(float).eps) / 2)


def test_nothing_known_is_an_error_that_says_so():
    with pytest.raises(DataError, match="known class"):
        evaluate(predictions([-1, -1], np.zeros((2, 3))), split="val")
    with pytest.raises(DataError, match="known class"):
        evaluate(predictions([], np.zeros((0, 3))), split="val")


def test_a_logit_that_is_not_finite_is_an_error_that_names_the_image():
    p = make(10, 3)
    p.logits[7, 1] = np.nan
    with pytest.raises(DataError, match=r"image7\.jpg"):
        evaluate(p, split="val")


def test_equal_seeds_give_equal_results():
    p = make(100, 4)
    assert evaluate(p, split="val").to_json() == evaluate(p, split="val").to_json()
    assert evaluate(p, split="val", seed=1).intervals["macro_f1"] != evaluate(p, split="val").intervals["macro_f1"]


def test_sentence_is_for_people():
    targets = np.repeat([0, 1], [70, 83])
    said = targets.copy()
    said[:8] = 1
    text = evaluate(predictions(targets, np.eye(2)[said], ["ants", "bees"]), split="val").sentence()
    assert text == (
        "validation accuracy 0.948 (95 % interval 0.900 to 0.973, 153 images; always answering 'bees' gives 0.542)"
    )


def test_caution_goes_by_what_the_model_has_seen_and_not_by_the_name_of_the_part():
    p = make(30, 2)
    assert "optimistic" in evaluate(p, split="val").caution
    for split in ("train", "test", "all", "mine"):
        assert not evaluate(p, split=split).caution
        caution = evaluate(p, split=split, seen=12).caution
        assert caution.startswith("12 of 30 images were in the model's training part: ")
    assert evaluate(p, split="val", seen=1).caution.startswith("1 of 30 images was in")
    assert evaluate(p, split="test", seen=99).seen == 30
    assert evaluate(p, split="test", seen=12).to_json()["seen"] == 12
    new = {s: evaluate(p, split=s).is_new for s in ("train", "val", "test", "all")}
    assert new == {"train": True, "val": False, "test": True, "all": True}
    assert not evaluate(p, split="test", seen=1).is_new


def test_a_part_is_called_what_people_call_it():
    p = make(30, 2)
    words = {s: evaluate(p, split=s).accuracy_word for s in ("train", "val", "test", "mine", "all")}
    assert list(words.values()) == [
        "training accuracy",
        "validation accuracy",
        "test accuracy",
        "mine accuracy",
        "accuracy",
    ]
    assert evaluate(p, split="all").sentence().startswith("accuracy 0.")
    with pytest.raises(DataError, match=r"None of the 2 images has a known class"):
        evaluate(predictions([-1, -1], np.zeros((2, 3))), split="all")


@pytest.mark.filterwarnings("error")
def test_logits_of_any_finite_size_are_measured():
    p = make(30, 3)
    p.logits[:] = np.sign(p.logits) * 1.7e308
    result = evaluate(p, split="test")
    assert np.isfinite(list(result.scores.values())).all()
    assert np.isfinite(p.probabilities()).all()


def test_json_has_plain_headline_numbers_and_survives_a_round_trip():
    values = evaluate(predictions([0, 0, 1], np.eye(8)[[0, 2, 1]], [*"abcdefg", "caf\udce9"]), split="val").to_json()
    assert json.loads(json.dumps(values)) == values
    for name in (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "log_loss",
        "top_5_accuracy",
        "calibration_error",
        "baseline_accuracy",
    ):
        assert isinstance(values[name], float), name
    assert (values["n"], values["split"]) == (3, "val")
    assert len(values["intervals"]["accuracy"]) == 2
    assert values["per_class"][2]["recall"] is None
    assert values["confusion"][0][2] == 1


def test_evaluating_imports_no_heavy_library():
    code = (
        "import sys, regraft.evaluation.metrics, regraft.evaluation.report.batch\n"
        "heavy = {'sklearn', 'scipy', 'torch', 'timm', 'jinja2', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
