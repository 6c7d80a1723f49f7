"""The siamese UNet on differences."""

import pytest
import torch
from torch.nn import functional

from regraft.models.change.unet import DifferenceUnet, UnetOptions

CHANNELS, STRIDES = (3, 5, 7), (2, 4, 8)


def maps(*, same=False, seed=0, strides=STRIDES, channels=CHANNELS):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(2, 2, c, 64 // s, 64 // s, generator=generator) for c, s in zip(channels, strides, strict=True)]
    return [one[:, :1].expand_as(one) for one in made] if same else made


def test_it_goes_up_from_the_deepest_difference_past_each_finer_one():
    torch.manual_seed(0)
    head = DifferenceUnet(CHANNELS, STRIDES, 2, UnetOptions(width=80)).eval()
    given = maps()
    fine, middle, deep = ((one[:, 0] - one[:, 1]).abs() for one in given)
    with torch.no_grad():
        x = torch.cat((functional.interpolate(deep, scale_factor=2, mode="bilinear"), middle), 1)
        x = head.steps[0](x)
        assert x.shape == (2, 80, 16, 16)
        x = torch.cat((functional.interpolate(x, scale_factor=2, mode="bilinear"), fine), 1)
        x = head.steps[1](x)
        assert x.shape == (2, 40, 32, 32)
        expected = functional.interpolate(head.classifier(x), (64, 64), mode="bilinear")
        torch.testing.assert_close(head(given, (64, 64)), expected)


@pytest.mark.parametrize(
    ("strides", "finest", "widths"),
    [
        ((2, 4, 8, 16, 32), 2, [128, 64, 32, 32]),
        ((4, 8, 16, 32), 4, [128, 64, 32]),
        ((4, 8), 2, [128, 64]),
        ((16,), 4, [128, 64]),
        ((4,), 4, []),
    ],
)
def test_levels_have_half_the_channels_down_to_the_finest_stride(strides, finest, widths):
    channels = tuple(range(3, 3 + len(strides)))
    head = DifferenceUnet(channels, strides, 2, UnetOptions(finest=finest)).eval()
    assert [step[0].out_channels for step in head.steps] == widths
    with torch.no_grad():
        assert head(maps(strides=strides, channels=channels), (64, 64)).shape == (2, 2, 64, 64)


def test_equal_dates_say_the_same_whatever_they_show():
    head = DifferenceUnet(CHANNELS, STRIDES, 2, UnetOptions()).eval()
    with torch.no_grad():
        one, other = (head(maps(same=True, seed=seed), (64, 64)) for seed in (1, 2))
    assert torch.equal(one, other)


def test_channels_are_dropped_in_training_only():
    head = DifferenceUnet(CHANNELS, STRIDES, 2, UnetOptions(dropout=0.5))
    given = maps()
    assert not torch.equal(head(given, (64, 64)), head(given, (64, 64)))
    head.eval()
    assert torch.equal(head(given, (64, 64)), head(given, (64, 64)))
