"""Aligning two ordered lists: the optimum and the number of ways, against plain enumeration."""

import itertools
import random

import pytest

from regraft.checkpoints.structure.alignment import (
    MANY,
    Place,
    Slot,
    find_places,
    gathered,
    layers,
    names_tell,
    optimum,
)


def _enumerated(places):
    """All alignments there are, written out: the greatest weight, and how many different ones reach it."""
    weights = []
    for choice in itertools.product(*[[None, *candidates] for candidates in places]):
        taken = [place for place in choice if place]
        if all(a.stop <= b.start for a, b in itertools.pairwise(taken)):
            weights.append(sum(place.weight for place in taken))
    return max(weights), weights.count(max(weights))


@pytest.mark.parametrize("seed", range(150))
def test_the_optimum_and_its_count_are_those_of_enumeration(seed):
    rng = random.Random(seed)
    length = rng.randint(1, 7)
    places = []
    for _ in range(rng.randint(1, 5)):
        spans = {(start, rng.randint(start + 1, length)) for start in rng.choices(range(length), k=rng.randint(0, 3))}
        places.append([Place(start, stop, (), rng.randint(1, 3)) for start, stop in spans])
    found = optimum(places, length)
    assert (found.weight, found.count) == _enumerated(places)
    chosen = [place for place in found.chosen if place]
    assert sum(place.weight for place in chosen) == found.weight
    assert all(a.stop <= b.start for a, b in itertools.pairwise(chosen))
    assert all(place is None or place in candidates for place, candidates in zip(found.chosen, places, strict=True))


@pytest.mark.parametrize("seed", range(100))
def test_places_are_all_order_preserving_embeddings_of_tiny_files(seed):
    """The oracle embeds single tensors one by one and knows nothing of layers, places or dynamic programming."""
    rng = random.Random(seed)
    shapes = [(2,), (3,), (2, 2)]
    source = [Slot(f"word{i}", rng.choice(shapes)) for i in range(rng.randint(1, 7))]
    target = [Slot(f"gamma_{i}", rng.choice(shapes)) for i in range(rng.randint(1, 4))]
    best, ways = 0, 0
    for size in range(len(target) + 1):
        for ours in itertools.combinations(target, size):
            for theirs in itertools.combinations(source, size):
                if [slot.shape for slot in ours] != [slot.shape for slot in theirs]:
                    continue
                value = sum(65536 * slot.size + 1 for slot in ours)
                ways = ways + 1 if value == best else 1 if value > best else ways
                best = max(best, value)
    found = optimum(find_places(source, layers(target), told=False), len(source))
    assert (found.weight, found.count) == (best, ways)


def test_the_count_saturates_instead_of_overflowing():
    source = [Slot(f"w{i}", (2,)) for i in range(200)]
    target = layers([Slot(f"gamma_{i}", (2,)) for i in range(100)])
    assert optimum(find_places(source, target, told=False), 200).count == MANY


def test_layers_are_neighbours_of_one_module_and_bare_parameters_stand_alone():
    names = ["cls_token", "pos_embed", "conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "ls.gamma", "ls.beta"]
    grouped = layers([Slot(name, (2,)) for name in names])
    assert [[slot.name for slot in layer] for layer in grouped] == [
        ["cls_token"], ["pos_embed"], ["conv.weight"], ["bn.weight", "bn.bias", "bn.running_mean"], ["ls.gamma"],
        ["ls.beta"],
    ]  # fmt: skip


def test_a_counter_may_be_absent_but_a_statistic_may_not():
    norm = layers([
        Slot("n.weight", (2,)), Slot("n.bias", (2,)), Slot("n.running_mean", (2,)), Slot("n.running_var", (2,)),
        Slot("n.num_batches_tracked", (), integer=True),
    ])  # fmt: skip
    four = [Slot(word, (2,)) for word in "abcd"]
    assert [(p.start, p.stop) for p in find_places(four, norm, told=False)[0]] == [(0, 4)]
    assert find_places(four[:3], norm, told=False) == [[]]
    best = optimum(find_places([*four, Slot("e", (), integer=True)], norm, told=False), 5)
    assert (best.chosen[0].stop, best.count) == (5, 1)


def test_told_names_keep_layers_whole_and_kinds_apart():
    plain = layers([Slot("a.weight", (2,))])
    assert find_places([Slot("x.weight", (2,))], plain, told=True)[0]
    assert not find_places([Slot("x.bias", (2,))], plain, told=True)[0]
    assert not find_places([Slot("x.weight", (2,)), Slot("x.bias", (2,))], plain, told=True)[0]


def test_names_that_tell_and_modules_that_are_gathered():
    names = ["b.bias", "a.running_mean", "a.weight", "b.weight"]
    assert [slot.name for slot in gathered([Slot(name, (2,)) for name in names])] == [
        "b.weight", "b.bias", "a.weight", "a.running_mean",
    ]  # fmt: skip
    assert names_tell([Slot(name, (2,)) for name in names])
    assert not names_tell([Slot(name, (2,)) for name in ("weight", "p.q", "x")])
    assert not names_tell([])
