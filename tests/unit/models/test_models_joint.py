"""Several backbones as one module, against each of them alone."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from regraft.backbones.catalogue import build_module
from regraft.backbones.preprocessing import Preprocessing
from regraft.errors import BackboneError
from regraft.models.freezing import freeze, freeze_statistics, frozen_tensors, thaw
from regraft.models.joint import Joint, branch_name, branch_of, branches_of, build_trunk, largest
from regraft.training.phases import normaliser

SMALL = Preprocessing((64, 64), 72, "shorter", "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
LARGE = Preprocessing((96, 96), 96, "shorter", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def parts(stirred):
    torch.manual_seed(0)
    return [stirred(build_module(f"timm/{name}")) for name in ("test_resnet", "test_convnext")]


def pictures(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, 3, *size), dtype=torch.uint8, generator=generator)


def scaled(images):
    return normaliser(replace(LARGE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), torch.device("cpu"))(images)


def test_features_are_those_of_each_backbone_side_by_side(parts):
    images = pictures(LARGE.size)
    smaller = functional.interpolate(images.float(), (64, 64), mode="bilinear", antialias=True)
    with torch.no_grad():
        found = Joint(parts, [SMALL, LARGE]).eval()(scaled(images))
        first = parts[0](normaliser(SMALL, torch.device("cpu"))(smaller))
        second = parts[1](normaliser(LARGE, torch.device("cpu"))(images))
    assert torch.equal(found[:, first.shape[1] :], second), "of the pictures' own size: the same digits"
    torch.testing.assert_close(found[:, : first.shape[1]], first, rtol=1e-4, atol=1e-5)


def test_it_resizes_in_single_precision_under_autocast(parts):
    images = scaled(pictures(LARGE.size))
    model = Joint(parts, [SMALL, LARGE]).eval()
    with torch.no_grad():
        expected = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.05 * float(expected.abs().max()))


def test_the_order_of_the_branches_is_that_of_the_features(parts):
    images = scaled(pictures(LARGE.size))
    with torch.no_grad():
        one = Joint(parts, [SMALL, LARGE]).eval()(images)
        other = Joint(parts[::-1], [LARGE, SMALL]).eval()(images)
    width = one.shape[1] - parts[1].num_features
    assert torch.equal(one, torch.cat([other[:, -width:], other[:, :-width]], 1))


def test_a_frozen_branch_keeps_every_bit_and_gets_no_gradient(parts):
    model = Joint(parts, [SMALL, LARGE])
    freeze(model, [branch_name(0)])
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for seed in range(2):
        out = model(scaled(pictures(LARGE.size, seed)))
        out.square().mean().backward()
        optimiser.step()
    after = model.state_dict()
    frozen = {name for name in before if name.startswith(branch_name(0))}
    assert any("running_mean" in name for name in frozen)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert frozen <= {name for name in frozen_tensors(model) if name in before}
    learnt = [name for name, parameter in model.branches[1].named_parameters() if parameter.grad is not None]
    assert learnt
    assert all(not torch.equal(before[f"{branch_name(1)}.{n}"], after[f"{branch_name(1)}.{n}"]) for n in learnt)
    assert not model.branches[0](torch.zeros(1, 3, 64, 64)).requires_grad
    thaw(model, [""])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_statistics_can_be_kept_in_all_branches(parts):
    model = Joint(parts, [SMALL, LARGE])
    freeze_statistics(model)
    model.train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(scaled(pictures(LARGE.size)))
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


class _Card:
    def __init__(self, architecture, preprocessing):
        self.architecture, self.preprocessing = architecture, preprocessing


def cards():
    return [_Card("timm/test_resnet", SMALL), _Card("timm/test_convnext", LARGE)]


def test_a_trunk_is_filled_from_the_files_and_says_what_is_fresh(parts, tmp_path):
    files = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    for part, file in zip(parts, files, strict=True):
        save_file(part.state_dict(), file)
    trunk, fresh = build_trunk(cards(), files, seed=0)
    assert not fresh
    for made, given in zip(branches_of(trunk), parts, strict=True):
        assert all(torch.equal(made.state_dict()[name], tensor) for name, tensor in given.state_dict().items())
    trunk, fresh = build_trunk(cards(), [files[0], None], seed=0)
    assert fresh == {name for name in trunk.state_dict() if name.startswith(branch_name(1))}
    alone, fresh = build_trunk(cards()[:1], files[:1], seed=0)
    assert not isinstance(alone, Joint), "one backbone is itself"
    assert not fresh
    assert branches_of(alone) == [alone]


def test_first_weights_depend_on_the_seed_alone():
    one, same, other = (build_trunk(cards(), [None, None], seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_file_of_another_network_is_refused(tmp_path):
    save_file({"strange": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(BackboneError, match="has no strange"):
        build_trunk(cards()[:1], [tmp_path / "x.safetensors"], seed=0)


def test_names_lead_back_to_the_branch():
    assert branch_of(f"{branch_name(1)}.blocks.0.conv.weight") == (1, "blocks.0.conv.weight")
    model = Joint([nn.Flatten(), nn.Linear(2, 2)], [SMALL, SMALL])
    assert list(model.state_dict()) == [f"{branch_name(1)}.weight", f"{branch_name(1)}.bias"]


def test_the_largest_input_wins_and_the_first_of_equal_ones():
    assert largest([SMALL, LARGE]) is LARGE
    same = replace(SMALL, resize=64)
    assert largest([SMALL, same]) is SMALL
