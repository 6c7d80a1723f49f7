"""A state dict against a network: find what belongs where, say exactly what does not, and only then copy.

Names are tried as they are, without what wrappers put before them, by the known translations between zoos, and
with what a part saved alone has lost. Where names say nothing, the order and the shapes of the tensors are
compared (`checkpoints/structure/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regraft.checkpoints.adapt import adapt
from regraft.checkpoints.checkpoint import shapes
from regraft.checkpoints.match_report import MatchReport, Row, Status, percent
from regraft.checkpoints.readings import Reading, best_reading, by_structure, fit, score
from regraft.checkpoints.targets import Target, batch_norm_eps, is_constant, is_head, is_integer, targets_of
from regraft.errors import CheckpointError, OptionError, PartialMatch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.checkpoints.checkpoint import Shape
    from regraft.checkpoints.translations import Origin

SHARE = 0.9
"""The share of a backbone's parameters below which a match is an error, unless another is asked for."""

_NAMES_SPEAK = 0.25
_SAME = "Conv2dSame"  # timm's convolution that pads as TensorFlow does: equal tensors, other outputs
_OTHER_FUNCTION = "torchvision's tensors fit, but this network pads its images as TensorFlow does, theirs does not"


@dataclass(frozen=True)
class Plan:
    """What would be copied where.

    Attributes:
        report: what fits and what does not.
        origins: name in the network -> where its tensor comes from, for those that would be filled.
        stem: the name of the first convolution's weight.
    """

    report: MatchReport
    origins: dict[str, Origin]
    stem: str


def match(
    state_dict: Mapping[str, Tensor],
    module: nn.Module,
    *,
    allow_partial: float = SHARE,
    allow_ambiguous: bool = False,
    head: tuple[str, ...] | None = None,
) -> MatchReport:
    """Copy into `module` every tensor of `state_dict` that fits, in place, or nothing at all.

    Args:
        state_dict: named tensors, as `read_checkpoint(path).state_dict` has them.
        module: the network.
        allow_partial: the smallest share (0..1) of the parameters outside the head that must be found; 1 asks for
            every tensor, running statistics included.
        allow_ambiguous: where names say nothing and several alignments are equally good, take the first.
        head: names of the last layer's tensors, which are copied where they fit and otherwise left as they are;
            by default they are guessed from the usual names; () says that the network has no head.

    Returns:
        What was copied, changed and left.

    Raises:
        PartialMatch: less was found (its `report` says what); the module is as it was before.
        CheckpointError: the network has no tensors, or some that cannot be read or written.
    """
    _check_share(allow_partial)
    plan = plan_match(state_dict, module, allow_ambiguous=allow_ambiguous, head=head)
    require(plan.report, allow_partial)
    fill(module, plan, state_dict)
    return plan.report


def plan_match(
    state_dict: Mapping[str, Tensor],
    module: nn.Module,
    *,
    allow_ambiguous: bool = False,
    head: tuple[str, ...] | None = None,
) -> Plan:
    """Find what would be copied, without copying; the module may live on the device `meta`.

    Args:
        state_dict: as in `match`.
        module: as in `match`.
        allow_ambiguous: as in `match`.
        head: as in `match`.
    """
    _check_arguments(state_dict, module, head)
    slots = targets_of(module, head)
    if not slots:
        raise CheckpointError(f"The network ({type(module).__name__}) has no tensors that a checkpoint could fill.")
    source = shapes(state_dict)
    notes: list[str] = []
    best = best_reading(source, slots, batch_norm_eps(module), notes)
    if best.source == "torchvision" and any(type(layer).__name__ == _SAME for layer in module.modules()):
        notes.append(f"{_OTHER_FUNCTION}: take the network of this name without tf_")
        best = Reading("by name", {})
    elif score(best, source, slots) < _NAMES_SPEAK * sum(slot.size for slot in slots):
        best = by_structure(best, state_dict, source, slots, notes, allow_ambiguous=allow_ambiguous)
    rows = [_row(slot, best, state_dict) for slot in slots if not (slot.constant and _settled(slot, best, state_dict))]
    used = {name for origin in best.origins.values() for name in origin.names}
    unexpected = tuple(name for name in source if name not in used and not is_constant(name))
    heads = tuple(name for name in unexpected if is_head(name))
    report = MatchReport(tuple(rows), unexpected, best.how, tuple(notes), heads)
    filled = {row.name for row in rows if row.filled}
    stem = next((slot.name for slot in slots if slot.stem), "")
    return Plan(report, {name: origin for name, origin in best.origins.items() if name in filled}, stem)


def _check_share(share: object) -> None:
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise OptionError(f"allow_partial is {share!r}; expected a share from 0 to 1, such as 0.5")


def _check_arguments(state_dict: object, module: object, head: object) -> None:
    """Raise an `OptionError` for what is no state dict, no network or no names."""
    from torch import Tensor, nn

    if not isinstance(state_dict, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state_dict.items()
    ):
        raise OptionError(
            f"match takes a state dict (names to tensors), not this {type(state_dict).__name__}: read files with"
            " regraft.read_checkpoint(path) and give its .state_dict"
        )
    if not isinstance(module, nn.Module):
        raise OptionError(f"match fills a network (torch.nn.Module), not a {type(module).__name__}")
    if isinstance(head, str):
        raise OptionError(f"head is {head!r}; expected names of tensors in a tuple, such as ('fc.weight', 'fc.bias')")


