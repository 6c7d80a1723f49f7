"""Oracle: torch's own gradients in float64, and torch's own layer for the forward pass, for names and for copies."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from regraft.models.depthwise import fast_depthwise

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = 24
# kernel, stride, padding, height, width, images: even and odd sizes, maps above and below the limit of float32 pieces.
SHAPES = [
    (3, 2, 1, 15, 16, 2),
    (3, 2, 0, 17, 14, 1),
    (5, 1, 2, 13, 9, 3),
    (5, 2, 2, 14, 15, 2),
    (5, 2, 4, 11, 12, 1),
    (5, 1, 0, 36, 33, 1),
    (7, 1, 3, 12, 7, 2),
    (7, 2, 3, 19, 18, 1),
    (9, 1, 4, 10, 11, 1),
]
FORMATS = [torch.channels_last, torch.contiguous_format]


def depthwise(kernel, stride=1, padding=0, *, bias=True, channels=CHANNELS):
    return nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=bias)


def images(count, height, width, kind=torch.channels_last, channels=CHANNELS):
    return torch.randn(count, channels, height, width).contiguous(memory_format=kind)


def gradients(layer, x, *, autocast=False):
    """Output and gradients (input, weight, bias) of a loss that weighs every pixel differently."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = layer(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=x.dtype).reshape(out.shape).sin()
    (out.to(x.dtype) * weights).sum().backward()
    return out.detach(), [x.grad, *(parameter.grad for parameter in layer.parameters())]


def differences(found, right):
    """Relative to the right one's norm."""
    return [float((a.double() - b.double()).norm() / b.double().norm()) for a, b in zip(found, right, strict=True)]


def exact(layer, x):
    return gradients(copy.deepcopy(layer).double(), x.double())[1]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("kernel", "stride", "padding", "height", "width", "count"), SHAPES)
class TestGradients:
    @pytest.fixture
    def layer(self, kernel, stride, padding):
        torch.manual_seed(0)
        return depthwise(kernel, stride, padding)

    @pytest.fixture
    def x(self, layer, count, height, width, kind):
        return images(count, height, width, kind)

    def test_float32_are_those_of_float64(self, layer, x):
        own_out, _ = gradients(layer, x)
        with fast_depthwise(layer) as count:
            out, found = gradients(layer, x)
        assert count == 1
        assert torch.equal(out, own_out)
        assert max(differences(found, exact(layer, x))) < 1e-5

    def test_bfloat16_are_as_near_as_torch_gets(self, layer, x):
        own_out, own = gradients(layer, x, autocast=True)
        with fast_depthwise(layer):
            out, found = gradients(layer, x, autocast=True)
        right = exact(layer, x)
        assert out.dtype is torch.bfloat16
        assert torch.equal(out, own_out)
        assert [g.dtype for g in found] == [torch.float32] * 3
        for ours, theirs in zip(differences(found, right), differences(own, right), strict=True):
            assert ours < 1.1 * theirs + 1e-4

    def test_twice_gives_the_same_bits(self, layer, x):
        with fast_depthwise(layer):
            first, second = (gradients(layer, x, autocast=True)[1] for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class TestParts:
    @pytest.mark.parametrize("autocast", [False, True])
    def test_frozen_weight(self, autocast):
        torch.manual_seed(1)
        layer, x = depthwise(5, 2, 2), images(2, 16, 16)
        layer.weight.requires_grad_(False)
        _, own = gradients(layer, x, autocast=autocast)
        with fast_depthwise(layer):
            _, found = gradients(layer, x, autocast=autocast)
        assert found[1] is None
        assert max(differences([found[0], found[2]], [own[0], own[2]])) < (0.01 if autocast else 1e-5)

    @pytest.mark.parametrize("bias", [False, True])
    def test_frozen_input(self, bias):
        torch.manual_seed(2)
        layer, x = depthwise(7, 1, 3, bias=bias), images(2, 16, 16)
        right = exact(layer, x)[1:]
        with fast_depthwise(layer):
            layer(x).mul(torch.linspace(-1, 1, x.numel()).reshape(x.shape).sin()).sum().backward()
        assert max(differences([p.grad for p in layer.parameters()], right)) < 1e-5

    def test_only_the_bias_learns(self):
        layer, x = depthwise(5, 1, 2), images(2, 8, 8)
        layer.weight.requires_grad_(False)
        with fast_depthwise(layer):
            layer(x).sum().backward()
        assert layer.weight.grad is None
        assert torch.equal(layer.bias.grad, torch.full((CHANNELS,), 128.0))

    def test_a_gradient_spread_from_one_number(self):
        torch.manual_seed(3)
        layer, x = depthwise(5, 2, 2), images(1, 9, 9).requires_grad_()
        reference = copy.deepcopy(layer).double()
        reference(x.detach().double()).sum().backward()
        with fast_depthwise(layer):
            layer(x).sum().backward()
        right = [parameter.grad for parameter in reference.parameters()]
        assert max(differences([p.grad for p in layer.parameters()], right)) < 1e-5

    def test_float64_is_left_to_torch(self):
        layer, x = depthwise(5, 1, 2).double(), images(1, 8, 8).double()
        _, own = gradients(layer, x)
        with fast_depthwise(layer):
            _, found = gradients(layer, x)
        assert all(torch.equal(a, b) for a, b in zip(found, own, strict=True))

    def test_no_gradients_no_graph(self):
        layer, x = depthwise(5, 1, 2), images(1, 8, 8)
        with fast_depthwise(layer), torch.no_grad():
            out = layer(x)
        assert out.grad_fn is None
        assert torch.equal(out, functional.conv2d(x, layer.weight, layer.bias, 1, 2, groups=CHANNELS))

    def test_gradients_of_gradients_are_refused_by_torch(self):
        layer, x = depthwise(5, 1, 2), images(1, 8, 8).requires_grad_()
        with fast_depthwise(layer):
            (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
            with pytest.raises(RuntimeError, match="once_differentiable"):
                first.sum().backward()


class TestSame:
    @pytest.mark.parametrize("autocast", [False, True])
    @pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (5, 1)])
    @pytest.mark.parametrize("size", [(14, 14), (15, 12), (7, 7)])
    def test_padding_of_timm(self, kernel, stride, size, autocast):
        from timm.layers import Conv2dSame

        torch.manual_seed(4)
        layer = Conv2dSame(CHANNELS, CHANNELS, kernel, stride, groups=CHANNELS, bias=False)
        x = images(2, *size)
        own_out, own = gradients(layer, x, autocast=autocast)
        with fast_depthwise(layer) as count:
            out, found = gradients(layer, x, autocast=autocast)
        right = exact(layer, x)
        assert count == 1
        assert torch.equal(out, own_out)
        for ours, theirs in zip(differences(found, right), differences(own, right), strict=True):
            assert ours < (1.1 * theirs + 1e-4 if autocast else 1e-5)


