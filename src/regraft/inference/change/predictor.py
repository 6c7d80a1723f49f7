"""A change model that is ready to predict: two dates in, a map of what changed out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.decode import MAX_PIXELS
from regraft.errors import DataError, OptionError
from regraft.evaluation.change import bin_edge
from regraft.inference.change.bundle import read_change_bundle
from regraft.inference.change.scene import predict_scene
from regraft.inference.change.tiles import MAX_TILE, MIN_TILE, blend, padded, plan

OVERLAP = 4  # tiles share so many parts of their side
_AXES = 3  # of an image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from regraft.inference.change.bundle import ChangeBundle
    from regraft.inference.change.scene import SceneResult
    from regraft.models.change.net import ChangeNet


def _silent(*told: object) -> None:
    del told


@dataclass(repr=False)
class ChangePredictor:
    """Predicts pairs of dates. Made by `regraft.load_change`.

    Attributes:
        bundle: the model.
    """

    bundle: ChangeBundle

    def __repr__(self) -> str:
        """One line."""
        return f"ChangePredictor({self.bundle!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; the first one is "unchanged"."""
        return self.bundle.classes

    @cached_property
    def net(self) -> ChangeNet:
        """The network with its weights, on the GPU where there is one."""
        import torch

        net = self.bundle.build()
        return net.to("cuda") if torch.cuda.is_available() else net

    def segment(self, dates: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities of some pairs, each in one pass.

        Args:
            dates: (B, T=2, H, W, C) before and after, values as they stand in the files.

        Returns:
            (B, K, H, W).

        Raises:
            DataError: other bands or values of another type than the model learnt from.
        """
        self._check_values(dates)
        return segment_with(self.net, self.bundle.scale, dates)

    def predict(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities of one pair of any size, by tiles of the size the model learnt from, blended.

        Args:
            before: (H, W, C) values as they stand in the file.
            after: (H, W, C), likewise.

        Returns:
            (K, H, W).

        Raises:
            DataError: the dates differ in shape, or are not of the bands and the type that the model learnt from.
        """
        _check_date("before", before)
        _check_date("after", after)
        if before.shape != after.shape:
            raise DataError(f"before is {before.shape} and after is {after.shape}; expected two dates of one shape")
        self._check_values(before[None])
        return whole_pair(before, after, self.segment, tile=self.bundle.tile)

    def map_scene(
        self,
        before: str | os.PathLike[str],
        after: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        vector: str | os.PathLike[str] | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        threshold: float | None = None,
        align: bool = False,
        min_area: float = 0.0,
        simplify: float = 0.0,
        overwrite: bool = False,
        max_pixels: int = MAX_PIXELS,
        say: Callable[[str], None] = _silent,
        progress: Callable[[int, int], None] = _silent,
    ) -> SceneResult:
        """Map what changed in a scene of any size; interrupted, the same call goes on where it was.

        Args:
            before: the first date, whose grid the map has.
            after: the second.
            output: the mask, .tif or .png; the probability of change is written beside it.
            vector: polygons of what changed, .gpkg or .geojson.
            tile: side of a tile in pixels; by default that of the training, which is best.
            overlap: pixels that neighbouring tiles share; by default a quarter of the tile.
            threshold: probability from which on a pixel is changed; by default the one chosen on validation.
            align: read the second date on the grid of the first if it lies on another.
            min_area: smaller polygons are left out: square metres, or pixels where there are no coordinates.
            simplify: tolerance of outlines in pixels.
            overwrite: replace maps that are there.
            max_pixels: pictures (not rasters) with more are refused.
            say: is told what happens.
            progress: is told tiles done, and in all.

        Raises:
            RegraftError: as `scene.predict_scene`, and for dates of other bands, or of another type, than those the
                model learnt from.
        """
        numbers = {"tile": tile, "overlap": overlap, "threshold": threshold}
        numbers |= {"min_area": min_area, "simplify": simplify}
        _check_map({"before": before, "after": after, "output": output, "vector": vector}, numbers)
        tile, own = self.bundle.tile if tile is None else tile, self.bundle.tile
        if tile != own and MIN_TILE <= tile <= MAX_TILE:
            say(f"tiles of {tile} pixels: the model learnt from tiles of {own}, and may answer worse of other sizes")
        return predict_scene(
            os.fspath(before),
            os.fspath(after),
            Path(output),
            self.segment,
            identity=self.bundle.identity,
            tile=tile,
            overlap=tile // OVERLAP if overlap is None else overlap,
            threshold=self.bundle.threshold if threshold is None else bin_edge(threshold),
            classes=self.bundle.classes,
            align=align,
            overwrite=overwrite,
            vector=None if vector is None else Path(vector),
            min_area=min_area,
            simplify=simplify,
            max_pixels=max_pixels,
            say=say,
            progress=progress,
        )

    def _check_values(self, dates: NDArray[Any]) -> None:
        bands, dtype = dates.shape[-1], dates.dtype.name
        if (bands, dtype) != (self.bundle.bands, self.bundle.dtype):
            raise DataError(
                f"the dates have {bands} bands of {dtype}, but the model was trained on {self.bundle.bands} of"
                f" {self.bundle.dtype}. Give it images like those it was trained on."
            )


def _check_date(name: str, date: object) -> None:
    if not isinstance(date, np.ndarray) or date.ndim != _AXES or not date.size:
        told = (
            f"an array of shape {date.shape}" if isinstance(date, np.ndarray) else f"of the type {type(date).__name__}"
        )
        raise OptionError(f"{name} is {told}; expected an array (H, W, C). For files use map_scene.")


def _check_map(paths: Mapping[str, object], numbers: Mapping[str, object]) -> None:
    for name, value in paths.items():
        if not isinstance(value, str | os.PathLike) and not (name == "vector" and value is None):
            raise OptionError(f"{name} is {value!r}; expected the path of a file")
    for name, value in numbers.items():
        kinds = int if name in {"tile", "overlap"} else int | float
        free = value is None and name in {"tile", "overlap", "threshold"}
        if not free and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise OptionError(f"{name} is {value!r}; expected a number")


def whole_pair(
    before: NDArray[Any], after: NDArray[Any], segment: Callable[[NDArray[Any]], NDArray[np.float32]], *, tile: int
) -> NDArray[np.float32]:
    """Probabilities (K, H, W) of one pair in memory: the same tiles, blended in the same way, as of a scene on disk.

    Args:
        before: (H, W, C).
        after: (H, W, C).
        segment: dates (B, T=2, tile, tile, C) -> probabilities (B, K, tile, tile).
        tile: side of a tile, pixels.
    """
    height, width = before.shape[:2]
    laid = plan(height, width, tile=tile, overlap=tile // OVERLAP).fitted()
    tile = laid.tile
    parts: list[NDArray[np.float64]] = []
    carried: NDArray[np.float64] | None = None
    for row, top in enumerate(laid.tops):
        windows = [
            np.stack([padded(one[top : top + tile, left : left + tile], tile) for one in (before, after)])
            for left in laid.lefts
        ]
        answers = [(column, segment(one[None])[0]) for column, one in enumerate(windows)]
        if carried is None:
            carried = np.zeros((len(answers[0][1]), 0, width))
        done, carried = blend(laid, row, answers, carried)
        parts.append(done)
    return np.concatenate(parts, axis=1).astype(np.float32)


def segment_with(net: ChangeNet, scale: Any, dates: NDArray[Any]) -> NDArray[np.float32]:
    """Probabilities (B, K, H, W) of dates (B, T=2, H, W, C) by a network in eval mode.

    Args:
        net: the network.
        scale: a `BandScale`.
        dates: values as they stand in the files.
    """
    import torch

    device = next(net.parameters()).device
    values = torch.from_numpy(np.ascontiguousarray(scale.apply(dates))).to(device)
    with torch.inference_mode():
        logits = net(values.permute(0, 1, 4, 2, 3))
        found: NDArray[np.float32] = logits.float().softmax(1).cpu().numpy()
    return found


def load_change(run: str | os.PathLike[str]) -> ChangePredictor:
    """Load a trained model of change detection from a run folder or from a bundle that was copied elsewhere.

    Args:
        run: a run folder, or its `bundle` folder, or the `Run` that training gave.

    Raises:
        BundleError: no usable bundle of such a model there.
        OptionError: what is no path.

    Example:
        >>> import regraft
        >>> model = regraft.load_change("runs/change")  # doctest: +SKIP
        >>> model.predict(before, after).shape  # doctest: +SKIP
        (2, 1024, 1024)
    """
    if not isinstance(run, str | os.PathLike):
        raise OptionError(f"expected a run or bundle folder, a str or os.PathLike, but was given {run!r}")
    return ChangePredictor(read_change_bundle(Path(run)))
