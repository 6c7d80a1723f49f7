"""Weights files on this machine: in the caches where timm and torchvision keep theirs, else downloaded there.

The hub's cache is read by its documented layout (refs/REVISION names a commit, snapshots/COMMIT holds the
files), so that looking for a file needs neither the hub's library nor torch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from regraft.atomic import atomic_file
from regraft.errors import BackboneUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regraft.backbones.zoo import Entry

_LOG = logging.getLogger(__name__)
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_SECONDS = 5  # to connect, and for each read
_CHUNK = 1 << 20
_TRUE = {"1", "true", "yes", "on"}
_NOT_FOUND = 404
_HASH_IN_NAME = re.compile(r"-([a-f0-9]{8,})\.")


def hub_folder() -> Path:
    """The hub's cache folder, after the environment variables that its library honours."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(variable):
            return Path(value).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else _user_cache() / "huggingface") / "hub"


def torch_folder() -> Path:
    """The folder of torch's downloaded checkpoints."""
    home = os.environ.get("TORCH_HOME")
    return (Path(home).expanduser() if home else _user_cache() / "torch") / "hub" / "checkpoints"


def _user_cache() -> Path:
    value = os.environ.get("XDG_CACHE_HOME")
    return Path(value).expanduser() if value else Path.home() / ".cache"


def anything_cached() -> bool:
    """Whether the caches hold any weights at all, of whatever kind; a cheap first look."""
    return any(hub_folder().glob("models--*")) or any(path.is_file() for path in torch_folder().glob("*"))


def find(entry: Entry) -> Path | None:
    """The entry's weights file if it is on this machine; the network is not asked."""
    return next((path for path in _places(entry) if path.is_file()), None)


def _places(entry: Entry) -> Iterator[Path]:
    if entry.path:
        yield Path(entry.path)
    if entry.repo:
        repo, _, revision = entry.repo.partition("@")
        folder = hub_folder() / f"models--{repo.replace('/', '--')}"
        for commit in _commits(folder, revision or "main"):
            for filename in _hub_files(entry):
                yield folder / "snapshots" / commit / filename
    if entry.url:
        yield torch_folder() / _basename(entry.url)


def _commits(folder: Path, revision: str) -> Iterator[str]:
    try:
        yield (folder / "refs" / revision).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        yield revision  # a revision may itself be a commit


def _hub_files(entry: Entry) -> tuple[str, ...]:
    return (entry.filename,) if entry.filename else _HUB_FILES


def _basename(url: str) -> str:
    return Path(urlparse(url).path).name


def needed(entry: Entry) -> str:
    """Which file would be needed and where it is looked for, as part of a sentence."""
    options = []
    if entry.repo:
        options.append(f"{' or '.join(_hub_files(entry))} of the hub repository {entry.repo} in {hub_folder()}")
    if entry.url:
        options.append(f"{_basename(entry.url)} in {torch_folder()}")
    return ", or ".join(options) or entry.path


def origin(entry: Entry) -> str:
    """Where the weights would come from, in a few words."""
    return f"hub repository {entry.repo}" if entry.repo else _basename(entry.url) or entry.path


def fetch(entry: Entry) -> Path:
    """Download the entry's weights file into the cache where its own library would look for it.

    One attempt with short timeouts: without a network this fails within seconds.

    Raises:
        BackboneUnavailable: it cannot be had; the message says which file is needed.
    """
    from http.client import HTTPException

    try:
        if entry.repo and (path := _fetch_from_hub(entry)):
            return path
        if entry.url:
            return _fetch_url(entry.url)
        reason = f"the hub repository {entry.repo} has no such file"
    except (OSError, ValueError, HTTPException) as error:
        reason = _first_line(getattr(error, "reason", None) or error).rstrip(".")
    raise BackboneUnavailable(
        f"The weights of {entry.name} are not on this machine. Needed: {needed(entry)}. Not downloaded: {reason}."
    )


def _fetch_from_hub(entry: Entry) -> Path | None:
    """None if the repository has no such file; OSError for everything that is in the way."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        raise OSError("HF_HUB_OFFLINE is set")
    from huggingface_hub import constants, hf_hub_download

    repo, _, revision = entry.repo.partition("@")
    for filename in _hub_files(entry):
        # The hub's library retries for 20 s and more without a network, so one short request goes first.
        if not _exists(f"{constants.ENDPOINT}/{repo}/resolve/{revision or 'main'}/{filename}"):
            continue
        _LOG.info("downloading %s of %s", filename, entry.repo)
        try:
            path = hf_hub_download(
                repo,
                filename,
                revision=revision or None,
                cache_dir=hub_folder(),
                etag_timeout=_SECONDS,
            )
        except Exception as error:  # of several http libraries, by the hub library's version
            raise OSError(_first_line(error)) from error
        return Path(path)
    return None


def _first_line(error: object) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _exists(url: str) -> bool:
    """Whether the file is there; answers other than "not found" are left to the download to explain."""
    from urllib import request
    from urllib.error import HTTPError

    asked = request.Request(_https(url), method="HEAD")  # noqa: S310 (scheme checked)
    try:
        with request.urlopen(asked, timeout=_SECONDS):  # noqa: S310
            return True
    except HTTPError as error:
        error.close()
        return error.code != _NOT_FOUND


def _https(url: str) -> str:
    if not url.startswith("https://"):
        raise ValueError(f"weights are only downloaded over https, not from {url}")
    return url


def _fetch_url(url: str) -> Path:
    """Download into torch's cache; a hash in the file's name is checked, as torch.hub does."""
    from urllib import request

    target = torch_folder() / _basename(url)
    _LOG.info("downloading %s", url)
    digest = hashlib.sha256()
    answer = request.urlopen(_https(url), timeout=_SECONDS)  # noqa: S310 (scheme checked)
    with answer, atomic_file(target) as temporary:
        with temporary.open("wb") as handle:
            while chunk := answer.read(_CHUNK):
                digest.update(chunk)
                handle.write(chunk)
        expected = _HASH_IN_NAME.search(target.name)
        short = str(temporary.stat().st_size) != answer.headers.get("Content-Length", str(temporary.stat().st_size))
        if short or (expected and not digest.hexdigest().startswith(expected[1])):
            what = "its length is not what was announced" if short else "its hash is not the one in its name"
            raise ValueError(f"the downloaded {target.name} is damaged: {what}")
    return target
