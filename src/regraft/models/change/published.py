"""Checkpoints of the authors' Bitemporal Image Transformer: which network they are of, and their tensors by our names.

A published file is a dict of training state in which `model_G_state_dict` holds the network: a torchvision ResNet
under `resnet.`, and the head. Names and shapes tell most of the network's options; for the rest the published
defaults are taken, and the user is told.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regraft.checkpoints.match import match
from regraft.checkpoints.read import read_checkpoint
from regraft.errors import CheckpointError
from regraft.models.change.bit import BitOptions

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from torch import Tensor, nn

    from regraft.checkpoints.match_report import MatchReport

TRUNK = "trunk.network."
HEAD = "head."

_WRAPPER = "module."
_RESNET = "resnet."
_NEEDED = ("conv_pred.weight", "classifier.0.weight", "classifier.3.weight", "resnet.conv1.weight")
_HEADS = 8  # of all published variants; shapes show only heads x head_dim
_DATES = 2
_ALWAYS = "as published: the map is doubled before the transformer, the output has no sigmoid"
_ATTENTION = f"{_HEADS} heads, and softmax in the decoder"
_LAST = (f"{HEAD}classifier.3.weight", f"{HEAD}classifier.3.bias")
_DEPTHS: dict[tuple[int, ...], str] = {  # blocks of layer1 to layer4, and whether they are bottlenecks
    (2, 2, 2, 2, False): "torchvision/resnet18",
    (3, 4, 6, 3, False): "torchvision/resnet34",
    (3, 4, 6, 3, True): "torchvision/resnet50",
}
_STAGE_OF = {128: 3, 256: 4, 512: 5}  # channels of a basic block's stage; a bottleneck has four times as many
_LAYER_NAMES = (  # inside a layer of the encoder or decoder: theirs, ours
    (".0.fn.norm.", ".attention_norm."),
    (".0.fn.fn.to_out.0.", ".attention.to_out."),
    (".0.fn.fn.", ".attention."),
    (".1.fn.norm.", ".mlp_norm."),
    (".1.fn.fn.net.", ".mlp."),
)
_LAYER = re.compile(r"(transformer|transformer_decoder)\.layers\.(\d+)(\..*)")


@dataclass(frozen=True)
class Deduced:
    """What a published state dict says of its network.

    Attributes:
        options: of the head.
        architecture: of the backbone, as the catalogue names it.
        classes: K.
        bands: channels of the images that it takes.
        notes: what is not in the file and was taken from the published defaults.
    """

    options: BitOptions
    architecture: str
    classes: int
    bands: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """A published checkpoint, ready for a `ChangeNet` that is built as it says, with the trunk's last map at stride 8.

    Attributes:
        deduced: which network it is of.
        state: our name -> tensor, nothing but what that network has.
        unused: name in the file -> why nothing needs it.
        notes: what the user should know, from the reading of the file and from `deduced`.
    """

    deduced: Deduced
    state: dict[str, Tensor] = field(repr=False)
    unused: dict[str, str] = field(repr=False)
    notes: tuple[str, ...]


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of the authors' networks, with or without `module.` before each."""
    return set(_NEEDED) <= set(_unwrapped(state))


def load_published(path: str | os.PathLike[str], *, part: str | None = None, trust: bool = False) -> Published:
    """Read a checkpoint of the authors' networks; nothing that it holds is run.

    Args:
        path: the file.
        part: of several state dicts inside, which one; by default `model_G_state_dict`.
        trust: unpickle a file that asks for foreign classes, which runs its code.

    Raises:
        CheckpointError: it cannot be read, or is no checkpoint of these networks.
    """
    checkpoint = read_checkpoint(path, part=part, trust=trust)
    state = checkpoint.state_dict
    if not is_published(state):
        names = set(_unwrapped(state))
        missing = next(name for name in _NEEDED if name not in names)
        raise CheckpointError(
            f"{path} is not a checkpoint of the published BIT network: it has no {missing}. Expected the names"
            " conv_pred, classifier and resnet; for a backbone's weights leave @bit away."
        )
    try:
        deduced = options_of(state)
        names_of_ours, unused = rename(state, deduced)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    ours = {new: state[old] for old, new in names_of_ours.items()}
    return Published(deduced, ours, unused, (*checkpoint.notes, *deduced.notes))


