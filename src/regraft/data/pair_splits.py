"""Make train and val of change pairs, whole scenes at a time, as far as the user has not."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from regraft.errors import OptionError, SplitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from regraft.data.pairs import Pairs

_MIN_SCENES = 5  # with fewer, whole scenes cannot be shared out by fractions
_TILE_SUFFIX = r"[_-][A-Za-z]?[0-9]+"


def split_pairs(pairs: Pairs, *, seed: int, val: float = 0.15, test: float = 0.0, resplit: bool = False) -> Pairs:
    """Make train and val, and test where asked for, as far as the user has not.

    Pairs that have train and val are returned unchanged. Where train is given and val is not, val is taken from
    train, never from test. Without any split, or with `resplit`, all are divided: `val` and `test` of the pairs,
    rounded, at least one each, the rest is train. Tiles of one scene show the same houses and the same light, so they
    stay in one split where the names tell scenes apart; see `scenes_of`. So do pairs of identical files. Who goes
    where follows from a hash of the seed and the names, not from the order of files or where the folder lies.

    Args:
        pairs: what to divide.
        seed: another seed gives another division.
        val: fraction of the divided pairs for val.
        test: fraction for test.
        resplit: divide anew although there are splits.

    Returns:
        The pairs with a split each, in the same order, and a `split_note` that says how.

    Raises:
        SplitError: some pairs have a split and others not; there is no train among the splits; too few pairs.
        OptionError: impossible fractions.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise OptionError(
            f"Cannot put {val:g} into val and {test:g} into test. Expected 0 or more, with a sum below 1."
        )
    given = {} if resplit else pairs.split_sizes()
    if given:
        _check_given(pairs, given)
        if "val" in given or val == 0:
            return pairs
        test = 0.0
    names = [item.name for item in pairs.items if not given or item.split == "train"]
    fractions = {split: part for split, part in (("test", test), ("val", val)) if part > 0}
    if len(names) < len(fractions) + 1:
        raise SplitError(
            f"{pairs.source} has {len(names)} pairs to divide into train and {' and '.join(fractions)}: expected at"
            f" least {len(fractions) + 1}. Add pairs, or cut large scenes into tiles."
        )
    scenes = scenes_of(names)
    keys = {item.name: item.key for item in pairs.items}
    groups = _together(names, scenes, keys)
    if len(set(groups.values())) < len(fractions) + 1:  # copies join all scenes: better divide those than nothing
        groups = _together(names, None, keys)
    if len(set(groups.values())) < len(fractions) + 1:
        raise SplitError(
            f"{pairs.source} has {len(names)} pairs, but they are copies of {len(set(groups.values()))}, which cannot"
            f" be divided into train and {' and '.join(fractions)}. Add other pairs."
        )
    chosen = _divide(names, groups, fractions, seed)
    items = tuple(replace(item, split=chosen.get(item.name, item.split)) for item in pairs.items)
    divided = replace(pairs, items=items)
    return replace(divided, split_note=_note(divided, seed, fractions, names, scenes, given))


def _check_given(pairs: Pairs, given: dict[str, int]) -> None:
    told = ", ".join(f"{name} {size}" for name, size in given.items())
    without = len(pairs) - sum(given.values())
    if without:
        raise SplitError(
            f"{pairs.source}: {without} of {len(pairs)} pairs have no split, the others have ({told}). Put them into a"
            f" list, or divide all anew with --resplit."
        )
    if "train" not in given:
        raise SplitError(f"{pairs.source} has no train split, only {told}. Add one, or divide all anew with --resplit.")


def scenes_of(names: Iterable[str]) -> dict[str, str] | None:
    """Which scene each tile is of, by name: "scene12_0_256.png" is of "scene12"; None where names do not tell.

    Two numbers at the end of the names are taken for a tile's place in its scene, else one number is for the tile's;
    each may have a letter in front. That is believed where it makes at least five scenes, some with several tiles
    and none with more than half of them.
    """
    stems = {name: name.rpartition(".")[0] or name for name in names}
    for count in (2, 1):
        pattern = re.compile(f"(?:{_TILE_SUFFIX}){{{count}}}$")
        scenes = {name: pattern.sub("", stem) for name, stem in stems.items()}
        sizes = Counter(scenes.values())
        if _MIN_SCENES <= len(sizes) < len(stems) and 2 * max(sizes.values()) <= len(stems):
            return scenes
    return None


def shared_scenes(pairs: Pairs) -> int:
    """How many scenes have tiles in more than one split, as far as names tell."""
    scenes = scenes_of([item.name.partition("/")[2] or item.name for item in pairs.items]) or {}
    splits: dict[str, set[str | None]] = {}
    for item in pairs.items:
        short = item.name.partition("/")[2] or item.name
        splits.setdefault(scenes.get(short, item.name), set()).add(item.split)
    return sum(len(found) > 1 for found in splits.values())


def _together(names: list[str], scenes: dict[str, str] | None, keys: Mapping[str, str | None]) -> dict[str, str]:
    """The group of each name, which stays in one split: its scene, joined with those that share a pair of files."""
    group = {name: scenes[name] if scenes else name for name in names}
    first: dict[str, str] = {}
    for name in names:
        key = keys[name]
        if key is None:
            continue
        other = group[first.setdefault(key, name)]
        own = group[name]
        if own != other:
            group = {one: other if where == own else where for one, where in group.items()}
    return group


def _divide(names: list[str], groups: dict[str, str], fractions: dict[str, float], seed: int) -> dict[str, str]:
    """The split of each name: whole groups, in an order shuffled by hash, as far as they fit."""
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(groups[name], []).append(name)
    rest = sorted(members, key=lambda scene: hashlib.sha256(f"{seed}\x1f{scene}".encode("utf-8", "replace")).digest())
    chosen = dict.fromkeys(names, "train")
    for at, (split, fraction) in enumerate(fractions.items()):
        room = max(1, round(fraction * len(names)))
        taken: list[str] = []
        for scene in rest:
            # The splits still to come, and train, need a scene each.
            if len(members[scene]) <= room and len(rest) - len(taken) > len(fractions) - at:
                taken.append(scene)
                room -= len(members[scene])
        for scene in taken or [min(rest, key=lambda scene: len(members[scene]))]:
            chosen |= dict.fromkeys(members[scene], split)
            rest.remove(scene)
    return chosen


def _note(
    divided: Pairs,
    seed: int,
    fractions: dict[str, float],
    names: list[str],
    scenes: dict[str, str] | None,
    given: dict[str, int],
) -> str:
    parts = " and ".join(f"{part:g} for {split}" for split, part in fractions.items()) or "all for train"
    sizes = ", ".join(f"{name} {size}" for name, size in divided.split_sizes().items())
    note = f"made: seed {seed}, {parts}; {sizes}"
    if given:
        note = f"as given, but val was made of train: seed {seed}, {parts}; {sizes}"
    if scenes is None:
        return f"{note}; names do not tell scenes apart, so neighbouring tiles may be in different splits"
    return f"{note}; tiles of a scene kept together ({len({scenes[name] for name in names})} scenes by their names)"
