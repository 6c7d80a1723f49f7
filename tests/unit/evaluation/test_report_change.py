"""The report of found changes: what it shows is what was measured."""

import re
from dataclasses import replace

import numpy as np
import pytest
from pages import CARD, NASTY, Page

from regraft.data.manifest import Skipped
from regraft.evaluation.change import BINS, best_threshold, count
from regraft.evaluation.change_scores import evaluate_change
from regraft.evaluation.report import change_curves
from regraft.evaluation.report.change import ChangeReport, Tile, render_change_report, tiles_to_show

CLASSES = ("unchanged", "changed")
EPOCHS = tuple(
    {
        "epoch": i + 1,
        "step": 20 * (i + 1),
        "phase": "all",
        "lr": 0.01,
        "train_loss": 0.5 / (i + 1),
        "val_loss": 0.6 / (i + 1),
        "val_f1": 0.1234 + 0.2 * i,
        "seconds": 3.0,
        "best": i == 2,
    }
    for i in range(4)
)


def pair(seed, classes=2, side=32, share=0.15):
    rng = np.random.default_rng(seed)
    label = rng.integers(1, classes, (side, side)) * (rng.random((side, side)) < share)
    logits = rng.normal(size=(classes, side, side)) + 2.0 * (np.arange(classes)[:, None, None] == label)
    label[:2] = 255
    return (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32), label.astype(np.uint8)


def tile(name, seed, classes=2, where=""):
    probabilities, label = pair(seed, classes)
    colours = np.random.default_rng(seed).integers(0, 256, (2, 32, 32, 3), np.uint8)
    return Tile(name, *colours, label, probabilities.argmax(axis=0).astype(np.uint8), where)


def report_of(n=8, classes=CLASSES, share=0.15, **changes):
    names = [f"{i}.png" for i in range(n)]
    counts = [count(*pair(i, len(classes), share=share)) for i in range(n)]
    evaluation = evaluate_change(names, counts, classes, 0.4, split="val", chosen_here=True)
    bad, good = tiles_to_show(evaluation, 3, 2)
    values = {
        "title": "bit on levir_mini",
        "command": "regraft train DATA",
        "evaluation": evaluation,
        "worst": tuple(tile(name, names.index(name), len(classes)) for name in bad),
        "best": tuple(tile(name, names.index(name), len(classes), "window 0, 256") for name in good),
        "split_sizes": {"train": 170, "val": n},
        "threshold_note": "It was chosen for the best F1 on the validation part.",
        "chosen": {"learning_rate": 0.01, "model": "bit"},
        "rejected": (Skipped("A/broken.png", "truncated"),),
        "timings": {"train": 12.5, "evaluate": 2.0},
        "environment": {"torch": "2.9"},
        "backbones": (CARD,),
        "epochs": EPOCHS,
    }
    return ChangeReport(**{**values, **changes})


@pytest.fixture(scope="module")
def report():
    return report_of()


def text_of(page):
    return " ".join(" ".join(Page(page).text).split())


def test_the_page_is_whole_and_alone(report):
    html = render_change_report(report)
    page = Page(html)
    assert html.lstrip().startswith("<!DOCTYPE html>")
    assert not page.open
    assert not page.wrong
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert "http" not in re.sub(r"http-equiv", "", html)
    assert html == render_change_report(report)
    targets = {attrs.get("id") for _, attrs in page.tags}
    assert all(link["href"][1:] in targets for link in page.all("a"))


def test_the_numbers_are_those_that_were_measured(report):
    text = text_of(render_change_report(report))
    evaluation = report.evaluation
    low, high = evaluation.intervals["f1"]
    assert f"Validation change F1 {evaluation.scores['f1']:.3f} 95 % interval {low:.3f} to {high:.3f}" in text
    labels = {"Precision": "precision", "Recall": "recall", "IoU": "iou", "Mean F1": "mean_f1", "Mean IoU": "mean_iou"}
    for label, name in labels.items():
        low, high = evaluation.intervals[name]
        assert f"{label} {evaluation.scores[name]:.3f} {low:.3f} to {high:.3f}" in text
    assert text.index("Precision 0.") < text.index("Mean F1 0.")  # the change class comes first
    (_, false), (missed, found) = evaluation.table.tolist()
    assert f"{found:,} of {found + missed:,} changed pixels are found, and {false:,} unchanged" in text
    assert all(f"{pixels:,}" in text for pixels in (found, false, missed))
    assert "threshold was chosen on it" in text
    assert "training 170 pairs, validation 8 pairs" in text
    assert "truncated" in text
    assert "12.5 s" in text


