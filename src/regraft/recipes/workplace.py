"""The folder of a training that is not finished: `runs/NAME.training`, beside the run that it will become.

    train.yaml           every option as resolved; what --resume goes by
    state-*.safetensors  the last states
    best-*.safetensors   the weights that were best so far
    history.jsonl        one line an evaluation
    backbone.safetensors the trained backbone, before the run is written
    tensorboard/         where asked for; moves into the run
    not-finite-*.txt     the images of a batch whose loss was not a number

The run itself appears when it is complete, and this folder goes then.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import OptionError, RunExists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUFFIX = ".training"
CONFIG = "train.yaml"
LOGS = "tensorboard"
# safetensors writes into a file of its own first, which a kill leaves there.
_OURS = ("*.safetensors", "history.jsonl", CONFIG, LOGS, "not-finite-*.txt", ".regraft-tmp*", ".tmp*", ".lock")
CHANGEABLE = ("devices", "nodes", "workers", "tensorboard", "overwrite")


def training_folder(target: Path) -> Path:
    """Where the training of a run is kept until it is done."""
    return target.with_name(target.name + SUFFIX)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes out of a training's folder while this one works there.

    Raises:
        RunExists: another one is at work.
    """
    import filelock

    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            yield
    except filelock.Timeout as error:
        raise RunExists(
            f"{folder} is in use: another process is training there. Wait for it, or choose another --run."
        ) from error


def resume_command(target: Path) -> str:
    """What to type to go on."""
    return f"regraft train --resume {shlex.quote(str(target))}"


def start(target: Path, *, overwrite: bool) -> Path:
    """An empty folder for a new training; with `overwrite`, an unfinished one that is there goes.

    Raises:
        RunExists: as `check_free`.
    """
    check_free(target, overwrite=overwrite)
    folder = training_folder(target)
    if folder.exists():
        with held(folder):
            shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def check_free(target: Path, *, overwrite: bool) -> None:
    """Refuse to begin where an unfinished training is.

    Raises:
        RunExists: an unfinished training is there, or something that is none.
    """
    folder = training_folder(target)
    if folder.exists():
        if not overwrite:
            raise RunExists(
                f"{folder} holds a training that is not finished. Go on with it by --resume {target}, or replace it"
                " with --overwrite."
            )
        ours = {path for pattern in _OURS for path in folder.glob(pattern)}
        if not folder.is_dir() or set(folder.iterdir()) - ours:
            raise RunExists(f"{folder} holds files that no training left, so it is not replaced. Choose another --run.")


def resumed(function: Callable[..., Any], options: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """The options of an unfinished training, and its folder.

    Args:
        function: `train`, whose options these are.
        options: as given now, among them `resume`.

    Raises:
        OptionError: there is nothing to resume, or an option that cannot change any more.
    """
    import inspect

    from regraft.recipes.config import merge, read_config

    named = Path(os.fspath(options["resume"]))
    if named.name in {"", ".", ".."}:
        raise OptionError(f"resume {str(named)!r} is no run. Name its folder, such as runs/photos-finetune.")
    target = named.with_name(named.name.removesuffix(SUFFIX))
    folder = training_folder(target)
    if (target / "metrics.json").is_file() and not options["overwrite"]:
        rest = f"; {folder} beside it can be removed, or go on with --overwrite" if folder.is_dir() else ""
        raise OptionError(f"resume {named}: this run is finished, see {target / 'report.html'}{rest}")
    if not (folder / CONFIG).is_file():
        raise OptionError(f"resume {named}: there is no {folder / CONFIG}. Name a run whose training was interrupted.")
    parameters = inspect.signature(function).parameters
    given = {k: v for k, v in options.items() if k in parameters and v != parameters[k].default}
    changed = given.keys() - {*CHANGEABLE, "resume"}
    if changed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(changed))
        raise OptionError(
            f"{flags}: cannot change with --resume, which goes on as the run was started ({folder / CONFIG})"
        )
    kept = {name: value for name, value in given.items() if name in CHANGEABLE}
    return {**merge(function, kept, read_config(folder / CONFIG, function)), "run": target, "resume": None}, folder
