"""The bundle of a change model: the same files as of any bundle, with a network for two dates in them.

bundle/
  bundle.json            classes, how bands are scaled, tile, threshold, network, backbone card, metrics, versions
  head.safetensors       what follows the backbone
  backbone.safetensors   the backbone's weights
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.data.bands import DTYPES, BandScale
from regraft.errors import BundleError, RegraftError
from regraft.inference.bundle_files import (
    CHANGE_FORMAT,
    FACTS,
    bundle_folder,
    check_files,
    damaged,
    read_facts,
    weights_name,
    write_facts,
)
from regraft.inference.checks import read_card

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from regraft.backbones.backbone import BackboneCard
    from regraft.models.change.net import ChangeNet

_HEAD = "head.safetensors"
_TRUNK = "trunk."
_MOST_TILE = 1 << 14


@dataclass(frozen=True, repr=False)
class ChangeBundle:
    """A trained model of change detection.

    Attributes:
        classes: the K class names; the first one is "unchanged".
        network: of the part after the backbone, as `models.change.spec` writes it: "bit:token_len=4".
        card: of the backbone.
        bands: C that it takes.
        dtype: of their values: "uint8", "uint16", "int16" or "float32".
        scale: what is done to the values.
        tile: side of the squares it learnt from, pixels.
        threshold: from which P(changed) on a pixel is called changed; chosen on validation.
        facts: strategy, data, metrics, versions: JSON values for people and programs.
        folder: where the bundle was read from, or None before it is written.
        identity: the hash of everything in it, once read.
    """

    classes: tuple[str, ...]
    network: str
    card: BackboneCard
    bands: int
    dtype: str
    scale: BandScale
    tile: int
    threshold: float
    facts: dict[str, Any]
    folder: Path | None = None
    identity: str = ""

    def __repr__(self) -> str:
        """One line; facts are too long to print."""
        folder = "" if self.folder is None else f", {str(self.folder)!r}"
        return f"ChangeBundle({self.network} on {self.card.name}, {len(self.classes)} classes{folder})"

    def build(self) -> ChangeNet:
        """The network with this bundle's own weights, in eval mode, channels last in memory.

        Raises:
            BundleError: the weights do not fit the network that the installed libraries build.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from regraft.models.change.net import build_change
        from regraft.models.change.spec import parse_model

        assert self.folder is not None
        sizes = {"bands": self.bands, "classes": len(self.classes)}
        try:
            net, _ = build_change(parse_model(self.network), self.card, None, **sizes)
        except RegraftError as error:
            raise BundleError(f"{self.folder} cannot be built: {error} A newer Regraft may be needed.") from error
        try:
            trunk, head = load_file(self.folder / weights_name(0)), load_file(self.folder / _HEAD)
            state = {**{f"{_TRUNK}{name}": value for name, value in trunk.items()}, **head}
            net.load_state_dict(state)
        except SafetensorError as error:
            raise damaged(self.folder, "a file of weights in it is no whole safetensors file") from error
        except (OSError, RuntimeError, ValueError) as error:
            why = str(error).splitlines()[-1].strip()
            raise BundleError(
                f"{self.folder}: its weights do not fit {self.network} on {self.card.name}: {why}"
            ) from error
        return net.to(memory_format=torch.channels_last).eval()


def write_change_bundle(bundle: ChangeBundle, folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write a bundle into a new folder (inside a run that is itself written atomically).

    Args:
        bundle: what to write.
        folder: a folder that does not exist yet.
        state: of the whole network.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    trunk = {name.removeprefix(_TRUNK): value for name, value in own.items() if name.startswith(_TRUNK)}
    save_file(trunk, folder / weights_name(0))
    save_file({name: value for name, value in own.items() if not name.startswith(_TRUNK)}, folder / _HEAD)
    content: dict[str, Any] = {
        "format": CHANGE_FORMAT,
        "task": "change",
        "classes": list(bundle.classes),
        "network": bundle.network,
        "backbones": [bundle.card.to_dict()],
        "bands": bundle.bands,
        "dtype": bundle.dtype,
        "scale": bundle.scale.to_dict(),
        "tile": bundle.tile,
        "threshold": bundle.threshold,
        "facts": bundle.facts,
    }
    write_facts(content, folder, [_HEAD, weights_name(0)])


def is_change_model(place: Path) -> bool:
    """Whether a run or bundle holds a model of change detection.

    Raises:
        BundleError: it holds no model that can be read.
    """
    return bool(read_facts(bundle_folder(place))["format"] == CHANGE_FORMAT)


def read_change_bundle(place: Path) -> ChangeBundle:
    """Read a bundle, from its own folder or from a run that holds one.

    Raises:
        BundleError: no such bundle there, or one that was changed or damaged after it was written.
    """
    folder = bundle_folder(place)
    content = read_facts(folder)
    if content["format"] != CHANGE_FORMAT:
        raise BundleError(f"{place} is a model that looks at one image; here a model of change detection is expected")
    if what := _wrong_with(content):
        raise damaged(folder, f"{FACTS} was changed, {what}")
    check_files(folder, content["sha256"], {_HEAD, weights_name(0)})
    card = read_card(content["backbones"][0])
    assert card is not None
    return ChangeBundle(
        classes=tuple(content["classes"]),
        network=content["network"],
        card=card,
        bands=content["bands"],
        dtype=content["dtype"],
        scale=BandScale.from_dict(content["scale"]),
        tile=content["tile"],
        threshold=content["threshold"],
        facts=content["facts"],
        folder=folder,
        identity=content["self_sha256"],
    )


def _wrong_with(content: dict[str, Any]) -> str:
    """What is wrong with the content of a bundle.json of this format, as part of a sentence; empty for nothing."""
    classes, cards = content.get("classes"), content.get("backbones")
    if type(classes) is not list or len(classes) < 2 or not all(type(name) is str for name in classes):  # noqa: PLR2004
        return "its 'classes' are not two names or more"
    if type(content.get("network")) is not str or type(content.get("facts")) is not dict:
        return "its 'network' or its 'facts' are not there"
    if type(content.get("sha256")) is not dict:
        return "its 'sha256' is not a group of names and values"
    if type(cards) is not list or len(cards) != 1 or read_card(cards[0]) is None:
        return "its 'backbones' do not describe one backbone"
    for name, most in (("bands", 1 << 12), ("tile", _MOST_TILE)):
        if type(content.get(name)) is not int or not 1 <= content[name] <= most:
            return f"its {name!r} is {content.get(name)!r}, not a whole number from 1 to {most}"
    return _wrong_values(content)


def _wrong_values(content: dict[str, Any]) -> str:
    """The same of what says how values become probabilities, and these a mask."""
    try:
        scale = BandScale.from_dict(content["scale"])
    except (RegraftError, TypeError, KeyError, ValueError, AttributeError, OverflowError):
        return "its 'scale' is not there"
    if content.get("dtype") not in DTYPES:
        return f"its 'dtype' is {content.get('dtype')!r}, none of {', '.join(DTYPES)}"
    if not all(map(math.isfinite, (*scale.offset, *scale.scale))):
        return "its 'scale' has numbers that are not finite"
    if len(scale.offset) != content["bands"] or len(scale.scale) != content["bands"]:
        return f"its 'scale' is not of {content['bands']} bands"
    threshold: Any = content.get("threshold")
    if type(threshold) not in {int, float} or not math.isfinite(threshold) or not 0 <= threshold <= 1:
        return f"its 'threshold' is {threshold!r}, not a number from 0 to 1"
    return ""
