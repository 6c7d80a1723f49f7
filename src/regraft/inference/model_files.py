"""The two classic forms of a model on disk: the state dict alone, and structure and weights together.

The second is a bundle, never a pickle: structure is the name of an architecture that the zoos build.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import atomic_file, atomic_folder
from regraft.backbones import file_preprocessing, files
from regraft.backbones.backbone import BackboneCard
from regraft.backbones.cards import sha256
from regraft.backbones.index import versions
from regraft.backbones.lookup import architecture_of, entries_of
from regraft.backbones.recognise import DEFAULTS, identify_checkpoint, recognise
from regraft.backbones.stages import stages
from regraft.errors import BundleError, CheckpointError, OptionError, RegraftError, RunExists
from regraft.features.store import cache_folder
from regraft.heads.calibrated import Calibrated
from regraft.heads.linear_probe import LinearProbe
from regraft.heads.scaling import Scaling
from regraft.inference.bundle import Bundle, read_bundle, write_bundle

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from torch import nn

    from regraft.backbones.preprocessing import Preprocessing

_STATE_DICTS = {".safetensors", ".pth", ".pt", ".bin"}
_CLOSE = 1e-3
_UNSEEN = -1e4
_MATRIX = 2


def save_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    overwrite: bool = False,
) -> Path:
    """Save a network: its state dict alone, or structure and weights together as a bundle.

    Args:
        model: the network.
        path: ending with .safetensors, .pth, .pt or .bin: the state dict alone is written (safetensors for the first).
            Anything else names a new folder for a bundle, which `regraft predict` and `regraft.load` take.
        architecture: for a bundle: which network of the zoos it is, as `torchvision/resnet18`.
        classes: for a bundle: the names of the classes, in the order of the logits.
        preprocessing: for a bundle: what the network's input looks like; by default that of the architecture's
            published weights.
        overwrite: replace a file that exists; folders are never replaced.

    Returns:
        The path.

    Raises:
        OptionError: no network, one without numbers, or a bundle was asked for without architecture or classes.
        CheckpointError: the network is not the architecture with one linear layer at its end.
        RunExists: the path exists.
    """
    from torch import nn
    from torch.nn.parameter import is_lazy

    if not isinstance(model, nn.Module):
        raise OptionError(f"save_model takes a network (torch.nn.Module), not a {type(model).__name__}.")
    empty = next((name for name, t in model.state_dict(keep_vars=True).items() if t.is_meta or is_lazy(t)), None)
    if empty is not None:
        raise OptionError(f"{empty} of the network has no numbers yet (it is on the device meta, or lazy).")
    target = Path(path)
    if target.exists() and not (overwrite and target.is_file()):
        raise RunExists(
            f"{target} exists already. Choose another place"
            + ("." if target.is_dir() else ", or replace it with overwrite=True.")
        )
    if target.suffix in _STATE_DICTS:
        _save_state(model, target)
        return target
    if classes is not None and (isinstance(classes, str) or len({*map(str, classes)}) < len(classes)):
        raise OptionError(f"classes is {classes!r}; expected distinct names in a list, in the order of the logits.")
    if architecture is None or not classes:
        raise OptionError(
            f"{target} would be a bundle, which needs architecture= (such as 'torchvision/resnet18') and classes="
            f" (their names). For the state dict alone let the path end with {', '.join(sorted(_STATE_DICTS))}."
        )
    _save_bundle(model, target, architecture, tuple(map(str, classes)), preprocessing)
    return target


def load_model(
    path: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    part: str | None = None,
    trust: bool = False,
) -> nn.Module:
    """Load a network with all its weights, in eval mode: normalised images (B, 3, H, W) -> logits (B, K).

    Args:
        path: a run or bundle, or a weights file.
        architecture: of a weights file; by default it is recognised.
        part: of several state dicts in a file, which one.
        trust: unpickle a file that asks for foreign classes, which runs its code.

    Returns:
        The network; without its last layer, (B, 3, H, W) -> features (B, D), where the file has none.

    Raises:
        CheckpointError: the file cannot be read, its network is not recognised, or a tensor is missing.
        BundleError: the bundle cannot be used, or its head is not a linear layer.
    """
    place = Path(path)
    if (place / "bundle.json").is_file() or (place / "bundle" / "bundle.json").is_file():
        return _of_bundle(place)
    from regraft.checkpoints.match import match
    from regraft.checkpoints.read import read_checkpoint

    cache = cache_folder()
    checkpoint = read_checkpoint(place, part=part, trust=trust)
    found = recognise(checkpoint, architecture or "", cache)
    if found.certainty == "ambiguous":
        raise CheckpointError(
            f"{place}: {found.why} Say which it is with architecture=, such as {found.architecture!r}."
        )
    identity = found.identity or identify_checkpoint(checkpoint)
    zoo, preprocessing, _ = file_preprocessing.preprocessing_of(found, cache, DEFAULTS)
    network = files.sized(found.architecture, zoo, preprocessing.size)
    module = zoo.build_module(network, identity.classes or 0)
    report = match(checkpoint.state_dict, module, allow_partial=1, head=None if identity.classes else ())
    if lost := [row.name for row in report.rows if row.head and not row.filled]:
        raise CheckpointError(
            f"{place}: its last layer, {identity.head}, is not the one of {network} ({', '.join(lost)} are not filled)."
            " Fill a network of your own with regraft.init_from, which leaves such a layer out."
        )
    return module


def _save_state(model: nn.Module, target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_file(target) as temporary:
        if target.suffix == ".safetensors":
            save_file(state, temporary)
        else:
            torch.save(state, temporary)


def _save_bundle(
    model: nn.Module, target: Path, architecture: str, classes: tuple[str, ...], preprocessing: Preprocessing | None
) -> None:
    from safetensors.torch import save_file

    cache = cache_folder()
    network = architecture_of(architecture, cache)
    zoo, entries = entries_of(network, cache)
    chosen = preprocessing or (zoo.preprocessing(entries[0]) if entries else file_preprocessing.usual_preprocessing())
    network = files.sized(network, zoo, chosen.size)
    backbone, head = _taken_apart(model, zoo.build_module(network), len(classes), network)
    parts, output = stages(backbone, chosen.size)
    _check_same(model, backbone, head, chosen)
    with tempfile.TemporaryDirectory() as folder, atomic_folder(target) as temporary:
        weights = Path(folder) / "backbone.safetensors"
        save_file({name: t.clone().contiguous() for name, t in backbone.state_dict().items()}, weights)
        card = BackboneCard(
            name=network,
            architecture=network,
            weights="saved from a model in memory",
            weights_file="",
            weights_sha256=sha256(weights),
            licence="unknown",
            preprocessing=chosen,
            feature_dim=output[0],
            parameters=sum(parameter.numel() for parameter in backbone.parameters()),
            stages=parts,
            versions=versions(zoo.DISTRIBUTIONS),
        )
        facts: dict[str, Any] = {
            "strategy": "saved from a model in memory",
            "chosen": {},
            "features": {},
            "metrics": {},
        }
        bundle = Bundle(classes, head, (card,), "none", "f32", "openvino", output[0], facts)
        write_bundle(bundle, temporary / "bundle", [weights])
        for part in (temporary / "bundle").iterdir():
            part.rename(temporary / part.name)
        (temporary / "bundle").rmdir()


def _taken_apart(model: nn.Module, backbone: nn.Module, classes: int, network: str) -> tuple[nn.Module, LinearProbe]:
    """The backbone of the architecture filled from the model, and the linear layer that is left."""
    from regraft.checkpoints.match import match

    state = model.state_dict()
    report = match(state, backbone, allow_partial=1, head=())
    rest = {name: state[name] for name in report.unexpected}
    weights = [tensor for tensor in rest.values() if tensor.ndim == _MATRIX and tensor.shape[0] == classes]
    biases = [tensor for tensor in rest.values() if tuple(tensor.shape) == (classes,)]
    if len(weights) != 1 or len(weights) + len(biases) != len(rest):
        raise CheckpointError(
            f"The model is not {network} with one linear layer for {classes} classes at its end: beside the backbone it"
            f" has {', '.join(f'{name} {tuple(tensor.shape)}' for name, tensor in rest.items()) or 'nothing'}."
        )
    weight = weights[0].detach().double().cpu().numpy().T
    bias = biases[0].detach().double().cpu().numpy() if biases else np.zeros(classes)
    width = len(weight)
    scaling = Scaling(np.zeros(width), np.ones(width))
    return backbone.eval(), LinearProbe(scaling, np.ascontiguousarray(weight), bias, np.arange(classes), classes)


def _check_same(model: nn.Module, backbone: nn.Module, head: LinearProbe, preprocessing: Preprocessing) -> None:
    """What is saved must be the function that the model is: compared on two images of noise."""
    import torch

    training, device = model.training, next((p.device for p in model.parameters()), torch.device("cpu"))
    images = torch.randn((2, 3, *preprocessing.size), generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            expected = model.eval()(images.to(device)).cpu().double().numpy()
            found = head.logits(backbone(images).numpy())
    except (RuntimeError, NotImplementedError, TypeError, ValueError, RegraftError) as error:
        reason = str(error).splitlines()[0][:200]
        raise CheckpointError(
            f"The model cannot be compared with its architecture on images of {preprocessing.size} pixels: {reason}."
            " Save it as float32, in a form that takes a batch of images; or save its state dict alone."
        ) from error
    finally:
        model.train(training)
    difference = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
    if not difference <= _CLOSE:
        raise CheckpointError(
            f"The model does not give what its architecture and a linear layer give (difference {difference:.1e}):"
            " it has other layers between, or another forward. Save its state dict alone instead."
        )


def _of_bundle(place: Path) -> nn.Module:
    import torch
    from torch import nn

    bundle = read_bundle(place)
    head, heat = bundle.head, 1.0
    if isinstance(head, Calibrated) and head.steps is None:
        heat, head = head.temperature, head.inner
    if not isinstance(head, LinearProbe):
        raise BundleError(
            f"{place} has the head {head.name!r}, which is no layer of a network: use regraft.load({str(place)!r})"
            " to predict with it."
        )
    backbone = bundle.build().module
    linear = nn.Linear(bundle.feature_dim, len(bundle.classes))
    weight, bias = _as_linear(head)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight / heat))
        linear.bias.copy_(torch.from_numpy(bias / heat))
    return nn.Sequential(backbone, linear).eval()


def _as_linear(head: LinearProbe) -> tuple[np.ndarray, np.ndarray]:
    """Weight (K, D) and bias (K,) with the scaling folded in; a class that was never seen is never first."""
    scaled = head.weights / head.scaling.scale[:, None]
    weight = np.zeros((head.n_classes, len(scaled)))
    bias = np.full(head.n_classes, _UNSEEN)
    weight[head.present] = scaled.T
    bias[head.present] = head.bias - head.scaling.centre @ scaled
    return weight, bias
