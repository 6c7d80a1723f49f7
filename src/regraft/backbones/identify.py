"""Which architecture a state dict is of, from names and shapes alone; no network is built."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.backbones.fingerprints import ANY, COUNTER, HEAD, POSITION, STEM, shipped
from regraft.backbones.identify_readings import BY_STRUCTURE, COMPLETE, Reading, body_slots, readings, rivals
from regraft.backbones.identify_scores import fits
from regraft.backbones.identify_twins import Choice, choose

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from regraft.backbones.fingerprints import Network, Slot
    from regraft.checkpoints.checkpoint import Shape

_INDEXES = (COUNTER, "relative_position_index")
_EMBEDDINGS = ("pos_embed", "pos_emb", "position_embedding")
_MATRIX, _IMAGE = 2, 4  # dimensions of a linear layer's and of an image convolution's weight
_RGB = 3
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Guess:
    """An architecture that a state dict may be of.

    Attributes:
        architecture: as `catalogue.build_module` takes it: "timm/resnet34", "torchvision/vgg16".
        same_as: other names of the very same function with the very same tensors.
        family: resnet, vision_transformer, ...
        depth: how many weights with two dimensions and more it has, without the head.
        width: number of features that its head sees.
        naming: whose names the file has: "timm", "torchvision", "timm and torchvision", what a translation says,
            or "unknown names".
        translation: name of the translation that applies; "structure" where only order and shapes fit; or empty.
        prefix: what wrappers put before the names, with its final dot ("module.model."); empty for nothing.
        lost: what the network has before the names and the file has not ("features."); empty for nothing.
        share: 0..1, parameters of the architecture (head excluded) that the file has in tensors that fit, those
            included that fit after another number of channels or positions has been adapted.
    """

    architecture: str
    same_as: tuple[str, ...]
    family: str
    depth: int
    width: int
    naming: str
    translation: str
    prefix: str
    lost: str
    share: float


@dataclass(frozen=True)
class Identity:
    """What a state dict was recognised as.

    Attributes:
        guesses: best first; empty if nothing fits.
        certainty: "certain", "likely" (another network fits equally, but no weights are published for it), "ambiguous"
            (several fit equally), "partial" (something fits, but less than the whole) or "unknown".
        why: one sentence for people.
        head: the layer in the file, named as there, that gives one output a class; empty if there is none.
        classes: its number of outputs; None if there is none.
        channels: image channels that the network takes; None if the file does not tell.
        input_size: image height and width in pixels, where tensors that depend on it tell, else None.
    """

    guesses: tuple[Guess, ...]
    certainty: str
    why: str
    head: str = ""
    classes: int | None = None
    channels: int | None = None
    input_size: tuple[int, int] | None = None


def identify(
    state_dict: Mapping[str, Tensor] | Mapping[str, Shape],
    *,
    modules: Sequence[str] = (),
    hints: Sequence[str] = (),
    most: int = 5,
) -> Identity:
    """Name the architecture of a state dict.

    Every network of the installed zoos is in an index of names and shapes; names count first, then known
    translations between namings, then order and shapes alone. Classes, channels and image size may differ.

    Args:
        state_dict: name -> tensor or shape, in the file's order.
        modules: names of all the writer's modules, as `Part.modules`. They break ties only.
        hints: names that may be the architecture's (the file's stem, `arch` in the file). They break ties only.
        most: how many guesses at most.

    Raises:
        CheckpointError: the index of networks is damaged.
    """
    file = {name: _shape(value) for name, value in state_dict.items()}
    integers = frozenset(name for name, value in state_dict.items() if _is_integer(name, value))
    found = readings(file, integers)
    if not found:
        return Identity(
            (), "unknown", "No network of timm or torchvision has these names, or these shapes in this order."
        )
    choices = [choose(reading, file, modules, hints) for reading in found[:most]]
    guesses = [guess for pair in zip(found, choices, strict=False) for guess in _guesses(*pair)][:most]
    certainty, why = _certainty(found, choices[0], guesses)
    network = choices[0].first[0]
    head, classes = _head(network, found[0], file, integers)
    return Identity(
        guesses=tuple(guesses),
        certainty=certainty,
        why=why,
        head=head,
        classes=classes,
        channels=_channels(network, found[0], file),
        input_size=_input_size(network, found[0], file),
    )


def _shape(value: Any) -> Shape:
    return tuple(int(n) for n in getattr(value, "shape", value))


def _is_integer(name: str, value: Any) -> bool:
    """Of a mere shape only the name can tell; single numbers under a name of no network are taken for counters."""
    floating = getattr(value, "is_floating_point", None)
    if name.endswith(_INDEXES):
        return True
    if floating is None:
        return not _shape(value) and name.rpartition(".")[2] not in _scalars()
    return not (floating() or value.is_complex())


@functools.cache
def _scalars() -> frozenset[str]:
    """Last words of the names of single floating-point numbers in networks."""
    index = shipped()
    single = index.shapes.index(()) if () in index.shapes else -1
    tokens = ((index.shape == single) & (index.integer == 0)).nonzero()[0].tolist()
    return frozenset(index.names[index.name[token]].rpartition(".")[2] for token in tokens)


def _guesses(reading: Reading, choice: Choice) -> Iterator[Guess]:
    for network, same in zip(choice.first, choice.same, strict=True):
        slots = body_slots(network)
        yield Guess(
            architecture=network.architecture,
            same_as=tuple(other.architecture for other in same),
            family=network.family,
            depth=sum(len(s.shape) >= _MATRIX and s.name.endswith("weight") for s in slots),
            width=network.width,
            naming=_naming(reading, choice),
            translation=reading.translation,
            prefix=reading.prefix,
            lost=reading.lost,
            share=_exact_share(slots, reading),
        )


def _exact_share(slots: Sequence[Slot], reading: Reading) -> float:
    """Of the parameters: a BatchNorm's running statistics are none."""
    if all(slot.name in reading.found for slot in slots):
        return 1.0
    sizes = {slot.name: math.prod(slot.shape) for slot in slots if not slot.name.endswith(_STATISTICS)}
    return sum(size for name, size in sizes.items() if name in reading.found) / sum(sizes.values())


