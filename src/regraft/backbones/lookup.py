"""Names in the catalogue: which there are, what each means, and what was perhaps meant."""

from __future__ import annotations

import difflib
import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regraft.backbones import packaged, timm_zoo, torchvision_zoo, weights_cache
from regraft.backbones.index import zoo_entries
from regraft.errors import BackboneError

if TYPE_CHECKING:
    from pathlib import Path

    from regraft.backbones.zoo import Entry, Zoo

_PACKAGED: Zoo = packaged
_ZOOS: dict[str, Zoo] = {"timm": timm_zoo, "torchvision": torchvision_zoo}
_NAME = re.compile(r"[\w./-]{1,200}", re.ASCII)
_SUGGESTIONS = 6


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of the catalogue.

    Attributes:
        name: what the user types.
        source: packaged, timm or torchvision.
        available: whether its weights are on this machine.
        where: the weights file, or where it would come from.
    """

    name: str
    source: str
    available: bool
    where: str


def zoo_of(name: str) -> Zoo | None:
    """The source that a name or architecture points to by its form, whether or not it knows it."""
    prefix, slash, _ = name.partition("/")
    return _ZOOS.get(prefix) if slash else _PACKAGED


def resolve(name: str, cache: Path) -> tuple[Zoo, Entry]:
    """The source and the entry that a name means; the default weights where it has no tag.

    Raises:
        BackboneError: the name is unknown; the message gives close matches.
    """
    zoo = zoo_of(name) if _NAME.fullmatch(name) else None
    for entry in _entries(zoo, cache) if zoo else []:
        if zoo and name in {entry.name, _untagged(entry.name)}:
            return zoo, entry
    raise _unknown(name, cache)


def entries_of(architecture: str, cache: Path) -> tuple[Zoo, list[Entry]]:
    """The source that builds an architecture, and all published weights for it, the default ones first.

    Packaged weights come before the zoo's own for the same network.

    Raises:
        BackboneError: the name is not of a zoo.
    """
    zoo = zoo_of(architecture)
    if zoo is None:
        raise _unknown(architecture, cache)
    own = [(source, entry) for source in (_PACKAGED, zoo) for entry in _entries(source, cache)]
    bare = architecture.partition("?")[0]
    found = [(source, entry) for source, entry in own if entry.architecture == bare]
    source = found[0][0] if found else zoo
    return source, [entry for one, entry in found if one is source]


def architecture_of(name: str, cache: Path) -> str:
    """The architecture that a person means: a catalogue name with or without tag, or a network without weights.

    Raises:
        BackboneError: there is no such network; the message gives close matches.
    """
    bare = name.partition("?")[0]
    try:
        return resolve(bare, cache)[1].architecture + name[len(bare) :]
    except BackboneError:
        zoo = zoo_of(bare) if _NAME.fullmatch(bare) else None
        if zoo in _ZOOS.values() and bare in _networks(zoo):
            return name
        raise


def _networks(zoo: Zoo | None) -> set[str]:
    """Every network that a zoo can build, those without published weights too."""
    from regraft.backbones.fingerprints import shipped

    return {network.architecture for network in shipped().networks} if zoo else set()


def names(pattern: str, cache: Path) -> list[Listing]:
    """What the catalogue knows: packaged ones first, then those that are on this machine, then by name.

    The zoos' lists are read from `cache`; a zoo is imported (seconds) only if the pattern could match
    one of its names and this version of it has not been listed before.

    Args:
        pattern: a part of the name, or a glob (`*`, `?`, `[...]`) for the whole name with or without its zoo.
            Empty means all. Case does not matter. A packaged backbone's exact name means that one alone.
        cache: the product's cache folder.

    Raises:
        BackboneError: nothing matches; the message gives close matches.
    """
    wanted = pattern.strip().lower()
    found = [
        _listing(zoo, entry)
        for zoo in _zoos_for(wanted)
        for entry in _entries(zoo, cache)
        if _matches(entry.name.lower(), wanted)
    ]
    if not found:
        raise _unknown(pattern, cache)
    return sorted(found, key=lambda item: (item.source != packaged.NAME, not item.available, item.name))


def available(cache: Path) -> list[str]:
    """Names of all backbones whose weights are on this machine, packaged ones first."""
    here = [name for name in packaged.NAMES if packaged.weights_path(name)]
    if weights_cache.anything_cached():
        here += [e.name for zoo in _ZOOS.values() for e in _entries(zoo, cache) if weights_cache.find(e)]
    return here


def _entries(zoo: Zoo, cache: Path) -> list[Entry]:
    """The packaged ones are looked up anew each time: they cost nothing and can be installed any moment."""
    return packaged.entries() if zoo is _PACKAGED else zoo_entries(zoo, cache)


def _zoos_for(wanted: str) -> list[Zoo]:
    if wanted in packaged.NAMES:
        return [_PACKAGED]
    prefix, slash, _ = wanted.partition("/")
    if slash:
        return [zoo for name, zoo in _ZOOS.items() if fnmatch.fnmatchcase(name, prefix) or name.endswith(prefix)]
    return [_PACKAGED, *_ZOOS.values()]


def _matches(name: str, wanted: str) -> bool:
    if not any(sign in wanted for sign in "*?["):
        return wanted in name
    return fnmatch.fnmatchcase(name, wanted) or fnmatch.fnmatchcase(name.rpartition("/")[2], wanted)


def _listing(zoo: Zoo, entry: Entry) -> Listing:
    path = weights_cache.find(entry)
    where = str(path) if path else packaged.remedy(entry) if zoo is _PACKAGED else weights_cache.origin(entry)
    return Listing(entry.name, zoo.NAME, path is not None, where)


def _untagged(name: str) -> str:
    return name.partition(".")[0]


def _unknown(name: str, cache: Path) -> BackboneError:
    """An error for a name that nothing is called, with what was perhaps meant."""
    close = _close(name.strip().lower(), cache)
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    return BackboneError(
        f"There is no backbone {name[:200]!r}.{meant} Expected {packaged.NAMES[0]}, timm/NAME[.TAG] or"
        " torchvision/NAME[.WEIGHTS]; `regraft backbones PATTERN` lists them."
    )


def _close(wanted: str, cache: Path) -> list[str]:
    """The same name in another zoo or case, else other weights of the same network, else similar networks."""
    known = [entry.name for zoo in (_PACKAGED, *_ZOOS.values()) for entry in _entries(zoo, cache)]
    bare_wanted = wanted.rpartition("/")[2]
    networks = dict.fromkeys(map(_untagged, known))
    same = [name for name in [*known, *networks] if _bare(name) == bare_wanted]
    same = same or [name for name in known if _untagged(name).lower() == _untagged(wanted)]
    if same:
        return same[:_SUGGESTIONS]
    by_bare: dict[str, list[str]] = {}
    for network in networks:
        by_bare.setdefault(_bare(network), []).append(network)
    model = _untagged(bare_wanted)
    near = [model] if model in by_bare else difflib.get_close_matches(model, by_bare, n=_SUGGESTIONS)
    return [name for other in near for name in by_bare[other]][:_SUGGESTIONS]


def _bare(name: str) -> str:
    """Without its zoo, in lower case."""
    return name.rpartition("/")[2].lower()
