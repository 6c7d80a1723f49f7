import pytest

from regraft.evaluation.report.history import HEIGHT, WIDTH, describe

PATH = [
    {"strength": 10.0**-i, "log_loss": score, "accuracy": 0.9, "fold_log_loss": [score - 0.1, score + 0.1]}
    for i, score in enumerate([0.5, 0.3, 0.2, 0.4])
]


def test_candidates_become_a_table_with_the_chosen_one_marked():
    found = describe(PATH, {"strength": 0.01, "by": "log loss"})
    assert found.columns == ("strength", "log loss", "accuracy", "log loss of each fold")
    assert [marked for marked, _ in found.rows] == [False, False, True, False]
    assert found.rows[0][1] == ("1", "0.5", "0.9", "0.4, 0.6")


def test_one_varied_number_becomes_a_curve():
    curve = describe(PATH, {"strength": 0.01}).curve
    assert (curve.x_name, curve.y_name) == ("strength (logarithmic)", "log loss")
    assert curve.points[0].title == "strength 0.001: log loss 0.4"
    assert [point.chosen for point in curve.points] == [False, True, False, False]  # weakest strength left
    steps = [b.x - a.x for a, b in zip(curve.points, curve.points[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    best = min(curve.points, key=lambda point: -point.y)
    assert best.chosen  # the lowest loss is lowest on the page, where y grows downwards
    for point in curve.points:
        assert 0 <= point.high < point.y < point.low <= HEIGHT
        assert 0 <= point.x <= WIDTH


def test_several_varied_settings_become_a_table_alone():
    rows = [{"kernel": k, "C": c, "mean": c / 10} for c, k in enumerate(["linear", "rbf", "rbf"], 1)]
    found = describe(rows, {"kernel": "rbf", "C": 2})
    assert found.curve is None
    assert [marked for marked, _ in found.rows] == [False, True, False]


@pytest.mark.parametrize(
    "rows",
    [
        PATH[:2],
        [{"name": "a"}, {"name": "b"}, {"name": "c"}],
        [{"k": 1, "mean": 0.5}, {"k": 1, "mean": 0.4}, {"k": 2, "mean": 0.3}],
        [{"k": 1, "mean": float("nan")}, {"k": 2, "mean": 0.4}, {"k": 3, "mean": 0.3}],
        [{"k": 1, "mean": None}, {"k": 2, "mean": 0.4}, {"j": 3}],
    ],
)
def test_what_is_no_curve_is_not_drawn_as_one(rows):
    found = describe(rows, {})
    assert found.curve is None
    assert len(found.rows) == len(rows)


def test_equal_scores_and_folds_that_failed_are_drawn():
    rows = [{"k": k, "loss": 0.5, "fold_loss": [0.7, float("nan")]} for k in (1, 3, 5)]
    curve = describe(rows, {"k": 3}).curve
    assert {point.y for point in curve.points} == {curve.points[0].y}
    assert all(0 <= point.high <= point.low <= HEIGHT for point in curve.points)


def test_no_candidates_no_history():
    assert describe([], {"k": 5}) is None
