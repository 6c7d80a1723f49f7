"""Checkpoints of the authors' network: recognised, read safely, and with the same logits."""

import json
import zlib

import numpy as np
import pytest
import torch

from change_pairs import published_name
from regraft.backbones.torchvision_zoo import build_module
from regraft.checkpoints.match_report import table
from regraft.errors import CheckpointError, PartialMatch
from regraft.models.change.bit import BitHead, BitOptions
from regraft.models.change.net import ChangeNet, LastMap
from regraft.models.change.published import fill_published, is_published, load_published, options_of, rename
from regraft.models.change.pyramid import build_trunk

VARIANTS = {
    "base_resnet18": BitOptions(stages=5, decoder="none"),
    "base_transformer_pos_s4": BitOptions(),
    "base_transformer_pos_s4_dd8": BitOptions(decoder_depth=8),
    "base_transformer_pos_s4_dd8_dedim8": BitOptions(decoder_depth=8, decoder_head_dim=8),
}
SHORT = "base_transformer_pos_s4"


def build(deduced, classes=None, bands=3):
    trunk = build_trunk(build_module(deduced.architecture), deduced.options.stages, 8, bands=bands)
    head = BitHead(trunk.channels[-1], classes or deduced.classes, deduced.options)
    return ChangeNet(trunk, head, LastMap()).eval()


def by_rule(key, shape, dtype):
    """The weights that the reference's README describes."""
    if dtype == "int64":
        return torch.zeros(shape, dtype=torch.int64)
    numbers = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
    if key.endswith("running_var"):
        numbers = abs(numbers) * 0.5 + 0.5
    elif key.endswith("running_mean"):
        numbers *= 0.1
    elif len(shape) == 1:
        numbers = (1 if key.endswith("weight") else 0) + 0.1 * numbers
    else:
        numbers /= np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(numbers.astype(np.float32))


@pytest.fixture(scope="module")
def reference(shared_data):
    folder = shared_data / "bit_reference"

    def read(variant):
        keys = json.loads((folder / f"{variant}.keys.json").read_text("utf-8"))
        state = {key: by_rule(key, shape, dtype) for key, shape, dtype in keys}
        return state, torch.from_numpy(np.load(folder / f"{variant}.logits.npy"))

    return read


@pytest.fixture(scope="module")
def pair():
    """(1, 2, 3, 256, 256): before, then after."""
    generator = np.random.Generator(np.random.PCG64(0))
    dates = [generator.uniform(-1, 1, (1, 3, 256, 256)) for _ in range(2)]
    return torch.from_numpy(np.stack(dates, axis=1).astype(np.float32))


def save(state, path, wrapper=""):
    """As the authors' trainer saves: beside the network its optimiser, its schedule and numpy scalars."""
    parameters = [torch.zeros(2) for _ in range(3)]
    optimiser = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
    content = {
        "epoch_id": 199,
        "best_val_acc": np.float64(0.9123),
        "best_epoch_id": np.int64(150),
        "model_G_state_dict": {wrapper + name: tensor for name, tensor in state.items()},
        "optimizer_G_state_dict": {**optimiser.state_dict(), "state": {0: {"momentum_buffer": torch.zeros(9)}}},
        "exp_lr_scheduler_G_state_dict": {"last_epoch": np.int64(200), "base_lrs": [0.01]},
    }
    torch.save(content, path)
    return path


@pytest.mark.shared
@pytest.mark.parametrize(("variant", "wrapper"), [*((variant, "") for variant in VARIANTS), (SHORT, "module.")])
def test_the_authors_logits_are_reproduced_from_a_file(reference, pair, tmp_path, variant, wrapper):
    state, expected = reference(variant)
    published = load_published(save(state, tmp_path / "best_ckpt.pt", wrapper))
    assert published.deduced.options == VARIANTS[variant]
    assert (published.deduced.architecture, published.deduced.classes) == ("torchvision/resnet18", 2)
    net = build(published.deduced)
    report = fill_published(net, published)
    assert report.complete
    assert len(report.loaded) == len(report.rows) == len(net.state_dict()) == len(published.state)
    with torch.no_grad():
        found = net(pair)
    assert (found - expected).abs().max() < 1e-4
    assert set(published.unused) <= {wrapper + name for name in state}
    assert len(published.unused) + len(published.state) == len(state)


@pytest.mark.shared
def test_unused_tensors_are_told_with_the_reason(reference, tmp_path):
    state, _ = reference(SHORT)
    published = load_published(save(state, tmp_path / "best_ckpt.pt"))
    stages = {name for name, why in published.unused.items() if "stages=4" in why}
    assert stages == {name for name in state if name.startswith("resnet.layer4.")}
    assert set(published.unused) - stages == {"resnet.fc.weight", "resnet.fc.bias"}
    assert any("8 heads" in note for note in published.notes)
    assert "100 %" in "\n".join(table(fill_published(build(published.deduced), published)))


# The rest needs only names and shapes.


@pytest.fixture
def state():
    """A small network's state dict under the authors' names."""

    def made(architecture="resnet18", *, pooled=0, width=32, classes=2, wrapper="", **changes):
        options = BitOptions(width=width, **changes)
        deduced_stages, wide = options.stages, 4 if architecture == "resnet50" else 1
        head = BitHead(wide * 2 ** (deduced_stages + 4), classes, options)
        found = {f"resnet.{name}": tensor for name, tensor in resnet(architecture).items()}
        found |= {published_name(name): tensor for name, tensor in head.state_dict().items()}
        if pooled:
            found["conv_a.weight"] = torch.zeros(4, width, 1, 1)
        return {wrapper + name: tensor for name, tensor in found.items()}

    return made


