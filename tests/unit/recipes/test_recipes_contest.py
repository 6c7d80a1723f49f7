"""The contest: the same splits for all, budgets, failures, and no look at anything but the training part."""

import csv
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from regraft import heads
from regraft.data.manifest import Item, Manifest
from regraft.errors import DataError, OptionError
from regraft.features.table import FeatureTable
from regraft.recipes import contest as module
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.choose import _MOST_ROWS, choose, entry_of, feature_strategies
from regraft.recipes.compare import select
from regraft.recipes.compare_backbones import Backbones
from regraft.recipes.contest import Entry, contest
from regraft.recipes.contest_splits import Task, choose_metric, make_task_splits, parse_folds, score
from regraft.recipes.gather import Gathered
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.nested import nested_optimism
from regraft.recipes.rivals import measure_rivals

CHEAP = [STRATEGIES[name] for name in ("nearest-mean", "naive-bayes", "knn")]


def blobs(n=60, d=12, classes=3, distance=2.0, seed=0):
    generator = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    centres = generator.normal(0, distance, (classes, d))
    return (centres[targets] + generator.normal(0, 1, (n, d))).astype(np.float32), targets


def task(targets, groups=None):
    return Task(targets, tuple(f"class {n}" for n in range(targets.max() + 1)), groups)


def summary(board):
    return [(one.candidate.name, one.mean, one.p, one.candidate.scores.tolist()) for one in board.standings]


def test_folds_are_parsed():
    assert parse_folds("5x3") == (5, 3)
    assert parse_folds(" 10X1 ") == (10, 1)
    assert parse_folds("4") == (4, 1)
    assert parse_folds("5 x 3") == (5, 3)
    for wrong in ("1x3", "5x0", "x", "5/3", "", "21x1", "5x101", "-5x3"):
        with pytest.raises(OptionError, match="5x3"):
            parse_folds(wrong)


def test_splits_are_stratified_repeated_and_fewer_for_small_classes():
    targets = np.repeat([0, 1, 2], [30, 20, 3])
    splits = make_task_splits(task(targets), 5, 3, seed=1)
    assert (splits.folds, len(splits.parts), splits.told) == (3, 9, "3 folds x 3")
    assert splits.notes == ("3 folds instead of 5: 'class 2' has 3 training images",)
    for repeat in range(3):
        held = np.concatenate([part.held_out for part in splits.parts if part.repeat == repeat])
        assert sorted(held) == list(range(53))
    first, second = (splits.parts[n].held_out for n in (0, 3))
    assert not np.array_equal(first, second)
    assert splits.ratio == pytest.approx(0.5, rel=0.05)
    with pytest.raises(DataError, match="nothing can be compared"):
        make_task_splits(task(np.array([0, 1, 2])), 5, 3)


def test_groups_stay_on_one_side():
    _, targets = blobs(80)
    groups = np.random.default_rng(0).integers(0, 20, 80)
    for part in make_task_splits(task(targets, groups), 5, 2).parts:
        assert not set(groups[part.learn]) & set(groups[part.held_out])


def test_metrics():
    targets, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    assert score("accuracy", targets, predicted) == 0.75
    assert score("balanced_accuracy", targets, predicted) == 0.5
    assert choose_metric("auto", np.repeat([0, 1], [50, 10])) == "accuracy"
    assert choose_metric("auto", np.repeat([0, 1], [51, 10])) == "balanced_accuracy"
    with pytest.raises(OptionError, match="f1"):
        choose_metric("f1", targets)


def test_scores_are_those_of_a_plain_loop():
    features, targets = blobs(distance=0.7)
    entries = [Entry("a", features), Entry("b", features[:, :4])]
    board = contest(entries, CHEAP, task(targets), folds=(5, 2), seed=3)
    splits = make_task_splits(task(targets), 5, 2, seed=3)
    for one in board.standings:
        own = next(entry for entry in entries if entry.backbone == one.candidate.backbone).features
        expected = []
        for part in splits.parts:
            head = heads.fit(one.candidate.strategy, own[part.learn], targets[part.learn], 3, seed=3).head
            expected.append((head.logits(own[part.held_out]).argmax(axis=1) == targets[part.held_out]).mean())
        assert one.candidate.scores.tolist() == expected
        assert one.mean == pytest.approx(np.mean(expected))