def fill_published(net: nn.Module, published: Published) -> MatchReport:
    """Copy a published checkpoint into its `ChangeNet`, whole or not at all; statistics and counters included.

    The last layer stays as it was initialised where the network has another number of classes, and the first
    convolution is adapted to another number of bands; the report says so.

    Args:
        net: built as `published.deduced` says.
        published: from `load_published`.

    Returns:
        Every tensor of the network, with where it came from.

    Raises:
        PartialMatch: the network has a tensor that the checkpoint has not, or in another shape; nothing was copied.
        CheckpointError: the checkpoint has a tensor that the network has not; nothing was copied.
    """
    there = set(net.state_dict())
    if left := [name for name in published.state if name not in there]:
        raise CheckpointError(
            f"the network has no place for {left[0]} ({len(left)} such tensors). Expected the backbone"
            f" {published.deduced.architecture} with {published.deduced.options}; else it is of another variant."
        )
    return match(published.state, net, allow_partial=1, head=_LAST)


def options_of(state: Mapping[str, Tensor]) -> Deduced:
    """Tell the network's options by names and shapes.

    Args:
        state: a published state dict, wrapped or not.

    Raises:
        CheckpointError: its shapes are those of no network that could be built.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in _unwrapped(state).items()}
    architecture, expansion = _backbone(shapes)
    channels = _side(shapes, "conv_pred.weight", 1)
    stages = _STAGE_OF.get(channels // expansion) if channels % expansion == 0 else None
    if stages is None:
        known = ", ".join(str(size * expansion) for size in _STAGE_OF)
        raise CheckpointError(
            f"conv_pred takes {channels} channels. Expected {known}, as stages of {architecture} have."
        )
    found: dict[str, Any] = {"stages": stages, "width": _side(shapes, "conv_pred.weight", 0)}
    notes = [f"not to be seen in the file, so {_ALWAYS}"]
    if "conv_a.weight" in shapes or any(name.startswith("transformer") for name in shapes):
        found |= _tokens(shapes, notes) | _encoder(shapes) | _decoder(shapes)
        notes[0] += f"; {_ATTENTION}"
    else:
        found["decoder"] = "none"
    classes, bands = _side(shapes, "classifier.3.weight", 0), _side(shapes, "resnet.conv1.weight", 1)
    return Deduced(BitOptions(**found), architecture, classes, bands, tuple(notes))


def rename(state: Mapping[str, Tensor], deduced: Deduced) -> tuple[dict[str, str], dict[str, str]]:
    """Published names to those in a `ChangeNet`.

    Args:
        state: a published state dict, wrapped or not.
        deduced: of this state dict.

    Returns:
        Name in the file -> our name; and name in the file -> why it is not used.
    """
    ours: dict[str, str] = {}
    unused: dict[str, str] = {}
    for name in state:
        plain = name.removeprefix(_WRAPPER)
        if why := _why_unused(plain, deduced.options):
            unused[name] = why
        elif plain.startswith(_RESNET):
            ours[name] = TRUNK + plain.removeprefix(_RESNET)
        else:
            ours[name] = HEAD + _ours(plain)
    return ours, unused


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_WRAPPER): tensor for name, tensor in state.items()}


def _ours(name: str) -> str:
    """The name inside our head."""
    found = _LAYER.fullmatch(name)
    if found is None:
        return name
    inside = found[3]
    for theirs, new in _LAYER_NAMES:
        if inside.startswith(theirs):
            inside = new + inside.removeprefix(theirs)
            break
    return f"{found[1]}.{found[2]}{inside}"


def _why_unused(name: str, options: BitOptions) -> str:
    """Why the network has no place for a tensor; empty if it has one."""
    if name.startswith("resnet.fc."):
        return "the backbone's own classifier, which change detection does not use"
    stage = re.match(r"resnet\.layer(\d)\.", name)
    if stage and int(stage[1]) >= options.stages:
        return f"of a stage behind the last one that is used (stages={options.stages})"
    if name.startswith("conv_a.") and options.tokens == "pool":
        return "the tokenizer, which pooled tokens do not use"
    return ""


def _backbone(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    """The architecture, and how many times wider its stages are than those of basic blocks."""
    depths = [_depth(shapes, rf"resnet\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)]
    bottleneck = "resnet.layer1.0.conv3.weight" in shapes
    architecture = _DEPTHS.get((*depths, bottleneck))
    if architecture is None:
        raise CheckpointError(
            f"its ResNet has {', '.join(map(str, depths))} {'bottlenecks' if bottleneck else 'basic blocks'} in its"
            f" stages. Expected one of {', '.join(_DEPTHS.values())}."
        )
    return architecture, 4 if bottleneck else 1


def _tokens(shapes: Mapping[str, tuple[int, ...]], notes: list[str]) -> dict[str, Any]:
    """Semantic or pooled tokens: the file has a tokenizer either way, but a position for each token that is used."""
    learned = _side(shapes, "conv_a.weight", 0)
    if "pos_embedding" not in shapes:
        notes.append("no positions tell pooled tokens from semantic ones: taken to be semantic, as published")
        return {"token_len": learned}
    used, odd = divmod(_side(shapes, "pos_embedding", 1), _DATES)
    side = math.isqrt(used)
    if used == learned and not odd:
        return {"token_len": learned}
    if odd or side * side != used:
        raise CheckpointError(
            f"pos_embedding is of {_DATES * used + odd} tokens. Expected {_DATES * learned} for the tokenizer's"
            f" {learned} a date, or twice a square number for pooled tokens."
        )
    notes.append("tokens are pooled; max cannot be told from avg: taken to be max, the published default")
    return {"tokens": "pool", "pool_size": side, "token_len": learned}


def _encoder(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    first = "transformer.layers.0."
    if not (depth := _depth(shapes, r"transformer\.layers\.(\d+)\.")):
        return {"encoder": False}
    return {
        "encoder_depth": depth,
        "encoder_positions": "pos_embedding" in shapes,
        "head_dim": _head_dim(shapes, f"{first}0.fn.fn.to_qkv.weight", 3 * _HEADS),
        "mlp_dim": _hidden(shapes, f"{first}1.fn.fn.net.0.weight"),
    }


def _decoder(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    first = "transformer_decoder.layers.0."
    if not (depth := _depth(shapes, r"transformer_decoder\.layers\.(\d+)\.")):
        return {"decoder": "simple"}
    found: dict[str, Any] = {
        "decoder_depth": depth,
        "decoder_head_dim": _head_dim(shapes, f"{first}0.fn.fn.to_q.weight", _HEADS),
        "mlp_dim": _hidden(shapes, f"{first}1.fn.fn.net.0.weight"),
    }
    if "pos_embedding_decoder" in shapes:
        found |= {"decoder_positions": "learned", "position_size": _side(shapes, "pos_embedding_decoder", 2)}
    return found


def _depth(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    """How many layers have such names."""
    return len({found[1] for name in shapes if (found := re.match(pattern, name))})


def _side(shapes: Mapping[str, tuple[int, ...]], name: str, axis: int) -> int:
    """One side of a tensor."""
    shape = shapes.get(name)
    if shape is None or len(shape) <= axis or not shape[axis]:
        raise CheckpointError(
            f"its tensor {name} {'is missing' if shape is None else f'has the shape {shape}'}: the checkpoint is"
            " incomplete or of another network. Fetch it again."
        )
    return shape[axis]


def _hidden(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    """Hidden units of a perceptron; 0 where they are the usual twice its width."""
    units, width = _side(shapes, name, 0), _side(shapes, name, 1)
    return 0 if units == 2 * width else units


def _head_dim(shapes: Mapping[str, tuple[int, ...]], name: str, parts: int) -> int:
    rows = _side(shapes, name, 0)
    if rows % parts:
        raise CheckpointError(f"{name} has {rows} rows. Expected a multiple of {parts}, for {_HEADS} heads.")
    return rows // parts