def _naming(reading: Reading, choice: Choice) -> str:
    if reading.translation == BY_STRUCTURE:
        return "unknown names"
    if reading.source:
        return reading.source
    networks = [*choice.first, *(network for same in choice.same for network in same)]
    return " and ".join(sorted({network.architecture.partition("/")[0] for network in networks}))


def _certainty(found: Sequence[Reading], choice: Choice, guesses: Sequence[Guess]) -> tuple[str, str]:
    """How sure the first guess is, and why, for people."""
    best, reading = guesses[0], found[0]
    how = _how(reading)
    if best.share < COMPLETE:
        return "partial", f"The file has {best.share:.0%} of the numbers of {best.architecture}{how}."
    whole = all(slot.name in reading.found for slot in body_slots(choice.first[0]))
    fits_it = f"{'All' if whole else 'Not all'} tensors of {best.architecture} are in the file{how}"
    if any(rivals(one, reading) for one in found[1:]):
        other = guesses[min(choice.rivals, len(guesses) - 1)].architecture
        return "ambiguous", f"{fits_it}, but those of another network are too: {other}."
    if choice.rivals == 1:
        return "certain", f"{fits_it}, and no other network fits as well."
    others = [network.architecture for network in choice.first[1 : choice.rivals]]
    twins = f"{' and '.join(others)} {'have' if len(others) > 1 else 'has'} the same tensors in another computation"
    if choice.decided:
        return "certain", f"{fits_it}; {twins}: {choice.decided} decided."
    if choice.first[0].published and not any(network.published for network in choice.first[1 : choice.rivals]):
        return "likely", f"{fits_it}; {twins}, but nobody publishes weights for {'them' if len(others) > 1 else 'it'}."
    return "ambiguous", f"{fits_it}; {twins}."