def resnet(architecture):
    with torch.device("meta"):
        network = build_module(f"torchvision/{architecture}", classes=1000)
    return {
        name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in network.state_dict().items()
    }


@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("resnet18", {"stages": 3, "token_len": 7}),
        ("resnet34", {"encoder_depth": 3, "head_dim": 16, "mlp_dim": 48}),
        ("resnet50", {"stages": 5, "decoder_depth": 2, "decoder_head_dim": 8, "decoder_positions": "learned"}),
        ("resnet18", {"encoder_positions": False, "decoder_positions": "learned", "position_size": 16}),
        ("resnet50", {"tokens": "pool", "pool_size": 3, "pooled": 1}),
        ("resnet18", {"width": 16, "encoder": False}),
        ("resnet18", {"decoder": "simple", "classes": 5}),
        ("resnet34", {"decoder": "none", "stages": 5}),
    ],
    ids=str,
)
def test_options_are_deduced_from_names_and_shapes(state, architecture, changes, wrapper):
    found = state(architecture, wrapper=wrapper, **changes)
    assert is_published(found)
    deduced = options_of(found)
    own = {name: value for name, value in changes.items() if name not in {"pooled", "classes"}}
    assert deduced.options == BitOptions(**own)
    assert (deduced.architecture, deduced.classes) == (f"torchvision/{architecture}", changes.get("classes", 2))
    ours, unused = rename(found, deduced)
    assert set(ours) | set(unused) == set(found)
    head = BitHead(found[f"{wrapper}conv_pred.weight"].shape[1], deduced.classes, deduced.options)
    wanted = {f"head.{name}": tensor.shape for name, tensor in head.state_dict().items()}
    assert {new: found[old].shape for old, new in ours.items() if new.startswith("head.")} == wanted
    assert (f"{wrapper}conv_a.weight" in unused) == ("pooled" in changes)


def test_another_number_of_classes_keeps_a_fresh_last_layer(state, tmp_path):
    published = load_published(save(dense(state()), tmp_path / "net.pt"))
    net = build(published.deduced, classes=4)
    before = net.head.classifier[3].weight.clone()
    report = fill_published(net, published)
    assert {row.name for row in report.mismatched} == {"head.classifier.3.weight", "head.classifier.3.bias"}
    assert torch.equal(net.head.classifier[3].weight, before)
    assert torch.equal(net.head.conv_pred.weight, published.state["head.conv_pred.weight"])


def dense(tensors):
    return {name: tensor.clone() for name, tensor in tensors.items()}


def test_another_number_of_bands_adapts_the_first_convolution(state, tmp_path):
    tensors = dense(state())
    tensors["resnet.conv1.weight"].copy_(torch.randn(tensors["resnet.conv1.weight"].shape))
    published = load_published(save(tensors, tmp_path / "net.pt"))
    net = build(published.deduced, bands=6)
    assert [row.name for row in fill_published(net, published).adapted] == ["trunk.network.conv1.weight"]
    expected = tensors["resnet.conv1.weight"].repeat(1, 2, 1, 1) / 2
    torch.testing.assert_close(net.trunk.network.conv1.weight.data, expected)


def test_a_network_of_other_options_is_not_filled(state, tmp_path):
    published = load_published(save(dense(state(decoder_depth=2)), tmp_path / "net.pt"))
    shallow = build(options_of(state()))
    before = {name: tensor.clone() for name, tensor in shallow.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"no place for head\.transformer_decoder\.1"):
        fill_published(shallow, published)
    deep = build(options_of(state(decoder_depth=3)))
    with pytest.raises(PartialMatch, match="missing"):
        fill_published(deep, published)
    assert all(torch.equal(tensor, before[name]) for name, tensor in shallow.state_dict().items())


def test_a_file_of_something_else_says_so(tmp_path):
    plain = {name: tensor.clone() for name, tensor in resnet("resnet18").items()}
    assert not is_published(plain)
    with pytest.raises(CheckpointError, match=r"has no conv_pred\.weight"):
        load_published(save(plain, tmp_path / "resnet.pt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_pred.weight": (32, 300, 3, 3)}, "takes 300 channels. Expected 128, 256, 512"),
        ({"pos_embedding": (1, 7, 32)}, "pos_embedding is of 7 tokens"),
        ({"conv_a.weight": None}, r"conv_a\.weight is missing"),
        ({"transformer_decoder.layers.0.0.fn.fn.to_q.weight": (100, 32)}, "multiple of 8"),
        ({"resnet.layer3.2.conv1.weight": (256, 256, 3, 3)}, "its ResNet has 2, 2, 3, 2 basic blocks"),
    ],
    ids=str,
)
def test_a_broken_checkpoint_is_told_by_its_tensor(state, tmp_path, change, message):
    found = dense(state())
    for name, shape in change.items():
        if shape is None:
            del found[name]
        else:
            found[name] = torch.zeros(shape)
    path = save(found, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=message) as error:
        load_published(path)
    assert str(path) in str(error.value)
