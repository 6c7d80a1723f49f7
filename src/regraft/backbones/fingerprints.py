"""The index of fingerprints: every tensor's name and shape for all networks of the zoos, without any network.

It ships with Regraft as `fingerprints.xz` and is made by `python -m regraft.backbones.fingerprint_build`. Reading it
takes about a tenth of a second and needs numpy only.

Layout: one lzma stream of numpy arrays in the order of `ARRAYS`, each as `numpy.save` writes it. A token is one kind
of tensor (name, shapes, role); a list is the sequence of tokens of one or several networks.
"""

from __future__ import annotations

import functools
import io
import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.checkpoints.checkpoint import Shape

BODY, HEAD, STEM, POSITION = range(4)
ANY = -1  # a dimension that depends on classes, channels or image size
FORMAT = 1
ARRAYS = ("header", "names", "name", "shape", "larger", "pattern", "role", "integer", "ends", "tokens")
COUNTER = "num_batches_tracked"

_FILE = Path(__file__).with_name("fingerprints.xz")
_AFTER = ".running_var"  # a BatchNorm's counter follows its variance; counters are not kept in the file


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of a network.

    Attributes:
        name: its name.
        shape: its shape as the zoo builds the network by default.
        larger: its shape for an image of twice the side.
        integer: whether it counts or indexes.
        role: BODY, HEAD (depends on the number of classes, or is an auxiliary head's), STEM (takes the image's
            channels) or POSITION (depends on the image's size).
        pattern: the shape with ANY where it depends on one of these.
    """

    name: str
    shape: Shape
    larger: Shape
    integer: bool
    role: int
    pattern: Shape


@dataclass(frozen=True, slots=True)
class Network:
    """One network of a zoo, as far as it is not its tensors.

    Attributes:
        architecture: as `catalogue.build_module` takes it.
        family: the module that defines it, its last word.
        published: whether its zoo publishes weights for it.
        size: image height and width by default.
        width: number of features that its head sees.
        parameters: number of parameters without the head.
        tokens: the number of its list.
        body: networks with the same body have the same tensors, heads and positions aside.
        function: networks of one body with the same number are the same function.
        modules: of its modules without tensors, those that not all networks of its body have.
    """

    architecture: str
    family: str
    published: bool
    size: tuple[int, int]
    width: int
    parameters: int
    tokens: int
    body: int
    function: int
    modules: frozenset[str]


@dataclass(frozen=True)
class Index:
    """All fingerprints.

    Attributes:
        versions: versions of the libraries whose networks these are.
        networks: all networks, torchvision's first.
        names: all tensor names.
        shapes: all shapes and patterns.
        name: token -> number of its name.
        shape: token -> number of its shape.
        larger: token -> number of its shape for a larger image.
        pattern: token -> number of its pattern.
        role: token -> its role.
        integer: token -> whether it holds integers.
        ends: list -> where it ends in `tokens`; it begins where the one before ends.
        tokens: the lists' tokens.
    """

    versions: dict[str, str]
    networks: tuple[Network, ...]
    names: list[str]
    shapes: list[Shape]
    name: NDArray[np.int32]
    shape: NDArray[np.int32]
    larger: NDArray[np.int32]
    pattern: NDArray[np.int32]
    role: NDArray[np.int8]
    integer: NDArray[np.int8]
    ends: NDArray[np.int32]
    tokens: NDArray[np.int32]

    def list_of(self, number: int) -> NDArray[np.int32]:
        """The tokens of one list."""
        start = self.ends[number - 1] if number else 0
        return self.tokens[start : self.ends[number]]

    def slots(self, network: Network) -> list[Slot]:
        """The tensors of a network in the order of its state dict, counters included."""
        found = []
        for token in self.list_of(network.tokens).tolist():
            name, role = self.names[self.name[token]], int(self.role[token])
            shape, larger, pattern = (self.shapes[column[token]] for column in (self.shape, self.larger, self.pattern))
            found.append(Slot(name, shape, larger, bool(self.integer[token]), role, pattern))
            if name.endswith(_AFTER):
                counter = name.removesuffix(_AFTER) + f".{COUNTER}"
                found.append(Slot(counter, (), (), True, role, ()))
        return found


@functools.cache
def shipped() -> Index:
    """The index that came with Regraft.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        return decode(_FILE.read_bytes())
    except (OSError, ValueError, KeyError, EOFError, lzma.LZMAError) as error:
        raise CheckpointError(
            f"{_FILE.name}, the index of networks, cannot be read ({error}): reinstall Regraft."
        ) from error


def decode(content: bytes) -> Index:
    """The index from the bytes of its file; raises ValueError if they are of another format."""
    stream = io.BytesIO(lzma.decompress(content))
    arrays = {key: np.load(stream, allow_pickle=False) for key in ARRAYS}
    header = json.loads(arrays["header"].tobytes())
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']}, expected {FORMAT}")
    networks = tuple(_network(row, header["modules"]) for row in header["networks"])
    columns = {key: np.cumsum(arrays[key], dtype=np.int32) for key in ("name", "shape", "ends", "tokens")}
    for key in ("larger", "pattern"):
        columns[key] = columns["shape"] + arrays[key]
    return Index(
        versions=header["versions"],
        networks=networks,
        names=arrays["names"].tobytes().decode().split("\n"),
        shapes=[tuple(shape) for shape in header["shapes"]],
        role=arrays["role"],
        integer=arrays["integer"],
        **columns,
    )


def _network(row: list[Any], words: list[str]) -> Network:
    architecture, family, published, (height, width), features, parameters, tokens, body, function, telling = row
    modules = frozenset(words[word] for word in telling)
    size = (height, width)
    return Network(architecture, family, published, size, features, parameters, tokens, body, function, modules)
