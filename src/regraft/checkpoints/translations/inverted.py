"""Networks of inverted residual blocks: EfficientNet 1 and 2 and Lite, MobileNetV2 and V3, MNASNet.

Common names: `stem`, `head` and `fc`; a block is `blocks.STAGE.POSITION` where a naming groups blocks by stage and
`blocks.NUMBER` where it numbers them through; inside it `conv0`, `bn0`, `conv1`, ... in the order of the way through
the block, and `se.reduce`, `se.expand`.

BatchNorm's eps: torchvision adds 1e-3 in MobileNetV3, EfficientNet B5 to B7 and EfficientNetV2, 1e-5 elsewhere;
timm 1e-5 in the networks that have torchvision's padding, 1e-3 in those whose names begin with `tf_`, which have
TensorFlow's padding as EfficientNet-PyTorch (lukemelas) has (sources: the libraries' networks).
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from regraft.checkpoints.translations.naming import EPS, Naming, Read, renamer, translations
from regraft.checkpoints.translations.numbering import aligned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regraft.checkpoints.checkpoint import Shape

_TENSORFLOW_EPS = 1e-3
_LUKEMELAS = "lukemelas"
_LAYERS = ("conv", "bn")
_IMAGE = 4  # dimensions of a convolution's weight

# ----- timm ---------------------------------------------------------------------------------------------------------

_TIMM_BLOCK = re.compile(r"blocks\.(\d{1,3})\.(\d{1,3})\.(\w+)\.(.+)")
_TIMM_ENDS = {"conv_stem": "stem.conv", "bn1": "stem.bn", "conv_head": "head.conv", "bn2": "head.bn"}
_TIMM_ENDS |= {"classifier": "fc"}
_SQUEEZE = {"conv_reduce": "reduce", "conv_expand": "expand"}
_NORMS = {"bn1": "bn0", "bn2": "bn1", "bn3": "bn2"}
_NARROW = _NORMS | {"conv": "conv0", "conv_dw": "conv0", "conv_pw": "conv1"}
_WIDE = _NORMS | {"conv_pw": "conv0", "conv_exp": "conv0", "conv_dw": "conv1", "conv_pwl": "conv2"}
_FUSED = _WIDE | {"conv_pwl": "conv1"}


def _timm(shapes: Mapping[str, Shape]) -> Read:
    layers: dict[tuple[str, str], set[str]] = {}
    blocks = {name: found for name in shapes if (found := _TIMM_BLOCK.fullmatch(name))}
    for found in blocks.values():
        layers.setdefault((found[1], found[2]), set()).add(found[3])
    if not any(names & {"conv_dw", "conv_exp"} for names in layers.values()):
        return {}
    tables = {place: _timm_table(names) for place, names in layers.items()}
    read: Read = {}
    for name in shapes:
        if found := blocks.get(name):
            stage, position, layer, rest = found.groups()
            if common := _timm_layer(tables[stage, position], layer, rest):
                read[name] = f"blocks.{stage}.{position}.{common}"
        elif (first := name.partition("."))[0] in _TIMM_ENDS:
            read[name] = f"{_TIMM_ENDS[first[0]]}.{first[2]}"
    return read


def _timm_table(layers: set[str]) -> dict[str, str]:
    if "conv_exp" in layers:
        return _FUSED
    return _WIDE if layers & {"conv_pwl", "bn3"} else _NARROW


def _timm_layer(table: dict[str, str], layer: str, rest: str) -> str:
    if layer == "se":
        convolution, _, rest = rest.partition(".")
        return f"se.{_SQUEEZE[convolution]}.{rest}" if convolution in _SQUEEZE else ""
    return f"{table[layer]}.{rest}" if layer in table else ""


def _timm_eps(shapes: Mapping[str, Shape], other: str) -> float:  # noqa: ARG001 (as Naming.eps)
    return _TENSORFLOW_EPS if other == _LUKEMELAS else EPS


# ----- torchvision --------------------------------------------------------------------------------------------------

_BLOCK = re.compile(r"(features\.\d{1,3}(?:\.\d{1,3})?\.block)\.(\d)\.(fc[12]|[01])\.(\w+)")
_FC = {"fc1": "reduce", "fc2": "expand"}
_END = re.compile(r"features\.(\d{1,3})\.([01])\.(\w+)")
_CLASSIFIER = re.compile(r"classifier\.([013])\.(\w+)")
_PLACE = re.compile(r"\d+")


def _torchvision(sign: str, shapes: Mapping[str, Shape]) -> Read:
    """EfficientNet, `features.STAGE.POSITION.block`, or MobileNetV3, `features.NUMBER.block`; both count the stem."""
    blocks = {name: found for name in shapes if (found := _BLOCK.fullmatch(name))}
    if not any(map(re.compile(sign).match, blocks)):
        return {}
    squeezes = {found[1]: int(found[2]) for found in blocks.values() if found[3] in _FC}
    last = max(int(name.split(".")[1]) for name in blocks)
    grouped = any(name.split(".")[3] == "block" for name in blocks)
    read: Read = {}
    for name in shapes:
        if found := blocks.get(name):
            block, index, layer, rest = found.groups()
            stage, *position = _PLACE.findall(block)
            place = ".".join([str(int(stage) - 1), *position])
            number = int(index) - (squeezes.get(block, int(index)) < int(index))
            common = f"se.{_FC[layer]}" if layer in _FC else f"{_LAYERS[int(layer)]}{number}"
            read[name] = f"blocks.{place}.{common}.{rest}"
        elif common := _torchvision_end(name, last, grouped=grouped):
            read[name] = common
    return read


def _torchvision_end(name: str, last: int, *, grouped: bool) -> str:
    """Stem, head and classifier; timm counts MobileNetV3's last convolution among the blocks."""
    if found := _CLASSIFIER.fullmatch(name):
        return f"{'head.conv' if found[1] == '0' else 'fc'}.{found[2]}"
    if not (found := _END.fullmatch(name)):
        return ""
    number, layer, rest = int(found[1]), _LAYERS[int(found[2])], found[3]
    if number == 0:
        return f"stem.{layer}.{rest}"
    if number != last + 1:
        return ""
    return f"head.{layer}.{rest}" if grouped else f"blocks.{last}.{layer}0.{rest}"


