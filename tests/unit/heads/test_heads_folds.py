"""Folds: each image once, classes evenly, groups together, nothing that cannot be learnt."""

import numpy as np
import pytest

from regraft.heads.folds import make_folds, stratified_subset


def test_every_image_is_held_out_once_and_classes_are_even():
    targets = np.repeat([0, 1, 2], [50, 23, 9])
    folds = make_folds(targets, seed=3)
    assert folds.n_folds == 5
    assert np.array_equal(np.sort(np.concatenate([held for _, held in folds])), np.arange(82))
    for learn, held in folds:
        assert len(np.intersect1d(learn, held)) == 0
        assert len(learn) + len(held) == 82
    counts = np.array([np.bincount(targets[held], minlength=3) for _, held in folds])
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1


def test_as_many_folds_as_the_smallest_class_has_images():
    assert make_folds(np.repeat([0, 1], [50, 3])).n_folds == 3
    assert make_folds(np.repeat([0, 1], [50, 2])).n_folds == 2


def test_a_class_of_one_image_is_always_learnt_and_never_scored():
    targets = np.repeat([4, 7, 9], [1, 6, 6])
    folds = make_folds(targets)
    assert folds.n_folds == 5
    assert folds.never_scored == (4,)
    assert all(0 in learn for learn, _ in folds)
    assert 0 not in folds.scored


@pytest.mark.parametrize("sizes", [[1, 1, 1], [1, 9], [5]])
def test_no_folds_without_two_classes_to_compare(sizes):
    folds = make_folds(np.repeat(np.arange(len(sizes)), sizes))
    assert folds.n_folds == 0
    assert list(folds) == []
    assert len(folds.never_scored) == len(sizes)


def test_seed_decides_and_class_numbers_do_not():
    targets = np.random.default_rng(0).integers(0, 3, 60)
    first = make_folds(targets, seed=1).held_out_in
    assert np.array_equal(first, make_folds(targets, seed=1).held_out_in)
    assert not np.array_equal(first, make_folds(targets, seed=2).held_out_in)
    renamed = make_folds(np.array([5, 0, 2])[targets], seed=1).held_out_in
    assert np.array_equal(first, renamed)
    in_groups = make_folds(targets, groups=np.arange(60) // 2, seed=1).held_out_in
    assert np.array_equal(
        in_groups, make_folds(np.array([5, 0, 2])[targets], groups=np.arange(60) // 2, seed=1).held_out_in
    )


@pytest.mark.parametrize("seed", range(20))
def test_groups_stay_together_and_every_fold_can_learn_every_class(seed):
    generator = np.random.default_rng(seed)
    targets = generator.choice(4, 70, p=[0.5, 0.3, 0.15, 0.05])
    groups = generator.integers(0, 25, 70)
    folds = make_folds(targets, groups=groups, seed=seed)
    assert folds.n_folds >= 2
    for learn, held in folds:
        assert not set(groups[learn]) & set(groups[held])
        assert set(targets[learn]) == set(targets)
        assert len(held)
    scored = np.unique(targets[folds.scored])
    assert set(scored) | set(folds.never_scored) == set(targets)


def test_groups_balance_the_classes():
    targets = np.repeat(np.arange(40) % 2, 5)
    folds = make_folds(targets, groups=np.repeat(np.arange(40), 5))
    counts = np.array([np.bincount(targets[held], minlength=2) for _, held in folds])
    assert np.array_equal(counts, np.full((5, 2), 20))


def test_images_without_a_group_are_free():
    targets = np.arange(40) % 2
    groups = np.array([None, "", "a", "a"] * 10, dtype=object)
    folds = make_folds(targets, groups=groups)
    assert len(set(folds.held_out_in[groups == "a"])) == 1
    assert sorted(np.bincount(folds.held_out_in)) == [5, 5, 5, 5, 20]


def test_a_class_within_one_group_is_never_held_out():
    targets = np.array([0, 0, 1, 1, 0, 1, 0, 1, 2, 2])
    groups = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 6])
    folds = make_folds(targets, groups=groups)
    assert folds.never_scored == (2,)
    assert folds.n_folds == 3


def test_subset_keeps_shares_and_small_classes():
    targets = np.repeat([0, 1, 2], [9000, 990, 10])
    rows = stratified_subset(targets, 1000, seed=0)
    assert np.bincount(targets[rows]).tolist() == [900, 99, 5]
    assert len(np.unique(rows)) == len(rows)
    assert np.array_equal(rows, np.sort(rows))
    assert np.array_equal(stratified_subset(targets, 10_000), np.arange(10_000))
