"""`regraft report`: what a run found, and where its page is."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.atomic import atomic_file, check_writable
from regraft.errors import BundleError, OptionError, RunExists
from regraft.recipes.workplace import training_folder

_METRICS, _PAGE = "metrics.json", "report.html"


@dataclass(frozen=True)
class Reported:
    """What a run found.

    Attributes:
        page: the report.
        metrics: the content of metrics.json.
    """

    page: Path
    metrics: dict[str, Any]

    def lines(self) -> list[str]:
        """The headline numbers for a terminal, with their intervals."""
        intervals: dict[str, list[float | None]] = self.metrics.get("intervals") or {}
        found = []
        for name, bounds in intervals.items():
            value = self.metrics.get(name)
            if value is None or None in bounds:
                continue
            found.append(
                f"{name.replace('_', ' '):<20} {value:.4f}  (95 % interval {bounds[0]:.4f} to {bounds[1]:.4f})"
            )
        return found


def report(
    run: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Reported:
    """Find the report of a run, or write a copy of its page, which is one file and needs nothing beside it.

    Args:
        run: The run folder.
        output: Write a copy of the page to this .html file.
        overwrite: Replace the file if it exists.

    Returns:
        The page and the numbers.

    Raises:
        BundleError: there is no finished run.
        OptionError: `output` is no .html file.
        RunExists: `output` is there.
    """
    folder = Path(os.fspath(run))
    page, numbers = folder / _PAGE, folder / _METRICS
    if not (page.is_file() and numbers.is_file()):
        raise BundleError(_no_run(folder))
    try:
        metrics: dict[str, Any] = json.loads(numbers.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{numbers} cannot be read ({error}). Make the run again with its train.yaml.") from error
    if output is None:
        return Reported(page, metrics)
    target = Path(output)
    if target.suffix.lower() not in {".html", ".htm"}:
        raise OptionError(f"{target}: the page is written as .html; choose this ending")
    if target.exists() and not overwrite:
        raise RunExists(f"{target} exists already. Choose another name, or replace it with --overwrite.")
    check_writable(target)
    with atomic_file(target) as temporary:
        shutil.copyfile(page, temporary)
    return Reported(target, metrics)


def _no_run(folder: Path) -> str:
    if training_folder(folder).is_dir():
        return f"{folder} is still in training. Go on with it by: regraft train --resume {folder}"
    if not folder.exists():
        return f"{folder} does not exist. Expected the folder of a run, as `regraft train` leaves it."
    return f"{folder} is no run: it has no {_PAGE} and {_METRICS}. Expected a folder as `regraft train` leaves it."