def _efficientnet_eps(shapes: Mapping[str, Shape], other: str) -> float:  # noqa: ARG001 (as Naming.eps)
    """B5 to B7 begin with three or more blocks; the first convolution of the second version is not depthwise."""
    first = shapes.get("features.1.0.block.0.0.weight", ())
    second_version = len(first) == _IMAGE and first[1] > 1
    return _TENSORFLOW_EPS if second_version or "features.1.2.block.0.0.weight" in shapes else EPS


def _mobilenet_v3_eps(shapes: Mapping[str, Shape], other: str) -> float:  # noqa: ARG001 (as Naming.eps)
    return _TENSORFLOW_EPS


_V2_NESTED = re.compile(r"features\.(\d{1,3})\.conv\.([01])\.([01])\.(\w+)")
_V2_FLAT = re.compile(r"features\.(\d{1,3})\.conv\.([123])\.(\w+)")


def _mobilenet_v2(shapes: Mapping[str, Shape]) -> Read:
    """A block's last convolution and norm stand flat: as 1 and 2, or as 2 and 3 in a block that expands."""
    blocks = [int(found[1]) for name in shapes if (found := _V2_NESTED.match(name))]
    read: Read = {}
    for name, shape in shapes.items() if blocks else ():
        if found := _V2_NESTED.fullmatch(name):
            number, index, layer, rest = found.groups()
            read[name] = f"blocks.{int(number) - 1}.{_LAYERS[int(layer)]}{index}.{rest}"
        elif found := _V2_FLAT.fullmatch(name):
            number, index, rest = found.groups()
            convolution = index == "1" or (index == "2" and len(shape) == _IMAGE)
            layer = f"conv{index}" if convolution else f"bn{int(index) - 1}"
            read[name] = f"blocks.{int(number) - 1}.{layer}.{rest}"
        elif (found := _END.fullmatch(name)) and int(found[1]) in {0, max(blocks) + 1}:
            end = "stem" if found[1] == "0" else "head"
            read[name] = f"{end}.{_LAYERS[int(found[2])]}.{found[3]}"
        elif name.startswith("classifier.1."):
            read[name] = name.replace("classifier.1", "fc")
    return read