def _how(reading: Reading) -> str:
    if reading.translation == BY_STRUCTURE:
        return ", by order and shapes alone"
    return f", by the translation {reading.translation}" if reading.translation else ""


def _head(
    network: Network, reading: Reading, file: Mapping[str, Shape], integers: frozenset[str]
) -> tuple[str, int | None]:
    """The architecture's own head, or else the last layer left over that takes its features."""
    for slot in shipped().slots(network):
        if (
            slot.role == HEAD
            and slot.pattern[:1] == (ANY,)
            and len(slot.pattern) >= _MATRIX
            and not reading.translation
        ):
            name = reading.prefix + slot.name.removeprefix(reading.lost)
            if name in file and fits(file[name], slot.pattern):
                return name.removesuffix(".weight"), file[name][0]
    return _leftover_head(network, reading, file, integers)


def _leftover_head(
    network: Network, reading: Reading, file: Mapping[str, Shape], integers: frozenset[str]
) -> tuple[str, int | None]:
    """The end of a chain of linear layers that the network has not and that begins with its features."""
    used = set(reading.found.values())
    dimensions = {
        _MATRIX,
        *(len(s.pattern) for s in shipped().slots(network) if s.role == HEAD and s.pattern[:1] == (ANY,)),
    }
    name, width = "", network.width
    for other, shape in file.items():
        linear = len(shape) >= _MATRIX and len(shape) in dimensions and math.prod(shape[2:]) == 1
        if linear and shape[1] == width and other not in used and other not in integers:
            name, width = other, shape[0]
    return (name.removesuffix(".weight"), width) if name else ("", None)


def _channels(network: Network, reading: Reading, file: Mapping[str, Shape]) -> int | None:
    for slot in body_slots(network):
        if slot.role == STEM and slot.name in reading.found:
            shape = file[reading.found[slot.name]]
            if len(shape) >= _IMAGE:
                return shape[1]
            place = slot.pattern.index(ANY)  # a linear layer over patches
            return shape[place] * _RGB // slot.shape[place] if len(shape) == len(slot.shape) else None
    return None


def _input_size(network: Network, reading: Reading, file: Mapping[str, Shape]) -> tuple[int, int] | None:
    """From the tensors that depend on it: as by default, or what a grid of position embeddings says."""
    slots = [slot for slot in body_slots(network) if slot.role == POSITION and slot.name in reading.found]
    pairs = [(slot, file[reading.found[slot.name]]) for slot in slots]
    if not pairs:
        return None
    height, width = network.size
    if all(shape == slot.shape for slot, shape in pairs):
        return height, width
    if all(shape == slot.larger for slot, shape in pairs):
        return 2 * height, 2 * width
    return next((size for slot, shape in pairs if (size := _from_grid(slot, shape, network.size))), None)


def _from_grid(slot: Slot, shape: Shape, size: tuple[int, int]) -> tuple[int, int] | None:
    """An embedding over a grid, which grows with the image: (1, L, D), (1, D, H, W) or (1, H, W, D)."""
    if not any(word in slot.name for word in _EMBEDDINGS) or len(shape) != len(slot.shape):
        return None
    places = [place for place, n in enumerate(slot.pattern) if n == ANY]
    default, larger, found = ([side[place] for place in places] for side in (slot.shape, slot.larger, shape))
    if len(places) == 2 and larger == [2 * n for n in default]:  # noqa: PLR2004 (height and width)
        return size[0] * found[0] // default[0], size[1] * found[1] // default[1]
    if len(places) != 1:
        return None
    cells = (larger[0] - default[0]) // 3  # twice the side, four times the cells
    tokens = found[0] - (default[0] - cells)
    root = math.isqrt(max(tokens, 0) * cells)
    if cells * 3 != larger[0] - default[0] or root * root != tokens * cells or not root:
        return None
    return size[0] * root // cells, size[1] * root // cells
