import itertools
import math

import pytest
from pages import NASTY, Page, report_of, written

from regraft.evaluation.report.axes import Axis
from regraft.evaluation.report.epochs import BOTTOM, HEIGHT, LEFT, MOST_ROWS, RIGHT, TOP, WIDTH, describe


def row(epoch, **changes):
    values = {
        "epoch": epoch,
        "step": 8 * epoch,
        "phase": "finetune",
        "lr": 1e-4,
        "train_loss": 0.8 / max(epoch, 0.5),
        "train_accuracy": 1 - 0.4 / max(epoch, 0.5),
        "val_loss": 0.9 / max(epoch, 0.5),
        "val_accuracy": 1 - 0.5 / max(epoch, 0.5),
        "seconds": 70.0,
        "images_per_second": 41.5,
        "best": True,
    }
    return {**values, **changes}


def dots(course, chart, part):
    return next(c for c in course.charts[chart].curves if c.part == part).dots


def test_loss_falls_and_accuracy_rises_on_the_page():
    course = describe([row(1), row(2), row(3), row(4, best=False)])
    assert [chart.name for chart in course.charts] == ["loss", "accuracy"]
    for part in ("train", "val"):
        loss, accuracy = (dots(course, chart, part) for chart in (0, 1))
        assert [dot.y for dot in loss] == sorted(dot.y for dot in loss)  # y grows downwards
        assert [dot.y for dot in accuracy] == sorted((dot.y for dot in accuracy), reverse=True)
        assert all(TOP <= dot.y <= HEIGHT - BOTTOM and LEFT <= dot.x <= WIDTH - RIGHT for dot in (*loss, *accuracy))
    assert dots(course, 0, "val")[1].title == "epoch 2, step 16: validation loss 0.45"
    assert [text for _, text in course.across] == ["1", "2", "3", "4"]


def test_the_last_best_row_has_the_best_weights():
    course = describe([row(1), row(2, best=False), row(3, val_accuracy=0.954, val_loss=0.1519), row(4, best=False)])
    assert [dot.best for dot in dots(course, 0, "val")] == [False, False, True, False]
    assert [picked for picked, _ in course.rows] == [False, False, True, False]
    assert course.best == dots(course, 1, "val")[2].x
    assert "epoch 3 of 4: validation accuracy 0.954, validation loss 0.152" in course.told
    assert "4 min 40 s" in course.told
    assert "0.1519 with the best weights" in course.charts[0].told


def test_a_point_lies_between_the_ticks_around_its_value():
    course = describe([row(1), row(2)])
    for chart, part, values in ((0, "val", (0.9, 0.45)), (1, "train", (0.6, 0.8))):
        (y0, low), (y1, high) = (course.charts[chart].ticks[i] for i in (0, -1))
        per_unit = (y1 - y0) / (float(high) - float(low))
        for dot, value in zip(dots(course, chart, part), values, strict=True):
            assert dot.y == pytest.approx(y0 + (value - float(low)) * per_unit, abs=0.3)


def test_what_is_no_number_is_a_gap():
    values = [0.9, None, 0.7, 0.6, float("nan"), float("inf"), 0.3]
    course = describe([row(i + 1, val_loss=value, best=False) for i, value in enumerate(values)])
    curve = next(c for c in course.charts[0].curves if c.part == "val")
    assert len(curve.dots) == 4
    assert [len(line.split()) for line in curve.lines] == [2]
    assert "3 without a number" in course.charts[0].told
    cells = [cells[course.columns.index("validation loss")] for _, cells in course.rows]
    assert cells == ["0.9", "–", "0.7", "0.6", "not a number", "inf", "0.3"]
    assert course.best is None


def test_phases_are_told_apart_where_the_former_ends():
    course = describe([row(i, phase="head" if i < 3 else "whole network with a long name") for i in range(1, 7)])
    places = [dot.x for dot in dots(course, 0, "val")]
    assert [(phase.start, phase.title) for phase in course.phases] == [
        (LEFT, "head"),
        (places[1], "whole network with a long name"),
    ]
    many = describe([row(i, phase=f"thaw stage number {i}") for i in range(1, 20)])
    assert len(many.phases) == 19
    assert not any(phase.name for phase in many.phases)  # no room
    assert describe([row(1), row(2)]).phases == ()