_MNASNET_ENDS = {"0": "stem.conv", "1": "stem.bn", "3": "blocks.0.0.conv0", "4": "blocks.0.0.bn0"}
_MNASNET_ENDS |= {"6": "blocks.0.0.conv1", "7": "blocks.0.0.bn1", "14": "head.conv", "15": "head.bn"}
_MNASNET_LAYERS = {"0": "conv0", "1": "bn0", "3": "conv1", "4": "bn1", "6": "conv2", "7": "bn2"}


def _mnasnet_block(found: re.Match[str]) -> str:
    stage, position, layer, rest = found.groups()
    return f"blocks.{int(stage) - 7}.{position}.{_MNASNET_LAYERS[layer]}.{rest}"


_mnasnet = renamer(
    r"layers\.(?:[89]|1[0-3])\.\d{1,3}\.layers\.",
    (r"layers\.(8|9|1[0-3])\.(\d{1,3})\.layers\.([013467])\.(\w+)", _mnasnet_block),
    (r"layers\.([013467]|14|15)\.(\w+)", lambda found: f"{_MNASNET_ENDS[found[1]]}.{found[2]}"),
    (r"classifier\.1\.(\w+)", r"fc.\1"),
)

# ----- EfficientNet-PyTorch -----------------------------------------------------------------------------------------

_LUKEMELAS_BLOCK = re.compile(r"_blocks\.(\d{1,3})\.(_\w+)\.(\w+)")
_LUKEMELAS_ENDS = {"_conv_stem": "stem.conv", "_bn0": "stem.bn", "_conv_head": "head.conv", "_bn1": "head.bn"}
_LUKEMELAS_ENDS |= {"_fc": "fc"}
_LUKEMELAS_SQUEEZE = {"_se_reduce": "se.reduce", "_se_expand": "se.expand"}
_LUKEMELAS_WIDE = _LUKEMELAS_SQUEEZE | {"_expand_conv": "conv0", "_bn0": "bn0", "_depthwise_conv": "conv1"}
_LUKEMELAS_WIDE |= {"_bn1": "bn1", "_project_conv": "conv2", "_bn2": "bn2"}
_LUKEMELAS_NARROW = _LUKEMELAS_SQUEEZE | {"_depthwise_conv": "conv0", "_bn1": "bn0", "_project_conv": "conv1"}
_LUKEMELAS_NARROW |= {"_bn2": "bn1"}


def _lukemelas(shapes: Mapping[str, Shape]) -> Read:
    blocks = {name: found for name in shapes if (found := _LUKEMELAS_BLOCK.fullmatch(name))}
    wide = {found[1] for found in blocks.values() if found[2] in {"_expand_conv", "_bn0"}}
    read: Read = {}
    for name in shapes if blocks else ():
        if found := blocks.get(name):
            number, layer, rest = found.groups()
            table = _LUKEMELAS_WIDE if number in wide else _LUKEMELAS_NARROW
            if layer in table:
                read[name] = f"blocks.{number}.{table[layer]}.{rest}"
        elif (first := name.partition("."))[0] in _LUKEMELAS_ENDS:
            read[name] = f"{_LUKEMELAS_ENDS[first[0]]}.{first[2]}"
    return read


def _lukemelas_eps(shapes: Mapping[str, Shape], other: str) -> float:  # noqa: ARG001 (as Naming.eps)
    return _TENSORFLOW_EPS


TRANSLATIONS = (
    *translations(
        "EfficientNet",
        Naming(
            "torchvision",
            partial(_torchvision, r"features\.\d{1,3}\.\d{1,3}\.block\.\d\.(?:[01]|fc1)\."),
            _efficientnet_eps,
        ),
        Naming("timm", _timm, _timm_eps),
        Naming(_LUKEMELAS, _lukemelas, _lukemelas_eps),
        align=aligned,
    ),
    *translations(
        "MobileNetV3",
        Naming(
            "torchvision", partial(_torchvision, r"features\.\d{1,3}\.block\.\d\.(?:[01]|fc1)\."), _mobilenet_v3_eps
        ),
        Naming("timm", _timm, _timm_eps),
        align=aligned,
    ),
    *translations("MobileNetV2", Naming("torchvision", _mobilenet_v2), Naming("timm", _timm), align=aligned),
    *translations("MNASNet", Naming("torchvision", _mnasnet), Naming("timm", _timm)),
)