def fill(module: nn.Module, plan: Plan, state_dict: Mapping[str, Tensor]) -> None:
    """Copy what a plan says into the module, in place: everything, or nothing where something cannot be copied.

    Raises:
        CheckpointError: a tensor on either side has no memory of its own that could be read or written.
    """
    import torch

    slots = {name: slot for name, slot in module.state_dict().items() if name in plan.origins}
    for name, slot in slots.items():
        sources = [state_dict[source] for source in plan.origins[name].names]
        for tensor, side in ((slot, "in the network"), *((source, "in the checkpoint") for source in sources)):
            if why := _unusable(tensor, written=tensor is slot):
                raise CheckpointError(f"{name} cannot be copied: {side} it is {why}. Nothing was changed.")
        if slot.dtype == torch.float16 and any(map(_beyond_half, sources)):
            raise CheckpointError(f"{name} has numbers beyond the network's float16. Nothing was changed.")
    with torch.no_grad():
        for name, slot in slots.items():
            slot.copy_(_made(name, plan.origins[name], state_dict, tuple(slot.shape), stem=name == plan.stem))


def _beyond_half(tensor: Tensor) -> bool:
    """Whether finite numbers would become infinite in half precision."""
    import torch

    return bool((tensor.isfinite() & (tensor.abs() > torch.finfo(torch.float16).max)).any())


def _unusable(tensor: Tensor, *, written: bool) -> str:
    """Why a tensor cannot be read, or written to; empty if it can."""
    import torch

    if tensor.is_meta:
        return "on the device meta, without numbers (a module: .to_empty(device='cpu') first)"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return "sparse or quantized (make it dense first)"
    if written and any(step == 0 and side > 1 for step, side in zip(tensor.stride(), tensor.shape, strict=True)):
        return "expanded, several places sharing one number (clone it first)"
    return ""


def require(report: MatchReport, share: float) -> None:
    """Stop unless at least `share` (0..1) of the parameters outside the head were found.

    Raises:
        PartialMatch: less was; the message says what did not fit and what to try. From a share of 0.9 on, a
            BatchNorm that lacks its running statistics is too little, too, since it computes nonsense without them;
            with a share of 1, any tensor that is not filled.
    """
    if report.share >= share and (report.complete or (share < 1 and not (share >= SHARE and report.lost_statistics))):
        return
    found = f"Only {percent(report.share)} of the backbone's parameters are in the checkpoint"
    if report.share >= share:
        found = "Not every tensor of the network is in the checkpoint, running statistics among them"
        if not report.lost_statistics:
            found = "Not every tensor of the network is in the checkpoint"
    expected, advice = f"expected at least {percent(share)}", _advice(report)
    raise PartialMatch(f"{found}, {expected}: {report}. {advice}", report, f"{found}, {expected}. {advice}")


def _advice(report: MatchReport) -> str:
    if wrong := next((note for note in report.notes if note.startswith(_OTHER_FUNCTION)), None):
        return f"{wrong}."
    if any(note.startswith("ambiguous") for note in report.notes):
        return (
            "Its names say nothing and its shapes fit in several ways: none was chosen. Name the right architecture, or"
            " take the first of them: regraft checkpoint convert FILE -o NEW.safetensors --allow-ambiguous."
        )
    mismatched = [row for row in report.mismatched if not row.head]
    if mismatched and not report.missing:
        return "The names agree but the sizes do not: try another width, depth or input size of the same family."
    if report.missing and mismatched and report.loaded_size:
        return (
            "It is another network of the same naming: `regraft checkpoint inspect FILE` says which. To load what fits"
            " all the same, allow a smaller share (--allow-partial)."
        )
    if report.missing and set(report.unexpected) - set(report.unused_head):
        return (
            "The names differ: it is perhaps another architecture; `regraft checkpoint inspect FILE` says which."
            " To load what fits all the same, allow a smaller share (--allow-partial)."
        )
    return (
        "The file lacks parts of the network: it may be cut short, or of a smaller network. To load what fits all the"
        " same, allow a smaller share (--allow-partial)."
    )


def _settled(slot: Target, reading: Reading, state_dict: Mapping[str, Tensor]) -> bool:
    """Whether a constant needs no row: the file has none, or has the one of another size."""
    origin = reading.origins.get(slot.name)
    return origin is None or origin.make is not None or tuple(state_dict[origin.names[0]].shape) != slot.shape


def _row(slot: Target, reading: Reading, state_dict: Mapping[str, Tensor]) -> Row:
    origin = reading.origins.get(slot.name)
    if origin is None:
        return Row(slot.name, "missing", slot.shape, parameter=slot.parameter, head=slot.head)
    first = state_dict[origin.names[0]]
    found = tuple(first.shape)
    how = fit(slot, reading, {name: tuple(state_dict[name].shape) for name in origin.names})
    if how is None:
        why = f"is {found} in the file, {slot.shape} in the network"
    elif is_integer(first) != slot.integer or first.is_complex() != slot.complex:
        why = f"is {first.dtype} in the file, {slot.dtype} in the network"
    else:
        status: Status = "adapted" if how or found != slot.shape else "loaded"
        return Row(slot.name, status, slot.shape, origin.names, found, how, slot.parameter, slot.head)
    return Row(slot.name, "mismatched", slot.shape, origin.names, found, why, slot.parameter, slot.head)


def _made(name: str, origin: Origin, state_dict: Mapping[str, Tensor], shape: Shape, *, stem: bool) -> Tensor:
    tensors = [state_dict[source] for source in origin.names]
    tensor = tensors[0] if origin.make is None else origin.make(tensors)
    return tensor if tuple(tensor.shape) == shape else adapt(tensor, name, shape, stem=stem)
