"""What is left of a scene when its rows are done: mask, probabilities and polygons, made aside and moved into place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import check_writable
from regraft.errors import MissingExtra, OptionError, RunExists
from regraft.inference.change import outputs, vectors, work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regraft.inference.change.rasters import Raster

_MAX_CLASSES = 255  # as 255 is no data


@dataclass(frozen=True)
class Products:
    """What is to be written.

    Attributes:
        output: the mask, .tif or .png.
        classes: names by number; number 0 is unchanged.
        vector: the polygons, .gpkg or .geojson, or None.
        min_area: as of `vectors.polygons`.
        simplify: as of `vectors.polygons`.
    """

    output: Path
    classes: tuple[str, ...]
    vector: Path | None = None
    min_area: float = 0.0
    simplify: float = 0.0

    def places(self) -> dict[str, Path]:
        """Name in the work folder -> the file at last; the mask comes last, so where it is, all is."""
        ending = self.output.suffix.lower()
        named = {f"{work.OUT}probability{ending}": outputs.probability_name(self.output)}
        if self.vector is not None:
            named[f"{work.OUT}polygons{self.vector.suffix.lower()}"] = self.vector
        return {**named, f"{work.OUT}mask{ending}": self.output}

    def paths(self) -> tuple[Path, ...]:
        """Mask, probabilities and, where asked for, polygons."""
        maps = (self.output, outputs.probability_name(self.output))
        return maps if self.vector is None else (*maps, self.vector)

    def facts(self) -> dict[str, Any]:
        """What the files depend on besides the rows, as JSON holds it."""
        named = {name: str(path.absolute()) for name, path in self.places().items()}
        return {"places": named, "classes": list(self.classes), "min_area": self.min_area, "simplify": self.simplify}


def check(products: Products, inputs: tuple[Path, ...]) -> None:
    """Refuse what cannot be written, before anything is computed.

    Raises:
        OptionError: an ending or value that is not taken, or an output that is one of the inputs.
        MissingExtra: a package of the extra `geo` is not installed.
        CannotWrite: no file can be written there.
    """
    if not 2 <= len(products.classes) <= _MAX_CLASSES:  # noqa: PLR2004
        raise OptionError(f"{len(products.classes)} classes: expected 2 to {_MAX_CLASSES}, the first unchanged.")
    if outputs.is_tiff(products.output) or products.vector is not None:
        try:
            import rasterio  # noqa: F401
        except ImportError as error:
            raise MissingExtra("rasterio", "geo", "writing GeoTIFF or polygons") from error
    if products.vector is not None:
        vectors.check(products.vector, min_area=products.min_area, simplify=products.simplify)
    taken = {path.resolve() for path in inputs}
    for target in products.places().values():
        if target.resolve() in taken:
            raise OptionError(f"{target} is one of the images, which it would replace: choose another output.")
        check_writable(target)


def check_free(targets: list[Path], *, overwrite: bool) -> None:
    """Raise `RunExists` where a file would be replaced that may not be."""
    for target in targets:
        if target.is_dir():
            raise RunExists(f"{target} is a folder. Choose another name.")
        if target.exists() and not overwrite:
            raise RunExists(f"{target} exists already. Choose another name, or replace it with --overwrite.")


def ready(products: Products, folder: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    """What `make` returned for the same facts, if it is complete: each file is in the folder, or at its place."""
    noted = work.finished(folder)
    if noted is None or noted["facts"] != {**facts, **products.facts()}:
        return None
    there = all((folder / name).exists() or place.exists() for name, place in products.places().items())
    return noted if there else None


def make(
    products: Products, folder: Path, raster: Raster, rows: int, facts: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
    """Write all files into the work folder, and note there that they are complete.

    Args:
        products: which files.
        folder: the work folder.
        raster: whose grid they have.
        rows: number of rows of tiles.
        facts: what the rows are of.
        say: told what takes long.

    Returns:
        What is noted: the facts; numbers of pixels that changed, and that have data; notices.
    """
    counts = np.zeros(256, np.int64)
    for mask, _ in work.stripes(folder, rows):
        counts += np.bincount(mask.ravel(), minlength=256)
    empty = int(counts[outputs.NO_DATA_CLASS])
    notices = [f"{empty} of {counts.sum()} pixels have no data in one of the dates"] if empty else []
    maps = [folder / f"{work.OUT}{kind}{products.output.suffix.lower()}" for kind in ("mask", "probability")]
    if outputs.is_tiff(products.output):
        _write_tiffs(products, folder, raster, rows, maps)
    else:
        _write_pngs(products, folder, rows, maps, raster.size)
        if raster.transform is not None:
            notices.append(f"{products.output} holds no coordinates: write a .tif to keep them")
        if empty:
            notices.append(f"{products.output} shows them as {0 if len(products.classes) == 2 else 255}")  # noqa: PLR2004
    if products.vector is not None:
        if not outputs.is_tiff(products.output):  # polygons need what a PNG does not hold
            maps = [folder / f"{work.OUT}{kind}-exact.tif" for kind in ("mask", "probability")]
            _write_tiffs(products, folder, raster, rows, maps)
        target = folder / f"{work.OUT}polygons{products.vector.suffix.lower()}"
        notices += vectors.polygons(
            maps[0], maps[1], target, classes=products.classes, min_area=products.min_area, simplify=products.simplify,
            layer=products.vector.stem, say=say,
        )  # fmt: skip
    changed, with_data = int(counts[1 : outputs.NO_DATA_CLASS].sum()), int(counts.sum()) - empty
    noted = {"changed": changed, "with_data": with_data, "notices": notices, "facts": {**facts, **products.facts()}}
    work.finish(folder, noted)
    return noted


def _write_tiffs(products: Products, folder: Path, raster: Raster, rows: int, maps: list[Path]) -> None:
    place = (raster.crs, raster.transform)
    masks = (mask for mask, _ in work.stripes(folder, rows))
    outputs.write_mask(maps[0], masks, raster.size, place, products.classes)
    probabilities = (values for _, values in work.stripes(folder, rows))
    outputs.write_probability(maps[1], probabilities, raster.size, place, products.classes)


def _write_pngs(products: Products, folder: Path, rows: int, maps: list[Path], size: tuple[int, int]) -> None:
    number = len(products.classes)
    masks = (outputs.mask_shown(mask, number) for mask, _ in work.stripes(folder, rows))
    outputs.write_png(maps[0], masks, size)
    probabilities = (outputs.probability_shown(values) for _, values in work.stripes(folder, rows))
    outputs.write_png(maps[1], probabilities, size)


def publish(products: Products, folder: Path, *, overwrite: bool) -> None:
    """Move the files to their places, those that are not there yet, and remove the work folder."""
    pending = {folder / name: place for name, place in products.places().items() if (folder / name).exists()}
    check_free(list(pending.values()), overwrite=overwrite)
    for source, place in pending.items():
        work.move(source, place)
    work.remove(folder)
