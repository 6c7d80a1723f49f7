"""The drawings of confidence against counts by plain loops, and the section on the page."""

import numpy as np
import pytest
from pages import Page, report_of, written

from regraft.evaluation.abstaining import choose_threshold, confidences, keep
from regraft.evaluation.intervals import wilson
from regraft.evaluation.predictions import Predictions
from regraft.evaluation.report import confidence
from regraft.evaluation.report.sections import STRANGE_SHOWN, gallery


def predictions(n=300, k=3, seed=0):
    generator = np.random.default_rng(seed)
    targets, logits = generator.integers(0, k, n), generator.normal(size=(n, k))
    logits[np.arange(n), targets] += 2
    names = tuple(f"image{i}.jpg" for i in range(n))
    return Predictions(names, names, tuple(f"class {i}" for i in range(k)), targets, logits)


def points(text):
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def test_bins_hold_equally_many_images_with_their_accuracy():
    found = confidence.describe(predictions()).reliability
    sure, correct = confidences(predictions())
    order = np.argsort(sure)
    assert len(found.bins) == 10
    assert found.images == (30, 30)
    for number, one in enumerate(found.bins):
        rows = order[number * 30 : (number + 1) * 30]
        low, high = wilson(correct[rows].sum(), 30)
        share = correct[rows].mean()
        expected = f"30 images of mean confidence {sure[rows].mean():.3f}: {share:.3f} right ({low:.3f} to {high:.3f})"
        assert one.title == expected
        assert one.high <= one.y <= one.low  # y grows downwards
    assert [one.x for one in found.bins] == sorted(one.x for one in found.bins)


def test_on_the_diagonal_confidence_is_accuracy():
    found = confidence.describe(predictions()).reliability
    left, bottom, right, top = found.diagonal
    assert (left, bottom) == (confidence.LEFT, confidence.HEIGHT - confidence.BOTTOM)
    assert (right, top) == (confidence.WIDTH - confidence.RIGHT, confidence.TOP)
    assert [text for _, text in found.across] == [text for _, text in found.ticks]
    for (x, _), (y, _) in zip(found.across, found.ticks, strict=True):
        assert (y - bottom) / (top - bottom) == pytest.approx((x - left) / (right - left), abs=0.01)


def test_the_curve_ends_at_the_accuracy_and_lies_in_its_band():
    found = confidence.describe(predictions()).coverage
    line, band = points(found.line), points(found.band)
    assert line[-1][0] == confidence.WIDTH - confidence.RIGHT
    lower, upper = band[: len(line)], band[len(line) :][::-1]
    for (x, y), (x_low, low), (x_high, high) in zip(line, lower, upper, strict=True):
        assert x == x_low == x_high
        assert confidence.TOP <= high <= y <= low <= confidence.HEIGHT - confidence.BOTTOM
    correct = confidences(predictions())[1]
    assert f"{correct.mean():.3f} of all" in found.told


def test_the_threshold_lies_on_the_curve_and_is_told():
    other, here = confidences(predictions(seed=1)), predictions()
    threshold = choose_threshold(*other, 0.9)
    found = confidence.describe(here, threshold)
    kept = keep(*confidences(here), threshold.value)
    assert (
        f"{kept.kept} are answered ({100 * kept.coverage:.0f} %), {kept.accuracy:.3f} of them rightly"
        in found.threshold
    )
    assert f"below confidence {threshold.value:.3f}" in found.threshold
    nearest = min(points(found.coverage.line), key=lambda p: abs(p[0] - found.coverage.mark[0]))
    assert nearest[1] == pytest.approx(found.coverage.mark[1], abs=2)
    assert found.coverage.target is not None


def test_a_target_out_of_reach_and_a_threshold_that_keeps_nothing():
    sure = np.full(12, 0.9999999)
    threshold = choose_threshold(np.append(sure, 0.5), np.append(np.ones(12, bool), False), 0.999)
    found = confidence.describe(predictions(40), threshold)
    assert "could be reached" in found.threshold
    assert "all 40 are" in found.threshold.replace(",", "") or "are answered" in found.threshold


@pytest.mark.parametrize("n", [1, 2, 9, 11, 4000])
@pytest.mark.parametrize("k", [2, 1000])
def test_any_number_of_images_and_classes_is_drawn(n, k):
    found = confidence.describe(predictions(n, k))
    assert 1 <= len(found.reliability.bins) <= 10
    drawn = "" if found.coverage is None else found.coverage.line
    assert len(points(drawn)) <= 250
    assert "nan" not in repr(found)


def test_equal_confidences_share_a_bin():
    same = Predictions(("a",) * 50, ("a",) * 50, ("x", "y"), np.arange(50) % 2, np.tile([1.0, 0.0], (50, 1)))
    found = confidence.describe(same)
    assert len(found.reliability.bins) == 1
    assert found.coverage is None  # all or nothing is no curve


def test_the_strangest_images_come_first_and_those_without_a_class_not_at_all():
    some = predictions(30)
    some.targets[3] = -1
    unlike = np.linspace(0, 1.2, 30)
    unlike[3] = 9
    shown = gallery(some, unlike)
    assert [card.unlike for card in shown.strange] == sorted(unlike[unlike < 9], reverse=True)[:STRANGE_SHOWN]
    assert shown.strange_total == (unlike > 1).sum() - 1
    assert {card.path for card in shown.strange} <= set(shown.paths())
    assert gallery(some).strange == ()


@pytest.mark.parametrize("classes", [["a", "<b>"], [f"class {i}" for i in range(40)]])
def test_the_section_on_the_page(classes, tmp_path):
    report = report_of(classes, n=200)
    threshold = choose_threshold(*confidences(report.predictions), 0.8)
    full = report_of(classes, n=200, threshold=threshold, unlike=np.linspace(0, 1.1, 200))
    for one in (report, full):
        html = written(one, tmp_path)
        page = Page(html)
        assert not page.wrong
        assert not page.open
        assert "confidence" in [a["id"] for a in page.all("section")]
        assert html.count('class="whiskers"') == 10
        assert ("Most unlike the training images" in html) == (one is full)
        assert ("--abstain-at 0.8" in html) == (one is full)
    assert html.count("times the limit") == STRANGE_SHOWN
