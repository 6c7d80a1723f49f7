"""The phases of each strategy that trains: what is frozen in them, and what their examples are."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from regraft.backbones.convolutions import added
from regraft.features.store import Store
from regraft.features.table import FeatureSpace
from regraft.models.cut import activations, bypassed, why_not_cut
from regraft.models.depthwise import fast_depthwise
from regraft.models.freezing import depth_of, freezable, freeze, freeze_statistics, last_stage, thaw, thaw_order
from regraft.models.joint import branch_name, branch_of
from regraft.training.batches import PixelExamples, RowExamples
from regraft.training.parameters import groups
from regraft.training.plan import Phase, Planned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from regraft.backbones.backbone import BackboneCard, Stage
    from regraft.backbones.preprocessing import Preprocessing
    from regraft.data.manifest import Item
    from regraft.features.pixels import Pixels
    from regraft.features.store import Rows
    from regraft.models.classifier import Classifier
    from regraft.training.augment import Augment
    from regraft.training.batches import Examples
    from regraft.training.engine import Engine
    from regraft.training.parameters import Rates

HEAD_ONLY = "head"
_BATCH = 32


@dataclass(frozen=True)
class Part:
    """The images of one split, decoded and resized.

    Attributes:
        items: which.
        targets: (N,) class indices.
        pixels: their pictures.
    """

    items: tuple[Item, ...]
    targets: NDArray[np.int64]
    pixels: Pixels


@dataclass(frozen=True)
class Material:
    """What phases are made from.

    Attributes:
        model: backbone and head.
        cards: of the backbone; of several that are trained as one, see `models.joint`.
        still: of several, the positions of those that stay as they are.
        weights_sha256: of one backbone's weights before training, which name stored activations.
        fresh: names of the backbone's parameters that no pretraining filled.
        train: what is learnt from.
        val: what the best epoch is chosen by.
        augment: what is done to training images, or None.
        views: number of augmented views that a frozen part is run on; 0 to augment anew each epoch.
        statistics: whether BatchNorm updates its running statistics.
        rates: how fast what learns.
        seed: of order and augmentation.
        cache: the cache folder.
        engine: where it runs.
        say: one line for the user.
        progress: images done, and in all.
    """

    model: Classifier
    cards: tuple[BackboneCard, ...]
    still: tuple[int, ...]
    weights_sha256: str
    fresh: frozenset[str]
    train: Part
    val: Part
    augment: Augment | None
    views: int
    statistics: bool
    rates: Rates
    seed: int
    cache: Path
    engine: Engine
    say: Callable[[str], None]
    progress: Callable[[int, int], None]

    @property
    def card(self) -> BackboneCard:
        """Of the one backbone."""
        (card,) = self.cards
        return card


def plan_phases(strategy: str, material: Material, epochs: int, unfreeze_from: str | None) -> list[Planned]:
    """The phases of a strategy, in order.

    Raises:
        OptionError: `unfreeze_from` is no stage of the backbone.
    """
    if strategy == "gradual":
        names = [HEAD_ONLY, *thaw_order(material.card.stages)]
        shares = [len(part) for part in np.array_split(np.arange(max(epochs, len(names))), len(names))]
        return [
            _planned(f"from {name}" if name != HEAD_ONLY else "head", material, name, share)
            for name, share in zip(names, reversed(shares), strict=True)
        ]
    if strategy == "partial":
        name = unfreeze_from or last_stage(material.card.stages)
        freezable(material.card.stages, name)  # an unknown one is an error now
        return [_planned(f"from {name}", material, name, epochs)]
    return [_planned(strategy, material, None, epochs, lora=strategy == "lora")]


def _planned(label: str, material: Material, name: str | None, epochs: int, *, lora: bool = False) -> Planned:
    return Planned(label, epochs, lambda: _open(material, name, lora=lora))


@contextlib.contextmanager
def _open(material: Material, unfreeze_from: str | None, *, lora: bool) -> Iterator[Phase]:
    """Freeze and thaw, prepare the examples, and keep the network patched while the phase lasts."""
    backbone = material.model.backbone
    block = added(backbone)
    frozen: Sequence[str] = [branch_name(position) for position in material.still]
    if not lora:  # adapters came with their own freezing
        thaw(backbone, [""])
        if unfreeze_from is not None:
            frozen = _frozen(material.card.stages, unfreeze_from, block)
        freeze(backbone, frozen)
    if not material.statistics:
        freeze_statistics(backbone, besides=[block] if block else [])
    own = groups(material.model.named_parameters(), material.rates, _depth(material), material.fresh)
    prepare = _preparing(material)
    with contextlib.ExitStack() as stack:
        if material.engine.device.type == "cpu":
            stack.enter_context(fast_depthwise(backbone))
        cut = _cut(material, frozen) if frozen and material.views else None
        if cut is None:
            yield Phase(
                own,
                PixelExamples(material.train.pixels, material.train.targets, material.augment, material.seed),
                PixelExamples(material.val.pixels, material.val.targets, None, material.seed),
                prepare,
            )
            return
        shapes = _shapes(material)
        train, val = _stored(material, cut, shapes[cut], prepare)
        stack.enter_context(bypassed(backbone, frozen, cut, shapes, material.card.preprocessing.size))
        yield Phase(own, train, val, _as_stored)


def _frozen(stages: Sequence[Stage], unfreeze_from: str, block: str | None) -> tuple[str, ...]:
    """Names of the frozen stages; the one that holds a new block of convolutions is none, nor is what follows it."""
    names = [stage.name for stage in stages]
    frozen = names if unfreeze_from == HEAD_ONLY else list(freezable(stages, unfreeze_from)[0])
    if block is None:
        return tuple(frozen)
    holds = next(number for number, name in enumerate(names) if f"{block}.".startswith(f"{name}."))
    return tuple(name for name in frozen if names.index(name) < holds)


def _depth(material: Material) -> Callable[[str], int]:
    """How far a parameter lies from the head, in its own backbone."""
    if len(material.cards) == 1:
        return lambda name: depth_of(name, material.card.stages)

    def depth(name: str) -> int:
        position, inside = branch_of(name)
        return depth_of(inside, material.cards[position].stages)

    return depth


def _preparing(material: Material) -> Callable[[Tensor], Tensor]:
    """What is done to pictures before the model takes them; several backbones normalise for themselves."""
    first = material.cards[0].preprocessing
    if len(material.cards) > 1:
        first = replace(first, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return normaliser(first, material.engine.device)


def _shapes(material: Material) -> dict[str, tuple[int, ...]]:
    return {stage.name: stage.shape for stage in material.card.stages}


def _as_stored(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs  # noqa: PLR2004


def normaliser(preprocessing: Preprocessing, device: torch.device) -> Callable[[Tensor], Tensor]:
    """`Preprocessing.normalise` for uint8 tensors (B, 3, H, W): to float32, the channels last in memory."""
    mean = torch.tensor(preprocessing.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=device).view(1, 3, 1, 1)

    def prepare(inputs: Tensor) -> Tensor:
        scaled = (inputs.float() / 255.0 - mean) / std
        return scaled.contiguous(memory_format=torch.channels_last)

    return prepare


def _cut(material: Material, frozen: Sequence[str]) -> str | None:
    """The stage after which stored activations take over, or None, with a line, where the network cannot be cut."""
    shapes = _shapes(material)
    cut = next((name for name in reversed(frozen) if shapes[name]), None)
    if cut is None:
        return None
    reason = why_not_cut(material.model.backbone, frozen, cut, shapes, material.card.preprocessing.size)
    if reason is not None:
        material.say(f"  the frozen part runs anew in each epoch: {reason}")
        return None
    return cut


def _stored(
    material: Material, cut: str, shape: tuple[int, ...], prepare: Callable[[Tensor], Tensor]
) -> tuple[Examples, Examples]:
    """Activations at the cut: of every training image in each view, and of every validation image as it is."""
    views = material.views if material.augment is not None else 1
    with material.engine.first_alone():
        train = [_rows(material, material.train, cut, view, prepare) for view in range(views)]
        val = _rows(material, material.val, cut, None, prepare)
    return (
        RowExamples(tuple(train), material.train.targets, shape),
        RowExamples((val,), material.val.targets, shape),
    )


def _rows(material: Material, part: Part, cut: str, view: int | None, prepare: Callable[[Tensor], Tensor]) -> Rows:
    """The rows of one view, those that the store lacks computed now."""
    augment = material.augment if view is not None else None
    space = FeatureSpace(
        f"{material.card.architecture}@{cut}",
        material.weights_sha256,
        material.card.preprocessing,
        f"torch {material.engine.device.type}",
        material.engine.precision,
        "plain" if augment is None else f"{augment.fingerprint()}-{material.seed}-{view}",
    )
    store = Store.open(material.cache, space)
    keys = [str(item.key) for item in part.items]
    first: dict[str, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    lacking = store.missing(first)
    todo = [(key, row) for key, row in first.items() if key in lacking]
    for begin in range(0, len(todo), _BATCH):
        chunk = todo[begin : begin + _BATCH]
        inputs = []
        for key, row in chunk:
            picture = part.pixels.image(row)
            if augment is None:
                inputs.append(torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))))
            else:  # by the image, not by where it stands in this data set: another one may share it
                inputs.append(augment(picture, _mixed(material.seed, view or 0, key)))
        with torch.inference_mode(), material.engine.fabric.autocast():
            found = activations(material.model.backbone, cut, prepare(torch.stack(inputs).to(material.engine.device)))
        rows = found.float().contiguous().flatten(1).cpu().numpy()
        store.append([key for key, _ in chunk], rows, {})
        material.progress(begin + len(chunk), len(todo))
    store.compact()
    return store.rows(keys)


def _mixed(seed: int, view: int, key: str) -> int:
    """A seed of 63 bits from a seed, a view's number and an image's hash."""
    return (int(key[:16], 16) ^ (seed * 0x9E3779B97F4A7C15) ^ (view * 0xC2B2AE3D27D4EB4F)) & (2**63 - 1)