def test_without_a_budget_it_is_deterministic_and_with_a_long_one_the_same():
    features, targets = blobs(distance=0.7)
    entries = [Entry("a", features), Entry("b", features[:, :4])]
    boards = [contest(entries, CHEAP, task(targets), folds=(5, 2), budget=budget) for budget in (None, None, 600)]
    assert summary(boards[0]) == summary(boards[1]) == summary(boards[2])
    assert boards[2].missed == ()


def test_features_in_another_order_and_unit_do_not_matter():
    features, targets = blobs(distance=0.7)
    plans = [STRATEGIES["nearest-mean"]]
    one = contest([Entry("a", features)], plans, task(targets))
    other = contest([Entry("a", 8 * features[:, ::-1])], plans, task(targets))
    assert one.best.candidate.scores.tolist() == other.best.candidate.scores.tolist()


def slowed(monkeypatch, seconds, clock):
    """Let each fit take so long on a clock that nobody has to wait for."""
    fit = heads.fit

    def slow(name, *args, **options):
        clock.now += seconds[name]
        return fit(name, *args, **options)

    monkeypatch.setattr(module.heads, "fit", slow)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(module, "cores", lambda: 1)


@pytest.mark.parametrize(
    ("budget", "splits", "missed"),
    [
        (200.0, {"nearest-mean": 15, "naive-bayes": 15, "knn": 15}, []),
        (110.0, {"nearest-mean": 10, "naive-bayes": 10, "knn": 5}, []),
        (29.0, {"nearest-mean": 5, "naive-bayes": 5}, ["knn on a"]),
        (12.0, {"nearest-mean": 5, "naive-bayes": 3}, ["knn on a"]),
        (2.5, {"nearest-mean": 2}, ["naive-bayes on a", "knn on a"]),
    ],
)
def test_a_budget_is_shared_cheapest_first_and_what_did_not_fit_is_named(monkeypatch, budget, splits, missed):
    features, targets = blobs()
    clock = SimpleNamespace(now=0.0)
    slowed(monkeypatch, {"nearest-mean": 1.0, "naive-bayes": 2.0, "knn": 10.0}, clock)
    board = contest([Entry("a", features)], CHEAP, task(targets), folds=(5, 3), budget=budget)
    assert {one.candidate.strategy: one.splits for one in board.standings} == splits
    assert list(board.missed) == missed


def test_a_candidate_that_fails_is_listed_and_the_others_go_on():
    features, targets = blobs()
    broken = features.copy()
    broken[5] = np.nan
    board = contest([Entry("broken", broken), Entry("a", features)], CHEAP, task(targets))
    assert set(board.failed) == {f"{plan.name} on broken" for plan in CHEAP}
    assert "NaN" in board.failed["knn on broken"]
    assert len(board.standings) == 3
    with pytest.raises(DataError, match="no candidate could be fitted"):
        contest([Entry("broken", broken)], CHEAP, task(targets))


def gathered(features, targets, splits):
    items = tuple(
        Item(f"/{n}.jpg", f"class {label}", split, None, f"{n:064x}")
        for n, (label, split) in enumerate(zip(targets, splits, strict=True))
    )
    manifest = Manifest(items, tuple(f"class {n}" for n in range(targets.max() + 1)), "test")
    return Gathered(manifest, FeatureTable(tuple(item.key for item in items), features, ("x",)), (), None)


def planted(where):
    """A backbone that is honest everywhere, and one that gives the label away on the rows `where` only."""
    honest, targets = blobs(120, distance=0.6, seed=1)
    splits = np.where(np.arange(120) < 80, "train", "test")
    leaky = np.random.default_rng(2).normal(0, 1, honest.shape).astype(np.float32)
    rows = np.isin(splits, where)
    leaky[rows, :3] = 30 * np.eye(3, dtype=np.float32)[targets[rows]]
    parts = {name: gathered(features, targets, splits) for name, features in (("honest", honest), ("leaky", leaky))}
    return Backbones(parts, {}, {"honest": 5.0, "leaky": 5.0})


