"""Converted backbones: paid for once a backbone, checked against torch, kept on disk.

A folder below `models/` in the cache holds the network for OpenVINO (model.xml, model.bin, always f32: the
library's own default on saving is f16), the weights as safetensors for bundles, and model.json with the
measured difference from torch. It is complete or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import signal
import threading
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import atomic_folder
from regraft.backbones.cards import sha256
from regraft.errors import RunExists
from regraft.features.runtime import OpenVinoRuntime, import_openvino

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from regraft.backbones.backbone import Backbone, BackboneCard

_CONVERTER_VERSION = 1
_TOLERANCE = 1e-3
"""Largest difference from torch that is accepted, relative to the largest feature. f32 gives about 1e-6."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A backbone in the cache.

    Attributes:
        weights: its state dict as safetensors, under the names of our module.
        state_sha256: hash of that file; rows in the store are named by it.
        model: the .xml for OpenVINO, or None where it could not be converted.
        note: what to tell the user: how closely it agrees with torch, or why it could not be converted.
        fresh: it was converted just now.
    """

    weights: Path
    state_sha256: str
    model: Path | None
    note: str
    fresh: bool = field(default=False, compare=False)


def converted(
    card: BackboneCard, build: Callable[[], Backbone], cache: Path, *, state_sha256: str | None = None
) -> Converted:
    """The converted form of a backbone, made once and then found in the cache without importing torch.

    Args:
        card: which backbone.
        build: builds it with its weights; only called when it is not in the cache.
        cache: the cache folder.
        state_sha256: hash of the safetensors file that a bundle brings. A bundle's word for its weights' origin
            is not believed: it could make a stranger's weights pass for well-known ones in this cache.
    """
    # A newer OpenVINO may convert what an older one could not.
    version = f"{_CONVERTER_VERSION}, openvino {importlib.metadata.version('openvino')}"
    wanted = (card.architecture, card.preprocessing.size, version)
    if state_sha256 is not None:
        for path in sorted((cache / "models").glob("[!.]*/model.json")):
            form, facts = _read(path.parent)
            known = (facts["architecture"], tuple(facts["size"]), facts["version"])
            if form.state_sha256 == state_sha256 and known == wanted:
                return form
    # Of one file, another part may be taken, or it may be matched in another way.
    identity = repr((*wanted, state_sha256 or (card.weights_sha256, card.checkpoint)))
    folder = cache / "models" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    if not (folder / "model.json").exists():
        backbone = build()
        with contextlib.suppress(RunExists), atomic_folder(folder) as temporary:  # another process was faster
            _convert(backbone, temporary, version, state_sha256)
        return replace(_read(folder)[0], fresh=True)
    return _read(folder)[0]


def _read(folder: Path) -> tuple[Converted, dict[str, Any]]:
    facts: dict[str, Any] = json.loads((folder / "model.json").read_text("utf-8"))
    model = folder / "model.xml" if facts["converted"] else None
    return Converted(folder / "backbone.safetensors", facts["state_sha256"], model, facts["note"]), facts


def _convert(backbone: Backbone, folder: Path, version: str, state_sha256: str | None) -> None:
    from safetensors.torch import save_file

    card = backbone.card
    state = {name: tensor.contiguous() for name, tensor in backbone.module.state_dict().items()}
    save_file(_unshared(state), folder / "backbone.safetensors")
    difference: float | None = None
    try:
        with _interrupt_afterwards():
            difference = _to_openvino(backbone.module, card, folder)
        note = f"converted for OpenVINO; largest relative difference from torch {difference:.1e}"
    except (OSError, MemoryError):
        raise  # says nothing about the network, so nothing must be remembered of it
    except Exception as error:  # noqa: BLE001 - whatever stops the converter, torch runs the network instead
        note = f"not converted for OpenVINO ({type(error).__name__}: {str(error).splitlines()[0][:200]})"
    if difference is not None and not difference <= _TOLERANCE:
        note = f"not used with OpenVINO: its features differ from torch's by {difference:.1e} (relative)"
        difference = None
    facts = {
        "architecture": card.architecture,
        "version": version,
        "state_sha256": state_sha256 or sha256(folder / "backbone.safetensors"),
        "size": card.preprocessing.size,
        "converted": difference is not None,
        "note": note,
    }
    (folder / "model.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


@contextlib.contextmanager
def _interrupt_afterwards() -> Iterator[None]:
    """Hold Ctrl-C back: inside the converter it would come out as a failed conversion, and be remembered as one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            raise KeyboardInterrupt


def _unshared(state: dict[str, Any]) -> dict[str, Any]:
    """Copy tensors that share memory, which safetensors does not store."""
    seen: set[int] = set()
    result = {}
    for name, tensor in state.items():
        pointer = tensor.data_ptr()
        result[name] = tensor.clone() if pointer in seen and tensor.numel() else tensor
        seen.add(pointer)
    return result


def _to_openvino(module: nn.Module, card: BackboneCard, folder: Path) -> float:
    """Convert, save as f32 and return the largest relative difference from torch on seeded images."""
    import torch

    height, width = card.preprocessing.size
    network = _trace(module, torch.zeros(1, 3, height, width))
    import_openvino().save_model(network, folder / "model.xml", compress_to_fp16=False)
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    images[1] = np.add.outer(np.arange(height), np.arange(width))[:, :, None] % 256
    with torch.inference_mode():
        expected = module(torch.from_numpy(card.preprocessing.normalise(images))).numpy()
    rows: dict[int, Any] = {}
    runtime = OpenVinoRuntime(folder / "model.xml", card.preprocessing)
    runtime.run(2, lambda n: [(n, images[n])], rows.__setitem__)
    actual = np.stack([rows[0], rows[1]])
    with np.errstate(invalid="ignore", divide="ignore"):  # weights that blew up give NaN, which is not accepted
        return float(np.abs(actual - expected).max() / np.abs(expected).max())


def _trace(module: nn.Module, example: Any) -> Any:
    """The network as an OpenVINO model of fixed input shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of deprecations that are its own business
        logging.getLogger("openvino").setLevel(logging.ERROR)
        return import_openvino().convert_model(module, example_input=example, input=[tuple(example.shape)])
