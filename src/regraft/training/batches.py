"""Batches: which images a step learns from, and their loading.

Which rows a step gets is a function of seed, epoch and step, and how a row looks is one of seed, epoch and row. So a
training that is resumed in the middle of an epoch needs no state of a loader, and any number of loading processes,
or none, gives the same batches.
"""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch

from regraft.errors import ImageRejected, OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from regraft.features.pixels import Pixels
    from regraft.features.store import Rows
    from regraft.training.augment import Augment

EVALUATION = -1
"""The epoch of examples that are loaded to be judged by, not learnt from."""


@dataclass(frozen=True)
class Batch:
    """Some examples.

    Attributes:
        inputs: (B, ...): uint8 images (B, 3, H, W), channels last in memory, or float32 activations, or pairs.
        targets: (B,) int64, the classes; or what the examples load beside their inputs, such as masks (B, H, W).
        rows: (B,) int64, which examples these are.
    """

    inputs: Tensor
    targets: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def chunks(self, count: int) -> list[Batch]:
        """The batch in `count` parts of nearly equal size, in order; fewer where it has fewer examples."""
        count = max(1, min(count, len(self)))
        parts = (torch.tensor_split(tensor, count) for tensor in (self.inputs, self.targets, self.rows))
        return [Batch(*part) for part in zip(*parts, strict=True)]


class Examples(Protocol):
    """Labelled examples, loaded one at a time; other processes may be given them."""

    @property
    def targets(self) -> NDArray[np.int64]:
        """The class of each: (N,); 0 where targets are loaded with the inputs."""

    def __len__(self) -> int:
        """How many there are."""

    def load(self, row: int, epoch: int) -> Tensor | tuple[Tensor, Tensor]:
        """What the model sees of one in an epoch, or to be judged by (`EVALUATION`); a function of its arguments.

        Where its target is more than a class, that too: (inputs, target).
        """


@dataclass(frozen=True)
class PixelExamples:
    """Images as uint8, augmented anew each epoch.

    Attributes:
        pixels: frames where they are augmented, else of the network's size.
        targets: (N,) the classes.
        augment: or None to take the pixels as they are, as evaluation always does.
        seed: of the augmentation.
    """

    pixels: Pixels
    targets: NDArray[np.int64]
    augment: Augment | None
    seed: int

    def __len__(self) -> int:
        return len(self.targets)

    def load(self, row: int, epoch: int) -> Tensor:
        """uint8 (3, H, W), channels last in memory.

        Raises:
            ImageRejected: the image's file had to be decoded again and is gone or has changed.
        """
        image = self.pixels.image(row)
        if self.augment is None or epoch == EVALUATION:
            return torch.from_numpy(image).permute(2, 0, 1)
        return self.augment(image, mixed(self.seed, epoch, row))


@dataclass(frozen=True)
class RowExamples:
    """Stored activations of a frozen prefix, one table for each augmented view; epochs take the views in turn.

    Attributes:
        views: at least one.
        targets: (N,) the classes.
        shape: of one example's activations.
    """

    views: tuple[Rows, ...]
    targets: NDArray[np.int64]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def load(self, row: int, epoch: int) -> Tensor:
        """float32 of `shape`."""
        view = self.views[max(epoch, 0) % len(self.views)]
        return torch.from_numpy(view.row(row)).reshape(self.shape)


_SHARED_BYTES = 1_000_000_000
_IMAGES = 4  # axes of a batch of images; of pairs there are five
_BITS = (1 << 64) - 1


def mixed(seed: int, epoch: int, row: int) -> int:
    """A seed of 63 bits for one example in one epoch; near arguments give unlike seeds.

    Each argument is added in turn and mixed by the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
    """
    state = 0
    for value in (seed, epoch, row):
        state = (state + value + 0x9E3779B97F4A7C15) & _BITS
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _BITS
        state ^= state >> 31
    return state >> 1


def order(count: int, seed: int, epoch: int) -> Tensor:
    """The order in which an epoch takes `count` examples: a permutation, int64, by a generator of its own."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(mixed(seed, epoch, _BITS)))


def steps_per_epoch(count: int, batch: int) -> int:
    """Steps of an epoch, in which `count` examples fill so many whole batches; the rest is left to other epochs."""
    return max(1, count // batch)


def training_batches(
    examples: Examples,
    *,
    batch: int,
    seed: int,
    epoch: int,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of an epoch, from a step on; each process gets its equal, contiguous part of each.

    Args:
        examples: what is learnt from.
        batch: images a step, over all processes; all there are where those are fewer.
        seed: of the order.
        epoch: 0, 1, ...; each has another order.
        start: steps of the epoch that are done.
        rank: number of this process.
        world: how many processes there are.
        workers: processes that load; 0 loads in this one, when a batch is asked for.

    Raises:
        OptionError: there are fewer examples than processes.
        ImageRejected: an image had to be decoded again, and cannot.
    """
    count = len(examples)
    share = min(batch, count) // world
    if share == 0:
        raise OptionError(
            f"{min(batch, count)} images a step cannot be divided among {world} processes. Use fewer processes."
        )
    rows = order(count, seed, epoch)
    begins = (step * min(batch, count) + rank * share for step in range(start, steps_per_epoch(count, batch)))
    yield from _loaded(examples, [rows[begin : begin + share].tolist() for begin in begins], epoch, workers)


