"""Counts of changed pixels and the numbers from them, against scikit-learn on the flattened pixels."""

import math

import numpy as np
import pytest
from sklearn import metrics

from regraft.errors import DataError, OptionError
from regraft.evaluation.change import (
    BINS,
    IGNORED,
    SCORES,
    PixelCounts,
    average_precision,
    best_threshold,
    bin_edge,
    count,
    decided,
    numbers,
    precision_recall,
    total,
)


def scene(classes=2, side=40, seed=0, ignored=0.1, dtype=np.float32):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, (side, side)) * (rng.random((side, side)) < 0.4)
    logits = rng.normal(size=(classes, side, side)) + 1.5 * (np.arange(classes)[:, None, None] == label)
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(dtype)
    label[rng.random((side, side)) < ignored] = IGNORED
    return probabilities, label.astype(np.uint8)


def flat(probabilities, label):
    """Truth, P(changed) and all probabilities of labelled pixels, one after another."""
    known = label.ravel() != IGNORED
    told = probabilities.reshape(len(probabilities), -1).T[known]
    return label.ravel()[known].astype(int), 1 - told[:, 0], told


@pytest.mark.parametrize("threshold", [0.5, 0.25, 77 / 256])
def test_two_classes_are_as_scikit_learn_has_them(threshold):
    truth, change, told = flat(*scene())
    counts = count(*scene())
    found = numbers(counts, threshold)
    said = (change >= threshold).astype(int)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, said, average="binary")
    assert found == pytest.approx(
        {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "iou": metrics.jaccard_score(truth, said),
            "accuracy": metrics.accuracy_score(truth, said),
            "mean_f1": metrics.f1_score(truth, said, average="macro"),
            "mean_iou": metrics.jaccard_score(truth, said, average="macro"),
            "kappa": metrics.cohen_kappa_score(truth, said),
            "average_precision": metrics.average_precision_score(truth, np.floor(change * BINS).clip(0, BINS - 1)),
            "loss": metrics.log_loss(truth, told / told.sum(axis=1, dtype=np.float64)[:, None]),
        },
        rel=1e-6,
    )
    assert tuple(found) == SCORES
    assert decided(counts.histogram, threshold).tolist() == metrics.confusion_matrix(truth, said).tolist()


def test_more_classes_are_measured_by_the_most_probable_and_change_by_the_threshold():
    truth, change, told = flat(*scene(classes=4, seed=3))
    counts = count(*scene(classes=4, seed=3))
    said = told.argmax(axis=1)
    assert counts.confusion.tolist() == metrics.confusion_matrix(truth, said).tolist()
    found = numbers(counts, 0.5)
    assert found["mean_f1"] == pytest.approx(metrics.f1_score(truth, said, average="macro"))
    assert found["mean_iou"] == pytest.approx(metrics.jaccard_score(truth, said, average="macro"))
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(truth, said))
    assert found["f1"] == pytest.approx(metrics.f1_score(truth > 0, change >= 0.5))
    assert found["iou"] == pytest.approx(metrics.jaccard_score(truth > 0, change >= 0.5))


def test_the_average_precision_of_bins_is_near_that_of_the_probabilities():
    truth, change, _ = flat(*scene(side=120))
    assert float(average_precision(count(*scene(side=120)).histogram)) == pytest.approx(
        metrics.average_precision_score(truth, change), abs=2e-3
    )


def test_a_tile_cut_into_pieces_adds_up():
    probabilities, label = scene(classes=3)
    whole = count(probabilities, label)
    pieces = [
        count(probabilities[:, y : y + 13, x : x + 17], label[y : y + 13, x : x + 17])
        for y in range(0, 40, 13)
        for x in range(0, 40, 17)
    ]
    summed = total(reversed(pieces))
    assert np.array_equal(summed.confusion, whole.confusion)
    assert np.array_equal(summed.histogram, whole.histogram)
    assert summed.loss == pytest.approx(whole.loss)
    assert (summed + PixelCounts.empty(3)).pixels == int((label != IGNORED).sum())