def test_evaluations_within_an_epoch_are_placed_by_their_step():
    rows = [row(e, step=s) for e, s in ((0, 4), (0, 8), (1, 10), (1, 14), (2, 20))]
    course = describe(rows)
    places = [dot.x for dot in dots(course, 0, "val")]
    steps = [(b - a) for a, b in itertools.pairwise(places)]
    assert steps == pytest.approx([steps[0], steps[0] / 2, steps[0], steps[0] * 1.5], abs=0.2)
    assert course.across == ((places[2], "1"), (places[4], "2"))
    assert course.x_name == "epoch"
    assert "evaluation 5 of 5 (epoch 2, step 20)" in course.told


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "rows",
    [
        [{}],
        [{"epoch": None, "val_loss": None}],
        [{"val_loss": 0.0}],
        [{"val_loss": 1.7e308}, {"val_loss": -1.7e308}],
        [{"val_loss": 1.7e308}, {"val_loss": 5e-324}],
        [{"val_loss": 5e-324}, {"val_loss": 1e-323}],
        [{"val_loss": 1.0}, {"val_loss": 1.0 + 2e-16}],
        [{"val_loss": 0.5}] * 3,
        [{"val_accuracy": 1.0}, {"val_accuracy": 1.0}],
        [{"epoch": 1, "step": 5}, {"epoch": 1, "step": 3, "train_loss": float("nan")}],
        [{"epoch": "one", "step": True, "train_loss": "low", "phase": 3, "best": "yes", "seconds": None}],
        [row(1)],
    ],
    ids=range(12),
)
def test_any_row_leaves_a_page(rows, tmp_path):
    page = Page(written(report_of(["a", "b"], epochs=tuple(rows)), tmp_path))
    assert (page.wrong, page.open) == ([], [])
    assert "training" in [attrs["id"] for attrs in page.all("section")]
    numbers = [float(attrs[key]) for attrs in page.all("circle") for key in ("cx", "cy") if key in attrs]
    assert all(map(math.isfinite, numbers))
    assert all("nan" not in attrs["points"] and "inf" not in attrs["points"] for attrs in page.all("polyline"))


def test_the_section_is_there_only_where_something_was_trained(tmp_path):
    without = written(report_of(["a", "b"]), tmp_path)
    assert 'id="training"' not in without
    page = Page(written(report_of(["a", "b"], epochs=(row(1), row(2))), tmp_path))
    assert [a["id"] for a in page.all("section")][-2:] == ["training", "making"]
    assert {"href": "#training"} in page.all("a")
    assert "2 evaluations as a table" in "".join(page.text)
    described = [a["aria-label"] for a in page.all("svg") if "over the training" in a.get("aria-label", "")]
    assert described[0].startswith("Loss over the training: training loss 0.8 at first, 0.4 at last")


def test_names_of_phases_cannot_break_the_page(tmp_path):
    rows = tuple(row(i + 1, phase=name, **{name: name}) for i, name in enumerate(NASTY))
    page = Page(written(report_of(["a", "b"], epochs=rows), tmp_path))
    assert (page.wrong, page.open) == ([], [])
    assert not page.all("script")
    assert not any("onerror" in attrs for _, attrs in page.tags)


def test_very_many_rows_stay_a_small_page(tmp_path):
    rows = tuple(row(i + 1, best=i == 7) for i in range(5000))
    course = describe(rows)
    assert (len(course.rows), course.rows_left_out) == (MOST_ROWS, 5000 - MOST_ROWS)
    assert [dot.best for dot in dots(course, 0, "val")] == [True]  # the others are in the line
    assert len(course.across) <= 8
    assert len(written(report_of(["a", "b"], epochs=rows), tmp_path)) < 1_000_000


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.1, 0.9), ["0.0", "0.2", "0.4", "0.6", "0.8"]),
        ((0.001, 1000), ["0.001", "0.01", "0.1", "1", "10", "100", "1,000"]),
        ((2.0, 2.0), ["1.96", "1.98", "2.00", "2.02", "2.04"]),
        ((-1.0, 1.0), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ((4e7, 9e7), ["4e7", "5e7", "6e7", "7e7", "8e7", "9e7"]),
        ((1.20e-7, 1.26e-7), ["1.2e-7", "1.22e-7", "1.24e-7", "1.26e-7"]),
    ],
    ids=str,
)
def test_ticks_are_round_and_few(values, texts):
    axis = Axis.over(values, bottom=100, top=0)
    assert [text for _, text in axis.ticks] == texts[:: 2 if len(texts) > 6 else 1]
    places = [place for place, _ in axis.ticks]
    assert places == sorted(places, reverse=True)
    assert all(0 <= place <= 100 for place in (*places, *map(axis.place, values)))


def test_an_accuracy_axis_ends_at_one():
    axis = Axis.over((0.5, 1.0), bottom=100, top=0, share=True)
    assert (axis.high, axis.place(1.0)) == (1.0, 0.0)
