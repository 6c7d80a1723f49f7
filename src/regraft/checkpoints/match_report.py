"""What of a checkpoint went into a network: every tensor accounted for, and the share by stage."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from regraft.checkpoints.checkpoint import Shape

_SHOWN = 5
_CONTAINERS = {
    "backbone", "blocks", "encoder", "features", "layers", "model", "module", "stages", "trunk", "trunk_output",
}  # fmt: skip
_NUMBERED = re.compile(r"(.*?)(\d+)")

Status = Literal["loaded", "adapted", "mismatched", "missing"]


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor of the network.

    Attributes:
        name: in the network.
        status: loaded (as it stands in the file), adapted (see `how`), mismatched (both have it, the shapes or
            number types do not fit each other; not copied) or missing (the file has none; not copied).
        expected: its shape in the network.
        sources: the names in the file it came from, or that did not fit.
        found: the first source's shape in the file, or None.
        how: what was done to it, or why it does not fit; may be empty.
        parameter: whether it is a parameter; else a buffer, such as a BatchNorm's running statistics.
        head: whether it belongs to the last layer, which another task replaces anyway.
    """

    name: str
    status: Status
    expected: Shape
    sources: tuple[str, ...] = ()
    found: Shape | None = None
    how: str = ""
    parameter: bool = True
    head: bool = False

    @property
    def size(self) -> int:
        """How many numbers it counts for: those of a parameter, 0 for a buffer."""
        return product(self.expected) if self.parameter else 0

    @property
    def filled(self) -> bool:
        """Whether the network has the file's numbers in it."""
        return self.status in {"loaded", "adapted"}

    def __str__(self) -> str:
        if self.status == "mismatched":
            return f"{self.name} {self.how}"
        return f"{self.name} ({self.how})" if self.how else self.name


@dataclass(frozen=True, slots=True)
class StageShare:
    """How much of one part of the network was filled.

    Attributes:
        name: the part, as `layer1` or `blocks.3`.
        size: how many numbers its parameters have.
        loaded_size: how many of them were filled.
        open: the names of its tensors that were not.
    """

    name: str
    size: int
    loaded_size: int
    open: tuple[str, ...]


