"""What the field agrees to change: against the networks' own outputs and timm's own resampling."""

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torchvision import models

from regraft.checkpoints.adapt import adaptation
from regraft.checkpoints.match import match

pytestmark = pytest.mark.usefixtures("one_thread")


def _outputs(module, images):
    with torch.inference_mode():
        return module.eval()(images)


def test_one_channel_to_three_gives_the_same_on_grey_images():
    source, target = timm.create_model("resnet18", in_chans=1), timm.create_model("resnet18")
    report = match(source.state_dict(), target, allow_partial=1)
    assert [row.name for row in report.adapted] == ["conv1.weight"]
    grey = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(_outputs(target, grey.expand(-1, 3, -1, -1)), _outputs(source, grey), atol=1e-4, rtol=0)


def test_three_channels_to_one_gives_the_same_on_grey_images():
    source, target = timm.create_model("resnet18"), timm.create_model("resnet18", in_chans=1)
    match(source.state_dict(), target, allow_partial=1)
    grey = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(_outputs(target, grey), _outputs(source, grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels", [2, 4, 6, 12])
def test_three_channels_to_many_are_repeated_in_turn_and_keep_the_scale(channels):
    source, target = timm.create_model("resnet18"), timm.create_model("resnet18", in_chans=channels)
    match(source.state_dict(), target, allow_partial=1)
    for channel in range(channels):
        expected = source.conv1.weight[:, channel % 3] * 3 / channels
        torch.testing.assert_close(target.conv1.weight[:, channel], expected)
    if channels % 3 == 0:
        grey = torch.rand(1, 1, 64, 64)
        same = _outputs(source, grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(_outputs(target, grey.expand(-1, channels, -1, -1)), same, atol=1e-4, rtol=0)


def test_only_the_first_convolution_is_adapted():
    state = models.resnet18().state_dict()
    state["layer2.0.conv1.weight"] = torch.zeros(128, 32, 3, 3)
    report = match(state, models.resnet18())
    assert [row.name for row in report.mismatched] == ["layer2.0.conv1.weight"]


def test_position_embeddings_are_interpolated_as_timm_does():
    source = timm.create_model("vit_tiny_patch16_224", img_size=160, num_classes=3)
    torch.nn.init.normal_(source.pos_embed)
    target = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    report = match(source.state_dict(), target, allow_partial=1)
    (row,) = report.adapted
    assert row.how == "positions interpolated from 10x10 to 14x14"
    expected = resample_abs_pos_embed(source.pos_embed, [14, 14], [10, 10], num_prefix_tokens=1)
    torch.testing.assert_close(target.pos_embed, expected)
    torch.testing.assert_close(target.pos_embed[:, 0], source.pos_embed[:, 0])


def test_a_distilled_transformers_positions_do_not_go_into_one_without_its_token():
    """One token more stands before the grid: the grids are equal, their places are not."""
    assert adaptation("pos_embed", (1, 198, 192), (1, 197, 192), stem=False, translated=False) == ""


def test_relative_positions_of_another_window_are_interpolated():
    source = timm.create_model("swin_tiny_patch4_window7_224", img_size=128, window_size=4, num_classes=0)
    target = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0)
    report = match(source.state_dict(), target, allow_partial=1, head=())
    assert {row.how for row in report.adapted} == {"relative positions interpolated from window 4 to 7"}
    assert len(report.adapted) == 12
    table = "layers.0.blocks.0.attn.relative_position_bias_table"
    small, large = source.get_parameter(table), target.get_parameter(table)
    assert large.shape == (169, 3)
    torch.testing.assert_close(large[84], small[24], atol=0.02, rtol=0)  # the middle: no distance at all


@pytest.mark.parametrize(
    ("found", "expected"),
    [((64, 3, 7, 7), (64, 3, 3, 3)), ((64, 3, 7, 7), (32, 3, 7, 7)), ((64, 147), (64, 3, 7, 7))],
)
def test_what_nobody_agrees_on_is_not_adapted(found, expected):
    assert adaptation("conv1.weight", found, expected, stem=True, translated=False) == ""