def test_tiles_are_the_worst_then_the_best(report):
    html = render_change_report(report)
    page = Page(html)
    names = re.findall(r"<h4>(\d)\.<wbr>png", html)
    wrong = {one.name: one.wrong for one in report.evaluation.per_pair}
    ordered = sorted(wrong, key=wrong.get, reverse=True)
    assert [f"{name}.png" for name in names[:3]] == ordered[:3]
    assert not {f"{name}.png" for name in names[3:]} & set(ordered[:3])
    assert len(page.all("img")) == 5 * 4
    shown = report.worst[0]
    known = shown.truth != 255
    found = int(((shown.truth == 1) & (shown.predicted == 1)).sum())
    false = int(((shown.truth == 0) & (shown.predicted == 1) & known).sum())
    missed = int(((shown.truth == 1) & (shown.predicted == 0)).sum())
    f1 = 2 * found / (2 * found + false + missed)
    assert f"F1 {f1:.3f}; pixels: {found:,} found, {false:,} false, {missed:,} missed" in text_of(html)
    assert "window 0, 256" in html
    assert "#d55e00" in html


def test_no_name_can_break_the_page(report):
    html = render_change_report(
        replace(
            report,
            title=NASTY[0],
            worst=tuple(replace(report.worst[0], name=name, where=name) for name in NASTY),
            evaluation=evaluate_change(
                NASTY, [count(*pair(i, 3)) for i in range(len(NASTY))], ("unchanged", *NASTY[:2]), 0.5
            ),
        )
    )
    page = Page(html)
    html.encode("utf-8")
    assert not page.open
    assert not page.wrong
    assert not page.all("script")
    assert all("onerror" not in attrs for _, attrs in page.tags)


def test_the_curves_pass_through_what_each_threshold_gives(report):
    histogram = report.evaluation.counts.histogram
    first, second = change_curves.describe(histogram, report.evaluation.threshold)
    left, right, top, bottom = change_curves.PLACES
    scores = report.evaluation.scores
    x, y = first.mark
    assert (x - left) / (right - left) == pytest.approx(scores["recall"], abs=1e-3)
    assert (bottom - y) / (bottom - top) == pytest.approx(scores["precision"], abs=1e-3)
    x, y = second.mark
    assert (x - left) / (right - left) == pytest.approx(report.evaluation.threshold, abs=1e-3)
    assert (bottom - y) / (bottom - top) == pytest.approx(scores["f1"], abs=1e-3)
    best = best_threshold(histogram)
    heights = [float(point.split(",")[1]) for point in second.line.split()]
    assert (bottom - min(heights)) / (bottom - top) == pytest.approx(best.f1, abs=1e-3)
    assert f"{best.f1:.3f} at {best.value:.3g}" in second.told
    assert first.mark[1] != first.dotted
    assert len(first.line.split()) <= BINS


def test_the_training_shows_the_f1_by_its_name(report):
    html = render_change_report(report)
    text = text_of(html)
    assert "epoch 3 of 4: validation change F1 0.523, validation loss 0.200" in text
    assert "change F1" in text
    assert "validation change F1 0.1234 at first" in html
    assert "validation score" not in html.lower()


def test_an_evaluation_alone_has_no_training(report):
    bare = ChangeReport("t", "regraft evaluate RUN DATA", report.evaluation)
    html = render_change_report(bare)
    page = Page(html)
    assert 'id="training"' not in html
    assert 'id="tiles"' not in html
    assert not page.open
    assert "every file was read" in html


def test_nothing_changed_and_one_pair_are_told():
    none = render_change_report(report_of(3, share=0.0, epochs=()))
    text = text_of(none)
    assert "change F1 not defined" in text
    assert "None of them changed" in text
    assert "there is no curve" in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", none).lower()
    one = render_change_report(report_of(1))
    assert "no interval" in one
    assert "nan" not in re.sub(r"base64,[^\"]*", "", one).lower()


def test_more_classes_have_the_matrix_of_the_most_probable(report):
    three = report_of(classes=("unchanged", "built", "gone"), others=(report.evaluation,))
    html = render_change_report(three)
    text = text_of(html)
    assert "another kind of change" in html
    assert all(f"{pixels:,}" in text for pixels in three.evaluation.counts.confusion.ravel().tolist())
    assert report.evaluation.sentence() in text


def test_tiles_to_show_leaves_out_what_has_no_error(report):
    label = np.zeros((4, 4), np.uint8)
    label[0] = 1
    perfect = np.stack([1 - label, label]).astype(np.float32)
    empty = np.stack([np.ones((4, 4)), np.zeros((4, 4))]).astype(np.float32)
    counts = [count(perfect, label), count(empty, np.zeros_like(label)), count(empty, label)]
    evaluation = evaluate_change(["perfect", "empty", "missed"], counts, CLASSES, 0.5)
    assert tiles_to_show(evaluation) == (["missed"], ["perfect"])
    bad, _ = tiles_to_show(report.evaluation, worst=100)
    assert len(bad) == report.evaluation.n