def test_ignored_pixels_do_not_count_whatever_is_said_of_them():
    probabilities, label = scene()
    other = np.where(label == IGNORED, np.flip(probabilities, 0), probabilities)
    assert np.array_equal(count(probabilities, label).histogram, count(other, label).histogram)
    assert numbers(count(probabilities, label)) == numbers(count(other, label))
    nothing = count(probabilities, np.full_like(label, IGNORED))
    assert nothing.pixels == 0
    assert all(map(math.isnan, numbers(nothing).values()))


def test_bins_begin_at_their_edge_and_the_last_holds_one():
    change = np.array([[0, 1 / 256, 0.5, 0.5 - 2**-20, 255 / 256, 1]], np.float32)
    found = count(np.stack([1 - change, change]), np.ones((1, 6), np.uint8)).histogram
    assert np.flatnonzero(found[1]).tolist() == [0, 1, 127, 128, 255]
    assert found[1, 255] == 2
    assert not found[0].any()


def test_the_best_threshold_is_the_best_of_all_edges():
    truth, change, _ = flat(*scene(seed=5))
    threshold, f1 = best_threshold(count(*scene(seed=5)).histogram)
    every = {k / BINS: metrics.f1_score(truth, change >= k / BINS) for k in range(1, BINS)}
    assert f1 == pytest.approx(max(every.values()))
    assert every[threshold] == pytest.approx(f1)
    assert numbers(count(*scene(seed=5)), threshold)["f1"] == f1


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_taken():
    histogram = np.zeros((2, BINS), np.int64)
    histogram[0, 10], histogram[1, 250] = 50, 5
    assert best_threshold(histogram) == (0.5, 1.0)
    histogram[0, 200] = 7
    assert best_threshold(histogram) == (201 / BINS, 1.0)


def test_the_curve_is_scikit_learns():
    truth, change, _ = flat(*scene())
    curve = precision_recall(count(*scene()).histogram)
    precision, recall, thresholds = metrics.precision_recall_curve(truth, np.floor(change * BINS))
    at = thresholds.astype(int)
    assert curve.precision[at] == pytest.approx(precision[:-1])
    assert curve.recall[at] == pytest.approx(recall[:-1])
    assert curve.recall[0] == 1
    assert (np.diff(curve.recall) <= 0).all()


def test_nothing_changed_is_not_defined_and_no_error():
    probabilities, label = scene()
    counts = count(probabilities, np.zeros_like(label))
    found = numbers(counts)
    undefined = {"recall", "f1", "iou", "average_precision"}
    assert {name for name, value in found.items() if math.isnan(value)} == undefined
    assert found["precision"] == 0
    threshold, f1 = best_threshold(counts.histogram)
    assert threshold == 0.5
    assert math.isnan(f1)
    assert np.isnan(precision_recall(counts.histogram).f1).all()


def test_nothing_said_has_no_precision_but_an_f1_of_zero():
    never = np.stack([np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)])
    found = numbers(count(never, np.ones((4, 4), np.uint8)))
    assert math.isnan(found["precision"])
    assert found["f1"] == found["recall"] == 0
    assert found["loss"] == pytest.approx(-math.log(np.finfo(np.float64).eps))  # bounded, where it is certain and wrong


def test_thresholds_are_edges():
    assert [bin_edge(t) for t in (0, 0.3, 0.5, 1)] == [0, 77 / 256, 0.5, 255 / 256]
    for wrong in (-0.1, 1.5, math.nan):
        with pytest.raises(OptionError, match="0 to 1"):
            bin_edge(wrong)


def test_half_precision_is_counted_like_single():
    probabilities, label = scene(dtype=np.float16)
    assert np.array_equal(
        count(probabilities, label).histogram, count(probabilities.astype(np.float32), label).histogram
    )


def test_what_cannot_be_counted_is_said():
    probabilities, label = scene()
    with pytest.raises(DataError, match=r"\(2, 40, 40\).*\(39, 40\)"):
        count(probabilities, label[1:])
    with pytest.raises(DataError, match=r"\[0, 1, 7\].*2 classes"):
        count(probabilities, np.where(label == IGNORED, 7, label))
    probabilities[0, 0, 0] = np.nan
    label[0, 0] = 1
    with pytest.raises(DataError, match="not a finite"):
        count(probabilities, label)