class TestLayers:
    @pytest.mark.parametrize(
        "layer",
        [
            depthwise(3, 1, 1),
            depthwise(1),
            depthwise(4, 2, 1),
            depthwise((5, 3), 1, (2, 1)),
            depthwise(5, (1, 2), 2),
            depthwise(5, 4, 2),
            depthwise(3, 2, 3),
            nn.Conv2d(8, 8, 5, padding=4, dilation=2, groups=8),
            nn.Conv2d(8, 16, 5, padding=2, groups=8),
            nn.Conv2d(8, 8, 5, padding=2, groups=4),
            nn.Conv2d(8, 8, 5, padding="same", groups=8),
            nn.Conv2d(8, 8, 5, padding=2, padding_mode="reflect", groups=8),
            nn.Conv2d(1, 1, 5),
            nn.ConvTranspose2d(8, 8, 5, groups=8),
        ],
        ids=str,
    )
    def test_others_are_left_alone(self, layer):
        with fast_depthwise(nn.Sequential(layer)) as count:
            assert count == 0
            assert "forward" not in vars(layer)

    def test_a_class_with_a_forward_of_its_own_is_left_alone(self):
        class Doubled(nn.Conv2d):
            def forward(self, x):
                return 2 * super().forward(x)

        with fast_depthwise(Doubled(8, 8, 5, groups=8)) as count:
            assert count == 0

    def test_a_subclass_without_one_is_served(self):
        class Named(nn.Conv2d):
            pass

        with fast_depthwise(Named(8, 8, 5, groups=8)) as count:
            assert count == 1

    def test_nothing_is_left_behind_even_by_an_error(self):
        network = nn.Sequential(depthwise(5), nn.ReLU(), depthwise(3, 2))
        before = [dict(vars(layer)) for layer in network]
        names = list(network.state_dict())

        def failing():
            with fast_depthwise(network) as count:
                assert count == 2
                assert list(network.state_dict()) == names
                assert type(network[0]) is nn.Conv2d
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing()
        assert [vars(layer).keys() for layer in network] == [values.keys() for values in before]

    def test_inside_itself_it_does_nothing_more(self):
        layer = depthwise(5)
        with fast_depthwise(layer) as outer:
            with fast_depthwise(layer) as inner:
                assert (outer, inner) == (1, 0)
            assert "forward" in vars(layer)
        assert "forward" not in vars(layer)

    def test_a_copy_made_meanwhile_uses_its_own_weights(self):
        layer, x = depthwise(5, 1, 2), images(1, 8, 8)
        with fast_depthwise(layer):
            twin = copy.deepcopy(layer)
            with torch.no_grad():
                twin.weight.zero_()
                twin.bias.fill_(3)
            out = twin(x)
            out.sum().backward()
        assert torch.equal(out, torch.full_like(out, 3))
        assert layer.weight.grad is None
        assert twin.weight.grad is not None

    def test_hooks_still_run(self):
        layer, seen = depthwise(5, 1, 2), []
        layer.register_forward_hook(lambda _module, _inputs, out: seen.append(out.shape))
        with fast_depthwise(layer):
            layer(images(1, 8, 8))
        assert seen == [(1, CHANNELS, 8, 8)]

    @pytest.mark.parametrize(("name", "count"), [("tf_efficientnet_lite0", 11), ("convnext_atto", 12), ("resnet18", 0)])
    def test_networks_of_timm(self, name, count):
        import timm

        with fast_depthwise(timm.create_model(name)) as found:
            assert found == count


def test_a_training_step_of_a_network_moves_weights_as_torch_does():
    import timm

    torch.manual_seed(5)
    network = timm.create_model("mobilenetv3_small_050", num_classes=2).eval()
    twin = copy.deepcopy(network)
    x = images(4, 64, 64, channels=3)
    with fast_depthwise(network) as count:
        for model in (network, twin):
            functional.cross_entropy(model(x), torch.tensor([0, 1, 0, 1])).backward()
    assert count > 5
    for (name, ours), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6), name