@dataclass(frozen=True)
class MatchReport:
    """What of a checkpoint fits a network.

    Attributes:
        rows: every tensor of the network, in its order, but for constants that the network computes itself and
            that the file has no say in (batch counters, index tables, masks).
        unexpected: names in the file that were not used.
        how: which way the names were matched, for people: "by name", "by name, without the prefix 'module.'".
        notes: what the user should know besides.
    """

    rows: tuple[Row, ...]
    unexpected: tuple[str, ...]
    how: str
    notes: tuple[str, ...] = ()
    unused_head: tuple[str, ...] = field(default=())

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names in the network that hold the file's numbers as they stand there."""
        return tuple(row.name for row in self.rows if row.status == "loaded")

    @property
    def adapted(self) -> tuple[Row, ...]:
        """Tensors that were changed to fit, each with `how`."""
        return tuple(row for row in self.rows if row.status == "adapted")

    @property
    def mismatched(self) -> tuple[Row, ...]:
        """Tensors that both sides have and that do not fit each other."""
        return tuple(row for row in self.rows if row.status == "mismatched")

    @property
    def missing(self) -> tuple[str, ...]:
        """Names in the network that the file has nothing for."""
        return tuple(row.name for row in self.rows if row.status == "missing")

    @property
    def size(self) -> int:
        """How many numbers the network's parameters have, its head aside."""
        return sum(row.size for row in self.rows if not row.head)

    @property
    def loaded_size(self) -> int:
        """How many of them were filled."""
        return sum(row.size for row in self.rows if row.filled and not row.head)

    @property
    def share(self) -> float:
        """Share of the parameters' numbers that were filled, 0..1, the head aside."""
        return self.loaded_size / self.size if self.size else float(self.complete)

    @property
    def complete(self) -> bool:
        """Whether every tensor outside the head was filled, running statistics included."""
        return all(row.filled or row.head for row in self.rows)

    @property
    def lost_statistics(self) -> tuple[str, ...]:
        """Running statistics that were not filled, of layers that have no weight or whose weight was."""
        filled = {row.name: row.filled for row in self.rows}
        return tuple(
            row.name
            for row in self.rows
            if not row.filled
            and row.name.endswith(("running_mean", "running_var"))
            and filled.get(f"{row.name.rpartition('.')[0]}.weight", True)
        )

    @property
    def stages(self) -> tuple[StageShare, ...]:
        """The share of each part of the network, in its order, the head aside."""
        parts: dict[str, list[Row]] = {}
        for row in self.rows:
            if not row.head:
                parts.setdefault(stage_of(row.name), []).append(row)
        return tuple(
            StageShare(
                name,
                sum(row.size for row in rows),
                sum(row.size for row in rows if row.filled),
                tuple(row.name for row in rows if not row.filled),
            )
            for name, rows in parts.items()
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; of what was loaded as it is only the number is told."""
        return {
            "how": self.how,
            "share": self.share,
            "parameters": self.size,
            "parameters_loaded": self.loaded_size,
            "tensors_loaded": len(self.loaded),
            "adapted": {row.name: row.how for row in self.adapted},
            "mismatched": {row.name: [list(row.found or ()), list(row.expected)] for row in self.mismatched},
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "stages": {stage.name: [stage.loaded_size, stage.size] for stage in self.stages},
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """One line."""
        whole = tuple(str(row) for row in self.mismatched if not row.head)
        parts = [f"{percent(self.share)} of the backbone's parameters loaded {self.how}"]
        parts += [f"adapted {'; '.join(_changes(self.adapted))}"] if self.adapted else []
        parts += [f"missing {_some(self.missing)}"] if self.missing else []
        parts += [f"not fitting: {_some(whole, '; ')}"] if whole else []
        parts += [f"not used {_some(self.unexpected)}"] if self.unexpected else []
        return "; ".join(parts)


def table(report: MatchReport, *, every: bool = False) -> list[str]:
    """The report as lines of text: one a stage, neighbours that are alike in one; with `every`, one a tensor."""
    lines = [f"matched {report.how}"]
    lines += _tensor_lines(report) if every else _stage_lines(report)
    lines.append(
        f"backbone: {percent(report.share)} of {report.size:,} parameters loaded"
        + ("" if report.complete else ", not complete")
    )
    head = [row for row in report.rows if row.head]
    if head:
        state = "loaded" if all(row.filled for row in head) else "not loaded: it stays as it was initialised"
        lines.append(f"head ({', '.join(row.name for row in head)}): {state}")
    if not every:
        lines += [f"adapted: {what}" for what in _changes(report.adapted)]
        lines += [f"not fitting: {_some(tuple(str(row) for row in report.mismatched), '; ')}"] * bool(report.mismatched)
        lines += [f"missing: {_some(report.missing)}"] * bool(report.missing)
    if report.unused_head:
        lines.append(f"the file's head is not needed: {_some(report.unused_head)}")
    rest = tuple(name for name in report.unexpected if name not in report.unused_head)
    if rest:
        lines.append(f"in the file and not used: {', '.join(rest) if every else _some(rest)}")
    return lines + [f"note: {note}" for note in report.notes]


def _changes(rows: tuple[Row, ...]) -> list[str]:
    """What was changed, alike changes together."""
    alike: dict[str, list[str]] = {}
    for row in rows:
        alike.setdefault(row.how, []).append(row.name)
    return [
        f"{names[0]}: {how}" if len(names) == 1 else f"{len(names)} tensors such as {names[0]}: {how}"
        for how, names in alike.items()
    ]


def _tensor_lines(report: MatchReport) -> list[str]:
    width = max((len(row.name) for row in report.rows), default=0)
    return [
        f"  {row.name:<{width}}  {row.status:<10}  {row.expected!s:<20}"
        f"  {' + '.join(row.sources)}{f' ({row.how})' if row.how else ''}".rstrip()
        for row in report.rows
    ]


def _stage_lines(report: MatchReport) -> list[str]:
    merged = _merged(report.stages)
    width = max([5, *(len(name) for name, _, _, _ in merged)])
    lines = [f"  {'stage':<{width}}  {'parameters':>12}  loaded"]
    for name, size, loaded, missing in merged:
        share = percent(loaded / size) if size else ("100 %" if not missing else "0 %")
        lines.append(f"  {name:<{width}}  {size:>12,}  {share}" + (f", {missing} tensors open" if missing else ""))
    return lines


def _merged(stages: tuple[StageShare, ...]) -> list[tuple[str, int, int, int]]:
    """Runs of complete neighbours whose names differ in their last number, as `blocks.0 to 11`."""
    merged: list[tuple[str, int, int, int]] = []
    start, stem = "", ""
    for stage in stages:
        found = _NUMBERED.fullmatch(stage.name)
        if merged and found and found[1] == stem and not stage.open and not merged[-1][3]:
            _, size, loaded, _ = merged[-1]
            merged[-1] = (f"{start} to {found[2]}", size + stage.size, loaded + stage.loaded_size, 0)
            continue
        start, stem = stage.name, found[1] if found else ""
        merged.append((stage.name, stage.size, stage.loaded_size, len(stage.open)))
    return merged


def stage_of(name: str) -> str:
    """The part of a network that a tensor belongs to, by its name: containers opened, then one word more."""
    words = name.split(".")
    owner = words[:-1] or words
    depth = next((n for n, word in enumerate(owner) if word not in _CONTAINERS), len(owner) - 1)
    return ".".join(owner[: depth + 1])


def product(shape: Shape) -> int:
    """Number of elements of a shape."""
    total = 1
    for side in shape:
        total *= side
    return total


def percent(share: float) -> str:
    """A share as per cent with one digit; never rounds an incomplete one up to 100 %."""
    return f"{int(share * 1000 + 1e-9) / 10:g} %"


def _some(names: tuple[str, ...], separator: str = ", ") -> str:
    more = f"{separator}and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more
