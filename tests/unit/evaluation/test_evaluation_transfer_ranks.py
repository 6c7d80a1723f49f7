import numpy as np
import pytest

from regraft.evaluation.transfer.ranks import rank_by_loss


def test_ranks_and_ties_of_candidates_near_and_far():
    generator = np.random.default_rng(0)
    hard = generator.exponential(size=300)  # some images are hard for all: that must not hide a difference
    losses = np.stack([hard + 0.5, hard + generator.normal(0, 0.3, 300), hard + generator.normal(0, 0.3, 300)])
    ranks = rank_by_loss(losses, np.arange(300), seed=1)
    np.testing.assert_allclose(ranks.mean, losses.mean(axis=1))
    assert sorted(ranks.rank) == [1, 2, 3]
    assert ranks.rank[0] == 3
    assert ranks.tied.tolist() == [False, True, True]
    assert ranks.rank_interval.tolist() == [[3, 3], [1, 2], [1, 2]]
    assert ranks.behind[0, 0] == pytest.approx(0.5, abs=0.1)
    # Whole losses spread far more than their differences.
    assert np.ptp(ranks.interval[0]) > 2 * np.ptp(ranks.behind[0])


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(2).normal(size=400)
    low, high = rank_by_loss(values[None], np.arange(400), seed=0).interval[0]
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)


def test_a_group_counts_as_one_draw():
    values = np.repeat(np.random.default_rng(2).normal(size=50), 8)
    together = rank_by_loss(values[None], np.repeat(np.arange(50), 8), seed=0).interval[0]
    apart = rank_by_loss(values[None], np.arange(400), seed=0).interval[0]
    assert np.ptp(together) / np.ptp(apart) == pytest.approx(8**0.5, rel=0.15)


def test_equal_candidates_share_everything_but_the_place_in_line():
    values = np.random.default_rng(3).exponential(size=60)
    ranks = rank_by_loss(np.stack([values, values]), np.arange(60), seed=0)
    assert ranks.rank.tolist() == [1, 2]
    assert ranks.rank_interval.tolist() == [[1, 1], [1, 1]]
    assert ranks.tied.all()


def test_names_of_units_do_not_matter_and_seeds_repeat():
    losses = np.random.default_rng(4).exponential(size=(3, 80))
    first = rank_by_loss(losses, np.arange(80), seed=5)
    again = rank_by_loss(losses, np.arange(80) * 7 + 3, seed=5)
    np.testing.assert_array_equal(first.interval, again.interval)
    np.testing.assert_array_equal(first.behind, again.behind)
