"""Two dates to logits, on several backbones."""

import copy
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from regraft.backbones.catalogue import build_module
from regraft.backbones.preprocessing import Preprocessing
from regraft.errors import BackboneError
from regraft.models.change.net import ChangeNet, LastMap, SummedMaps, build_change
from regraft.models.change.spec import parse_model

MODELS = ("bit", "bit:neck=last,keep=upsampling", "unet", "linear")
BACKBONES = (
    "timm/tf_efficientnet_lite0",
    "timm/resnet18",
    "torchvision/resnet18",
    "timm/test_vit",
    "timm/test_convnext",
)


@dataclass(frozen=True)
class _Card:
    architecture: str
    preprocessing: Preprocessing


def card(name):
    side = 160 if name.startswith("timm/test") else 224
    return _Card(name, Preprocessing((side, side), side, "shorter", "bicubic", (0.5,) * 3, (0.5,) * 3))


def dates(height, width, bands=3, pairs=2):
    return torch.randn(pairs, 2, bands, height, width, generator=torch.Generator().manual_seed(3))


def build(model, name="timm/test_resnet", weights=None, **options):
    return build_change(parse_model(model), card(name), weights, **options)


def live(net):
    """Weights that do not start at zero, and running statistics of something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return net.eval()


def run(net, given):
    with torch.no_grad():
        return net(given)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("model", MODELS)
def test_logits_have_the_size_of_the_images_whatever_it_is(name, model):
    net, fresh = build(model, name, classes=3)
    found = run(live(net), dates(45, 61))
    assert found.shape == (2, 3, 45, 61)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert found.std() > 0
    assert fresh == frozenset(net.state_dict())


@pytest.mark.parametrize("model", MODELS)
def test_edges_are_repeated_and_cut_off_again(model):
    net = live(build(model)[0])
    given = dates(45, 61)
    below, right = -45 % net.trunk.multiple, -61 % net.trunk.multiple
    larger = functional.pad(given, (0, right, 0, below, 0, 0), mode="replicate")
    assert larger.shape[-2:] == ((48, 64) if model.startswith("bit") else (64, 64))
    torch.testing.assert_close(run(net, given), run(net, larger)[..., :45, :61])


def test_the_smallest_images_serve():
    assert run(build("unet")[0], dates(1, 2)).shape == (2, 2, 1, 2)


@pytest.mark.parametrize("model", ["unet", "unet:finest=4", "linear", "linear:finest=2", "bit:encoder_positions=no"])
def test_swapped_dates_have_the_same_logits(model):
    net = live(build(model)[0])
    given = dates(64, 64)
    torch.testing.assert_close(run(net, given), run(net, given.flip(1)))
    assert not torch.allclose(run(net, given), run(net, given[:, :1].expand_as(given)))


@pytest.mark.parametrize("model", MODELS)
def test_gradients_reach_every_parameter_under_autocast(model):
    net = live(build(model)[0]).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(dates(64, 64))
    assert logits.dtype == torch.float32
    functional.cross_entropy(logits, torch.ones(2, 64, 64, dtype=torch.long)).backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert any(parameter.grad.abs().max() > 0 for parameter in net.trunk.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_a_pair_does_not_depend_on_its_batch(model):
    net = live(build(model)[0])
    given = dates(64, 64, pairs=3)
    torch.testing.assert_close(run(net, given)[1:2], run(net, given[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["bit", "bit:neck=last", "unet"])
def test_pretrained_weights_are_there_after_the_build(tmp_path, stirred, model):
    network = stirred(build_module("torchvision/resnet18"))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    net, fresh = build(model, "torchvision/resnet18", tmp_path / "w.safetensors")
    inside = "trunk.network."
    state = net.state_dict()
    trunk = {name.removeprefix(inside): tensor for name, tensor in state.items() if name.startswith(inside)}
    assert trunk.keys() == {n for n in network.state_dict() if model == "unet" or not n.startswith("layer4")}
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in trunk.items())
    assert fresh == {name for name in state if not name.startswith(inside)}


def test_pretrained_weights_meet_other_bands(tmp_path):
    network = build_module("timm/test_resnet")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    net, fresh = build("unet", weights=tmp_path / "w.safetensors", bands=6)
    stem = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    weight = next(m for m in net.trunk.modules() if isinstance(m, torch.nn.Conv2d)).weight
    torch.testing.assert_close(weight, torch.cat((stem.weight, stem.weight), 1) / 2)
    assert not [name for name in fresh if name.startswith("trunk.")], "the first convolution came from the file, too"
    assert run(net, dates(64, 64, 6)).shape == (2, 2, 64, 64)
    random = next(m for m in build("unet", bands=6)[0].trunk.modules() if isinstance(m, torch.nn.Conv2d)).weight
    assert not torch.equal(random[:, :3], random[:, 3:]), "drawn anew, not repeated"


def test_a_file_that_lacks_tensors_leaves_them_fresh_and_one_of_another_network_is_refused(tmp_path):
    state = build_module("timm/test_resnet").state_dict()
    first = next(iter(state))
    save_file({name: tensor for name, tensor in state.items() if name != first}, tmp_path / "less.safetensors")
    fresh = build("linear", weights=tmp_path / "less.safetensors")[1]
    assert [name for name in fresh if name.startswith("trunk.")] == [f"trunk.network.{first}"]
    save_file({"strange": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(BackboneError, match="has no strange"):
        build("linear", weights=tmp_path / "x.safetensors")


@pytest.mark.parametrize("model", ["bit", "unet"])
def test_first_weights_depend_on_the_seed_alone(model):
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    one, same, other = (build(model, seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    for part in ("trunk", "head"):
        assert any(not torch.equal(one[name], other[name]) for name in one if name.startswith(part))


def test_maps_stay_channels_last_and_a_copy_works_by_itself():
    net = live(build("unet")[0])
    seen = []
    net.trunk.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    expected = run(net, dates(64, 64))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert net.head.classifier.weight.is_contiguous(memory_format=torch.channels_last)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(run(other, dates(64, 64)), expected)


def test_the_loops_engine_takes_it():
    from lightning_fabric import Fabric

    net = live(build("bit")[0])
    expected = run(net, dates(64, 64))
    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped, optimiser = fabric.setup(net, torch.optim.SGD(net.parameters(), 1e-3))
    torch.testing.assert_close(run(wrapped, dates(64, 64)), expected)
    loss = wrapped(dates(64, 64)).square().mean()
    fabric.backward(loss)
    optimiser.step()
    assert wrapped(dates(64, 64)).square().mean() < loss


def test_summed_maps_against_the_sum_by_hand():
    neck = SummedMaps((3, 5), 4).eval()
    maps = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)]
    fine, coarse = (
        functional.conv2d(one, layer[0].weight) / (1 + layer[1].eps) ** 0.5
        for one, layer in zip(maps, neck.lateral, strict=True)
    )
    expected = fine + functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(run(lambda m: neck(m, (32, 32)), maps), expected)


def test_the_last_map_is_given_as_it_is():
    trunk = torch.nn.Module()
    trunk.forward = lambda x: [x, x[..., ::2, ::2]]
    head = torch.nn.Module()
    head.forward = lambda one, size: functional.interpolate(one[:, 0] - one[:, 1], size)
    given = dates(6, 8)
    found = ChangeNet(trunk, head, LastMap())(given)
    assert torch.equal(found[..., ::2, ::2], (given[:, 0] - given[:, 1])[..., ::2, ::2])