def selected(found):
    asked = SimpleNamespace(folds="5x2", seed=0, metric="auto", nested=False)
    return select(found, CHEAP, asked, None, Listener())


def test_selection_never_sees_test():
    """Labels planted in the test rows move nothing; the same labels would win if the contest were given those rows."""
    board = selected(planted(["test"]))
    assert summary(board) == summary(selected(planted([])))
    assert board.recommended.candidate.backbone == "honest"
    assert board.images == 80
    found = planted(["test"])
    open_doors = {
        name: replace(
            one, manifest=replace(one.manifest, items=tuple(replace(i, split="train") for i in one.manifest.items))
        )
        for name, one in found.gathered.items()
    }
    caught = selected(replace(found, gathered=open_doors))
    assert summary(caught) != summary(board)
    assert selected(planted(["train"])).best.candidate.backbone == "leaky"


def test_the_nested_estimate_is_honest_where_there_is_nothing_to_learn():
    """The best of 24 views of noise looks better than chance; what the procedure really reaches does not."""
    generator = np.random.default_rng(0)
    targets = np.arange(60) % 2
    # All as slow, or else microseconds of the heads would choose.
    entries = [Entry(str(n), generator.normal(0, 1, (60, 3)).astype(np.float32), image_ms=10.0) for n in range(24)]
    plans = [STRATEGIES["nearest-mean"]]
    asked = SimpleNamespace(folds="5x1", seed=0)
    board = contest(entries, plans, task(targets), folds=(5, 1))
    found = nested_optimism(entries, plans, task(targets), board, asked, None, Listener())
    assert board.best.mean > 0.6
    assert abs(found.nested - 0.5) < 0.13
    assert found.own == board.recommended.mean > found.nested
    assert len(found.chosen) == 5
    assert found.low < found.nested < found.high


def test_strategies_that_train_see_the_same_splits_and_no_other_image(monkeypatch):
    """Seed s learns from what the first split of repeat s learns from, a fifth of it aside for the best epoch."""
    features, targets = blobs(60)
    part = gathered(features, targets, ["train"] * 60)
    splits = make_task_splits(task(targets), 5, 3)
    seen = []

    def train(table, **options):
        if options["strategy"] == "lora":
            raise OptionError("lora is not for this network")
        seen.append((options, list(csv.DictReader(table.read_text("utf-8").splitlines()))))
        return SimpleNamespace(evaluation=SimpleNamespace(scores={"accuracy": 0.1 * len(seen)}))

    monkeypatch.setattr("regraft.recipes.rivals.train", train)
    plans = [STRATEGIES[name] for name in ("finetune", "lora", "partial")]
    entries = [Entry("slow", features, image_ms=9.0), Entry("fast", features, image_ms=5.0)]
    measured = partial(measure_rivals, entries, plans, part, task(targets), splits, "accuracy", {"runtime": "auto"})
    rivals = measured(deadline=None, listener=Listener())
    order = [("partial", "fast"), ("partial", "slow"), ("finetune", "fast"), ("finetune", "slow")]
    assert [(one.strategy, one.backbone) for one in rivals.candidates] == order
    assert set(rivals.failed) == {"lora on fast", "lora on slow"}
    for n, (options, rows) in enumerate(seen[:3]):
        split = splits.parts[5 * n]
        assert options["seed"] == n
        assert [int(row["path"][1:-4]) for row in rows] == list(range(60))
        assert [n for n, row in enumerate(rows) if row["split"] == "test"] == split.held_out.tolist()
        assert sum(row["split"] == "val" for row in rows) == pytest.approx(len(split.learn) / 5, abs=1)
    scores = rivals.candidates[0].scores
    assert scores[[0, 5, 10]] == pytest.approx([0.1, 0.2, 0.3])
    assert np.isfinite(scores).sum() == 3
    late = measured(deadline=time.perf_counter() - 1, listener=Listener())
    assert (late.candidates, len(late.missed)) == ([], 6)