def evaluation_batches(
    examples: Examples, *, batch: int, rank: int = 0, world: int = 1, workers: int = 0
) -> Iterator[Batch]:
    """All examples in order, cut into batches that do not depend on `world`; each process gets every world-th.

    Raises:
        ImageRejected: an image had to be decoded again, and cannot.
    """
    count = len(examples)
    begins = range(rank * batch, count, world * batch)
    yield from _loaded(
        examples, [list(range(begin, min(begin + batch, count))) for begin in begins], EVALUATION, workers
    )


def _loaded(examples: Examples, plan: Sequence[list[int]], epoch: int, workers: int) -> Iterator[Batch]:
    """The batches of a plan, in order."""
    loading = _Loading(examples, plan, epoch, shared=workers > 0 and _much_shared_memory())
    if workers <= 0 or not plan:
        for number in range(len(plan)):
            yield _batch(loading[number])
        return
    loader: torch.utils.data.DataLoader[_Arrays] = torch.utils.data.DataLoader(
        cast("torch.utils.data.Dataset[_Arrays]", loading),
        batch_size=None,
        num_workers=min(workers, len(plan)),
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals,
        # Without one of its own, the loader would draw from torch's, and dropout would differ on resuming.
        generator=torch.Generator().manual_seed(0),
    )
    # The loader ends its processes once nothing refers to its iterator: when this is exhausted, closed or dropped.
    for arrays in loader:
        yield _batch(arrays)


@dataclass(frozen=True)
class _Arrays:
    """A batch on its way from a loading process, or why there is none.

    An array goes through a pipe; a tensor lies in shared memory, which is about twice as fast.
    """

    inputs: NDArray[Any] | Tensor
    targets: NDArray[Any] | Tensor
    rows: NDArray[np.int64]
    rejected: tuple[str, str] | None = None


@dataclass(frozen=True)
class _Loading:
    """Batches by number; images have their channels last."""

    examples: Examples
    plan: Sequence[list[int]]
    epoch: int
    shared: bool

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> _Arrays:
        rows = np.array(self.plan[number], np.int64)
        try:
            loaded = [self.examples.load(int(row), self.epoch) for row in rows]
        except ImageRejected as error:  # does not survive the way between processes
            nothing = np.empty(0)
            return _Arrays(nothing, rows, rows, (error.path, error.reason))
        if isinstance(loaded[0], tuple):
            inputs, targets = (torch.stack(parts) for parts in zip(*loaded, strict=True))
            return _Arrays(inputs, targets, rows) if self.shared else _Arrays(inputs.numpy(), targets.numpy(), rows)
        images = cast("list[Tensor]", loaded)
        if images[0].dtype == torch.uint8:
            images = [image.permute(1, 2, 0) for image in images]
        stacked = torch.stack(images)
        return _Arrays(stacked if self.shared else stacked.numpy(), self.examples.targets[rows], rows)


def _batch(arrays: _Arrays) -> Batch:
    if arrays.rejected is not None:
        raise ImageRejected(*arrays.rejected)
    inputs, targets = _tensor(arrays.inputs), _tensor(arrays.targets)
    if inputs.dtype == torch.uint8 and inputs.ndim == _IMAGES:
        inputs = inputs.permute(0, 3, 1, 2)
    return Batch(inputs, targets, torch.from_numpy(arrays.rows))


def _tensor(values: NDArray[Any] | Tensor) -> Tensor:
    return values if isinstance(values, torch.Tensor) else torch.from_numpy(values)


def _much_shared_memory() -> bool:
    """Containers are often given 64 MB, and a process that needs more of it is killed."""
    try:
        return shutil.disk_usage("/dev/shm").free > _SHARED_BYTES  # noqa: S108
    except OSError:  # a system that limits it otherwise
        return True


def _as_it_is(arrays: Any) -> Any:
    return arrays


def _leave_signals(worker: int) -> None:
    """Ctrl-C reaches the whole group of processes; what to do about it is for the one that trains."""
    del worker
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
