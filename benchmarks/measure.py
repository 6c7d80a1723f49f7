"""Run whole commands and measure them from outside: wall seconds and peak memory."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HYMENOPTERA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hymenoptera"


@dataclass(frozen=True)
class Measured:
    """One finished process.

    Attributes:
        seconds: wall time from start to exit.
        peak_mb: largest resident memory of the process, MB.
        lines: what it printed on standard output.
    """

    seconds: float
    peak_mb: float
    lines: list[str]


def run(*words: str | Path, cache: Path | None = None, folder: Path | None = None) -> Measured:
    """Run a command to its end; exits when it fails, with what it said."""
    environment = dict(os.environ) | ({} if cache is None else {"REGRAFT_CACHE_DIR": str(cache)})
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen([str(word) for word in words], cwd=folder, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(map(str, words))} failed:\n{out.read()}{err.read()}")
        scale = 1024 if platform.system() == "Linux" else 1024 * 1024
        return Measured(seconds, usage.ru_maxrss / scale, out.read().splitlines())


def regraft(*words: str | Path, cache: Path, folder: Path) -> Measured:
    """Run the regraft command of this environment in a folder of its own."""
    return run(Path(sys.executable).parent / "regraft", *words, cache=cache, folder=folder)


def metrics(folder: Path) -> dict[str, Any]:
    """The metrics of the one run below `folder/runs`."""
    (path,) = (folder / "runs").glob("*/metrics.json")
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def emptied(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def data_or_exit(words: list[str]) -> Path:
    """The data set named on the command line, or hymenoptera beside the project."""
    data = Path(words[1]) if len(words) > 1 else HYMENOPTERA
    if not data.is_dir():
        sys.exit(f"{data} is not here. Name a folder with train/ and val/ of class folders.")
    return data.resolve()
