"""The corrected test against closed forms and SciPy; who is tied, who is recommended, and how it is told."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from pages import Page, report_of, written
from scipy import stats

from regraft.evaluation.comparison import Candidate, Leaderboard, Optimism, corrected_test, stand
from regraft.evaluation.intervals import wilson
from regraft.evaluation.report.leaderboard import OPEN_ROWS, describe

RATIO = 1 / 4


def candidate(strategy, scores, *, ms=10.0, size=1000, backbone="net"):
    return Candidate(backbone, strategy, np.array(scores, float), 0.1, ms, size)


def board_of(candidates, **parts):
    return Leaderboard(stand(candidates, RATIO, 100), "accuracy", "5 folds x 3", 245, **parts)


def around(mean, seed, splits=15, spread=0.02):
    noise = np.random.default_rng(seed).normal(0, spread, splits)
    return mean + noise - noise.mean()


def test_without_correction_it_is_the_ordinary_t_test():
    values = np.random.default_rng(0).normal(0.01, 0.03, 15)
    found, oracle = corrected_test(values, 0.0), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-9)
    low, high = oracle.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_correction_of_nadeau_and_bengio():
    """5x3: the variance of the mean is (1/15 + 1/4) s^2, 14 degrees of freedom."""
    values = np.random.default_rng(1).normal(0.02, 0.03, 15)
    error = np.sqrt((1 / 15 + 1 / 4) * values.var(ddof=1))
    found = corrected_test(values, RATIO)
    assert found.p == pytest.approx(2 * stats.t.sf(values.mean() / error, 14), rel=1e-9)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 14) * error)
    assert found.p > stats.ttest_1samp(values, 0).pvalue


def test_order_sign_and_unit_do_not_matter():
    values = np.random.default_rng(2).normal(0.01, 0.03, 15)
    found = corrected_test(values, RATIO)
    other = corrected_test(-values[::-1], RATIO)
    assert other.p == pytest.approx(found.p)
    assert (other.low, other.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    assert corrected_test(100 * values, RATIO).p == pytest.approx(found.p)


def test_no_spread_and_no_splits():
    assert corrected_test(np.zeros(15), RATIO).p == 1
    assert corrected_test(np.full(15, 0.1), RATIO).p == 0
    alone = corrected_test(np.array([0.3]), RATIO)
    assert (alone.p, alone.low, alone.high) == (1, -np.inf, np.inf)


def test_equals_are_seldom_told_apart():
    """Cross-validation of two coin-like methods on shared training parts: the plain t-test rejects far too often."""
    generator = np.random.default_rng(3)
    plain = corrected = 0
    for _ in range(300):
        shared = generator.normal(0, 0.02)  # what the one data set does to the difference in all of its splits
        values = shared + generator.normal(0, 0.03, 15)
        plain += stats.ttest_1samp(values, 0).pvalue < 0.05
        corrected += corrected_test(values, RATIO).p < 0.05
    assert corrected / 300 < 0.15
    assert plain / 300 > 0.3


def test_the_fastest_of_the_ties_is_recommended():
    base = around(0.9, 0)
    slow = candidate("slow", base, ms=30)
    fast = candidate("fast", base - around(0.005, 1), ms=10)
    bad = candidate("bad", base - around(0.2, 2), ms=1)
    standings = stand([bad, fast, slow], RATIO, 100)
    assert [one.candidate.strategy for one in standings] == ["slow", "fast", "bad"]
    assert [one.tie for one in standings] == [True, True, False]
    assert [one.recommended for one in standings] == [False, True, False]
    assert standings[0].p == 1
    board = board_of([bad, fast, slow])
    assert board.sentence.startswith("Best of 3 is slow on net, 0.900 accuracy")
    assert (
        "1 of the others cannot be told apart from it, 1 within one standard error. Recommended: fast on net, 0.895"
        in board.sentence
    )
    assert "10 ms instead of 30" in board.sentence


def test_times_within_a_tenth_are_equal_then_mean_then_size():
    base = around(0.9, 0)
    names = ["a", "b", "c"]
    scores = [base, base - around(0.004, 1), base - around(0.004, 1)]

    def chosen(times, sizes=(1, 1, 1), **options):
        entries = [
            candidate(*two, ms=ms, size=size) for *two, ms, size in zip(names, scores, times, sizes, strict=True)
        ]
        return next(one.candidate.strategy for one in stand(entries, RATIO, 100, **options) if one.recommended)

    assert chosen((10.9, 10.0, 10.5)) == "a"
    assert chosen((11.1, 10.0, 10.5)) == "b"
    assert chosen((11.1, 10.0, 10.5), (1, 5, 3)) == "c"
    assert chosen((50.0, 10.0, 10.5), as_fast=np.inf) == "a"


def test_clear_winners_and_lonely_ones_are_told():
    base = around(0.9, 0)
    assert board_of([candidate("a", base), candidate("b", base - around(0.3, 1))]).sentence.endswith(
        "All others are worse by more than chance. The best is recommended"
    )
    assert "only candidate" in board_of([candidate("a", base)]).sentence


def test_what_was_measured_on_fewer_splits_is_placed_by_the_shared_ones():
    """The reference has 0.5 on easy and hard splits alike but for the first three, where both are better by 0.4."""
    base = np.full(15, 0.5)
    base[[0, 5, 10]] = 0.9
    few = np.full(15, np.nan)
    few[[0, 5, 10]] = [0.88, 0.87, 0.86]
    standings = stand([candidate("few", few), candidate("all", base)], RATIO, 100)
    assert [one.candidate.strategy for one in standings] == ["all", "few"]
    assert standings[1].mean == pytest.approx(base.mean() - 0.03)
    assert standings[1].splits == 3
    assert stand([candidate("few", few + 0.1), candidate("all", base)], RATIO, 100)[0].candidate.strategy == "few"


def test_intervals_are_within_bounds_and_never_empty():
    (one,) = stand([candidate("a", np.ones(15))], RATIO, 245)
    assert [one.low, one.high] == pytest.approx(wilson(245, 245).tolist())
    (one,) = stand([candidate("a", np.minimum(1, around(0.98, 0, spread=0.05)))], RATIO, 245)
    assert 0 < one.low < one.mean < one.high <= 1


def test_rows_and_renamed_candidates_do_not_matter():
    entries = [candidate(str(n), around(0.8 + 0.01 * n, n)) for n in range(6)]
    forth, back = stand(entries, RATIO, 100), stand(entries[::-1], RATIO, 100)
    assert [one.candidate.strategy for one in forth] == [one.candidate.strategy for one in back]
    assert [one.p for one in forth] == [one.p for one in back]


def test_files_say_what_the_board_says():
    few = np.full(15, np.nan)
    few[0] = 0.5
    board = board_of([candidate("a", around(0.9, 0)), candidate("b", few)], missed=("c on net",), failed={"d": "why"})
    rows = list(csv.DictReader(io.StringIO(board.to_csv())))
    content = json.loads(json.dumps(board.to_json()))
    assert [row["name"] for row in rows] == ["a on net", "b on net"] == [c["name"] for c in content["candidates"]]
    assert float(rows[0]["mean"]) == pytest.approx(0.9)
    assert rows[0]["recommended"] == "True"
    assert [rows[1]["split_1"], rows[1]["split_2"]] == ["0.500000", ""]
    assert content["candidates"][1]["scores"][1] is None
    assert (content["missed"], content["failed"]) == (["c on net"], {"d": "why"})


def test_the_section_shows_a_large_comparison(tmp_path):
    strategies = [f"strategy-{n}" for n in range(8)]
    entries = [
        candidate(strategy, around(0.7 + 0.02 * n + 0.01 * m, 10 * n + m), ms=5 + 3 * m, backbone=f"network_{m}")
        for n, strategy in enumerate(strategies)
        for m in range(6)
    ]
    board = replace(
        board_of(entries[:-1], missed=("strategy-7 on network_5",), failed={"<b>x</b>": "why"}),
        optimism=Optimism(0.9, 0.88, 0.8, 0.95, ("a", "b")),
    )
    view = describe(board)
    assert (len(view.shown), len(view.folded)) == (OPEN_ROWS, 47 - OPEN_ROWS)
    assert (len(view.matrix), len(view.backbones)) == (8, 6)
    assert all(0 <= row.low <= row.mean <= row.high for row in (*view.shown, *view.folded))
    html = written(replace(report_of(["ants", "bees"]), leaderboard=board), tmp_path)
    page = Page(html)
    assert (page.wrong, page.open) == ([], [])
    text = " ".join("".join(page.text).split())
    assert "47 candidates on the same splits" in text
    assert "27 more" in text
    assert "optimistic by about +0.020" in text
    assert "<b>x</b>" in text
    assert len([attrs for attrs in page.all("tr") if attrs.get("class") == "recommended"]) == 1
    assert describe(None) is None


def test_means_stay_shares_where_few_splits_were_measured():
    whole = candidate("whole", np.array([0.8, 1, 1, 1, 1, 1]))
    lucky = candidate("lucky", np.array([1, *[np.nan] * 5]))
    standings = stand([whole, lucky], RATIO, 60)
    assert max(one.mean for one in standings) <= 1
    assert [one.candidate.strategy for one in standings if one.recommended] == ["whole"]
    assert standings[0].candidate is whole
    assert 0 < standings[1].low < standings[1].high <= 1


def test_a_few_splits_that_agree_leave_doubt():
    """Two folds that differ by the same two images are no certainty."""
    a, b = candidate("a", np.array([0.80, 0.90])), candidate("b", np.array([0.78, 0.88]))
    standings = stand([a, b], 1.0, 100)
    assert standings[1].tie
    assert standings[1].p > 0.05
    assert stand([a, candidate("c", np.array([0.30, 0.40]))], 1.0, 100)[1].p < 0.05


def test_log_loss_tells_apart_what_accuracy_cannot():
    base = around(0.9, 0)
    sure, unsure = (
        replace(candidate(name, base), losses=losses) for name, losses in (("sure", base), ("unsure", base + 1))
    )
    standings = stand([sure, unsure], RATIO, 245)
    by_name = {one.candidate.strategy: one for one in standings}
    assert by_name["unsure"].p == 1
    assert by_name["unsure"].p_loss < 0.001 or by_name["sure"].p_loss == 1


def test_only_what_was_measured_enough_is_best_or_recommended():
    """Five of twenty folds look better, but a whole repeat is what it takes."""
    few = np.full(20, np.nan)
    few[:5] = 0.95
    whole = replace(candidate("whole", around(0.9, 0, 20)), enough=20)
    board = board_of([replace(candidate("few", few), enough=20), whole])
    assert board.best.candidate is whole
    assert board.recommended is board.best
    assert "of few on net was seen on 5 splits only, too few to recommend it" in board.sentence
    assert board_of([candidate("few", few), whole]).best.candidate.strategy == "few"


def test_one_split_tells_nothing_so_the_best_is_taken_however_slow():
    slow, fast = candidate("slow", [0.9, np.nan], ms=30), candidate("fast", [0.5, np.nan], ms=1)
    board = board_of([slow, fast])
    assert board.recommended.candidate is slow
    assert [one.p_least for one in board.standings] == [None, None]
    assert "One split cannot tell" in board.sentence


def test_equal_means_are_decided_by_the_fit_unless_time_has_no_say():
    base = around(0.9, 0)
    slow = replace(candidate("slow", base, size=999), fit_seconds=5.0)
    quick = candidate("quick", base)
    assert board_of([slow, quick]).recommended.candidate is quick
    jitter = [replace(quick, fit_seconds=seconds, size=999) for seconds in (0.002, 0.09)]
    assert board_of([replace(jitter[0], size=1000), jitter[1]]).recommended.candidate is jitter[1]
    noisy = replace(quick, fit_seconds=0.15)
    assert board_of([noisy, candidate("other", base, size=1001)]).recommended.candidate is noisy
    assert next(one for one in stand([slow, quick], RATIO, 100, as_fast=np.inf) if one.recommended).candidate is slow


def test_what_is_left_out_and_what_only_log_loss_tells_is_said():
    base = around(0.9, 0)
    lonely = board_of([candidate("a", base)], missed=("b", "c"), failed={"d": "why"}).sentence
    assert lonely.startswith("The only one measured is a on net")
    assert lonely.endswith("of the others 2 did not fit in the budget and 1 could not be fitted")
    sure = replace(candidate("sure", np.ones(15)), losses=around(0.1, 1))
    unsure = replace(candidate("unsure", np.ones(15)), losses=around(0.9, 2))
    found = board_of([sure, unsure])
    assert "worse by more than chance, in log loss." in found.sentence
    assert found.standings[1].p_least == found.standings[1].p_loss < 0.001
    assert "ms" not in board_of([replace(sure, image_ms=np.nan)]).sentence


def test_the_optimism_is_told_with_its_interval():
    assert "+0.020, roughly" in Optimism(0.9, 0.88, 0.8, 0.95, ("a",)).sentence
    assert "roughly" not in Optimism(0.99, 0.88, 0.8, 0.95, ("a",)).sentence
    assert Optimism(0.8, 0.88, 0.8, 0.95, ("a",)).sentence.endswith("is not above it")


def test_the_report_says_the_rule_that_was_used(tmp_path):
    few = np.full(15, np.nan)
    few[:3] = 0.5
    entries = [candidate("a", around(0.9, 0)), candidate("b", few)]
    timed = written(replace(report_of(["x", "y"]), leaderboard=board_of(entries)), tmp_path / "timed")
    assert "the fastest is recommended" in timed
    assert "3 splits only" in timed
    untimed = board_of([replace(one, image_ms=np.nan) for one in entries])
    plain = written(replace(report_of(["x", "y"]), leaderboard=untimed), tmp_path / "plain")
    assert "the fastest is recommended" not in plain
    assert "milliseconds an image" not in plain
    assert "milliseconds an image" in timed