def test_a_few_folds_for_all_come_before_hundreds_for_the_cheapest(monkeypatch):
    features, targets = blobs(120)
    clock = SimpleNamespace(now=0.0)
    slowed(monkeypatch, {"nearest-mean": 0.01, "naive-bayes": 1.0}, clock)
    board = contest([Entry("a", features)], CHEAP[:2], task(targets), folds=(20, 20), budget=10.0)
    splits = {one.candidate.strategy: one.splits for one in board.standings}
    assert splits["nearest-mean"] == 20
    assert 5 <= splits["naive-bayes"] < 20
    assert board.recommended.candidate.strategy == "nearest-mean"
    assert board.splits == "20 of the 400 splits of 20 folds x 20"


def test_three_seeds_are_trained_on_three_splits_of_a_single_repeat_and_few_share_a_short_time(monkeypatch):
    features, targets = blobs(60)
    part, splits, seen = gathered(features, targets, ["train"] * 60), make_task_splits(task(targets), 3, 1), []

    def once(part, task, split, metric, options):
        seen.append(options)
        if float(options["budget"][:-1]) < 8:
            raise OptionError("budget 1s is less than one epoch takes")
        return 0.5

    monkeypatch.setattr("regraft.recipes.rivals._train_once", once)
    plans = [STRATEGIES[name] for name in ("finetune", "lora", "partial")]
    options = {"seed": 7}
    rivals = measure_rivals(
        [Entry("a", features)], plans, part, task(targets), splits, "accuracy", options,
        deadline=time.perf_counter() + 40, listener=Listener(),
    )  # fmt: skip
    assert [(one.strategy, np.isfinite(one.scores).sum()) for one in rivals.candidates] == [("partial", 3)]
    assert rivals.missed == ["lora on a", "finetune on a"]
    assert [one["seed"] for one in seen] == [7, 8, 9]
    assert "3 seeds" in rivals.notes[0]
    seen.clear()
    rivals = measure_rivals(
        [Entry("a", features)], plans, part, task(targets), splits, "accuracy", options,
        deadline=time.perf_counter() + 62, listener=Listener(),
    )  # fmt: skip
    assert len(rivals.candidates) == 2


def test_a_budget_too_small_for_the_nested_estimate_goes_to_the_comparison(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    slowed(monkeypatch, {"nearest-mean": 1.0, "naive-bayes": 1.0, "knn": 1.0}, clock)
    warned = []
    asked = SimpleNamespace(folds="5x2", seed=0, metric="auto", nested=True)
    board = select(planted([]), CHEAP, asked, 20.0, Listener(warn=warned.append))
    assert board.optimism is None
    assert max(one.splits for one in board.standings) >= 5
    assert "nested" in warned[0] == board.notes[-1]


def test_choose_takes_a_part_of_many_and_repeats_itself(monkeypatch):
    assert len(feature_strategies()) >= 8
    monkeypatch.setattr("regraft.recipes.choose.feature_strategies", lambda: CHEAP)
    features, targets = blobs(2600, d=6, distance=0.8)
    said = []
    table = gathered(features, targets, ["train"] * 2400 + ["test"] * 200)
    choice = choose(table, (), 0, Clock(), Listener(said.append))
    assert summary(choice.leaderboard) == summary(choose(table, (), 0, Clock(), Listener()).leaderboard)
    assert said[0] == choice.note == choice.leaderboard.brief
    assert len(choice.note) < 100
    assert choice.strategy.name == choice.leaderboard.recommended.candidate.strategy
    assert choice.leaderboard.recommended is choice.leaderboard.best
    images = choice.leaderboard.images
    assert abs(images - _MOST_ROWS) <= 2
    assert any(f"{images:,} of the 2,400" in note for note in choice.leaderboard.notes)
    assert entry_of("x", table).features.shape == (2600, 6)


def test_choose_falls_back_where_nothing_can_be_held_out():
    features, targets = blobs(3)
    warned = []
    choice = choose(gathered(features, targets, ["train"] * 3), (), 0, Clock(), Listener(warn=warned.append))
    assert (choice.strategy.name, choice.leaderboard) == ("linear-probe", None)
    assert "without a comparison" in warned[0] == choice.note
