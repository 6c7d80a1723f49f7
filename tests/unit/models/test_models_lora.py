"""Adapters start as nothing, alone learn, and are gone after merging."""

import sys

import pytest
import timm
import torch
from torchvision import models

from regraft.errors import MissingExtra, OptionError
from regraft.models.freezing import frozen_tensors
from regraft.models.lora import add_lora, merge_lora

pytest.importorskip("peft")

SIZE = (64, 64)


def torchvision_vit():
    module = models.VisionTransformer(64, 16, 2, 2, 32, 64)
    module.heads = torch.nn.Identity()
    return module


NETWORKS = {
    "resnet": lambda: timm.create_model("test_resnet", num_classes=0),
    "lite0": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=0),
    "vit": lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0),
    "convnext": lambda: timm.create_model("convnext_atto", num_classes=0),
    "torchvision_vit": torchvision_vit,
}


@pytest.fixture(params=NETWORKS)
def module(request, stirred):
    torch.manual_seed(0)
    return stirred(NETWORKS[request.param]())


def images(seed=1):
    return torch.randn((4, 3, *SIZE), generator=torch.Generator().manual_seed(seed))


def features(module):
    with torch.no_grad():
        return module.eval()(images())


def train(module):
    module.train()
    optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        (module(images()) - 1).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()


def test_adapters_alone_learn_and_merge_into_the_weights(module):
    names = list(module.state_dict())
    before = features(module)
    adapted = add_lora(module, size=SIZE)
    assert torch.equal(features(adapted), before)
    learning = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert learning
    assert all(".lora_A." in name or ".lora_B." in name for name in learning)
    kept = {name: tensor.clone() for name, tensor in frozen_tensors(adapted).items()}
    assert len(kept) + len(learning) == len(adapted.state_dict())
    train(adapted)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in frozen_tensors(adapted).items())
    assert all(p.grad is not None for name, p in adapted.named_parameters() if name in learning)
    after = features(adapted)
    assert not torch.allclose(after, before, rtol=1e-3)
    merged = merge_lora(adapted)
    torch.testing.assert_close(features(merged), after, rtol=1e-5, atol=1e-5 * float(after.abs().max()))
    assert list(merged.state_dict()) == names
    assert not frozen_tensors(merged)


def test_only_layers_that_are_called_and_wide_enough_have_one():
    module = add_lora(torchvision_vit(), size=SIZE)
    adapted = {name.partition(".lora_")[0] for name, p in module.named_parameters() if p.requires_grad}
    block = "encoder.layers.encoder_layer_{}.mlp.{}"
    assert adapted == {block.format(i, j) for i in (0, 1) for j in (0, 3)}
    with pytest.raises(OptionError, match="wider than rank 32"):
        add_lora(torchvision_vit(), rank=32, size=SIZE)


def test_depthwise_convolutions_have_none():
    module = add_lora(NETWORKS["lite0"](), size=SIZE)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            layer = module.get_submodule(name.partition(".lora_")[0]).get_base_layer()
            assert layer.kernel_size == (1, 1)
            assert layer.groups == 1


def test_the_first_weights_depend_on_the_seed_alone():
    def weights(seed):
        torch.manual_seed(7)
        module = add_lora(NETWORKS["resnet"](), seed=seed, size=SIZE)
        return torch.cat([p.flatten() for p in module.parameters() if p.requires_grad])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_random_numbers_elsewhere_are_left_alone():
    module = NETWORKS["resnet"]()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    add_lora(module, size=SIZE)
    assert torch.equal(torch.rand(2), expected)


def test_rank_and_alpha():
    module = add_lora(NETWORKS["vit"](), rank=3, alpha=12, size=SIZE)
    layer = module.get_submodule("blocks.0.attn.qkv")
    assert layer.lora_A["default"].weight.shape == (3, 192)
    assert layer.scaling["default"] == 4
    with pytest.raises(OptionError, match="rank 0"):
        add_lora(NETWORKS["resnet"](), rank=0)


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    module = NETWORKS["resnet"]()
    with pytest.raises(MissingExtra, match=r"regraft\[lora\]"):
        add_lora(module, size=SIZE)
    assert not frozen_tensors(module)
