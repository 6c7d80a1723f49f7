"""Losses of masks against closed forms, torch and segmentation-models-pytorch; ignored pixels change nothing."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from regraft.errors import OptionError
from regraft.losses.dice import dice
from regraft.losses.focal import focal
from regraft.losses.pixels import parse_loss, pixel_cross_entropy

ALL = ["ce", "focal", "focal:gamma=0.5", "dice", "dice:classes=all", "0.5*ce+dice", "ce+focal+2*dice"]
WEIGHTS = torch.tensor([0.5, 2.0, 3.0])


def example(classes=3, seed=0):
    draws = np.random.default_rng(seed)
    logits = torch.from_numpy(draws.normal(0, 2, (2, classes, 5, 7))).float()
    targets = torch.from_numpy(draws.integers(0, classes, (2, 5, 7)))
    targets[0, 1:3, 2:6] = 255
    return logits, targets


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_and_focal_of_gamma_0_equal_torchs(weights):
    logits, targets = example()
    expected = functional.cross_entropy(logits, targets, weight=weights, ignore_index=255).item()
    assert pixel_cross_entropy(logits, targets, weights=weights).item() == pytest.approx(expected, rel=1e-6)
    assert focal(logits, targets, weights=weights, gamma=0).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_equals_equation_4(gamma):
    logits, targets = example()
    p = logits.double().softmax(1).permute(0, 2, 3, 1)[targets != 255].numpy()
    p = p[np.arange(len(p)), targets[targets != 255].numpy()]
    expected = np.mean(-((1 - p) ** gamma) * np.log(p))
    assert focal(logits, targets, gamma=gamma).item() == pytest.approx(expected, rel=1e-5)


def test_focal_equals_that_of_segmentation_models():
    smp = pytest.importorskip("segmentation_models_pytorch")
    logits, targets = example(classes=2)
    # Theirs has one map of log-odds for two classes.
    theirs = smp.losses.FocalLoss("binary", gamma=2.0, ignore_index=255)(
        (logits[:, 1] - logits[:, 0])[:, None], targets[:, None]
    )
    assert focal(logits, targets).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_dice_equals_its_closed_form():
    logits, targets = example()
    p, known = logits.double().softmax(1).numpy(), (targets != 255).numpy()
    terms = []
    for number in range(3):
        told, true = p[:, number][known], (targets == number).numpy()[known]
        terms.append(1 - (2 * (told * true).sum() + 1) / (told.sum() + true.sum() + 1))
    assert dice(logits, targets).item() == pytest.approx(np.mean(terms[1:]), rel=1e-5)
    assert dice(logits, targets, classes="all").item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_dice_equals_that_of_segmentation_models():
    smp = pytest.importorskip("segmentation_models_pytorch")
    logits, targets = example()
    theirs = smp.losses.DiceLoss("multiclass", smooth=0.3, ignore_index=255)(logits, targets)
    # Theirs divides both sides of the fraction by 2 before the smoothing is added.
    assert dice(logits, targets, classes="all", smooth=0.6).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_dice_is_0_where_all_is_told_rightly_and_counts_what_is_told_of_an_absent_class():
    _, targets = example(classes=2)
    right = functional.one_hot(targets.where(targets != 255, 0), 2).permute(0, 3, 1, 2) * 100.0
    assert dice(right, targets).item() == pytest.approx(0, abs=1e-6)
    unchanged = torch.zeros(1, 4, 4, dtype=torch.long)
    logits = torch.zeros(1, 2, 4, 4)
    assert dice(logits, unchanged).item() == pytest.approx(1 - 1 / (8 + 1))


@pytest.mark.parametrize("text", ALL)
def test_ignored_pixels_change_nothing_and_get_no_gradient(text):
    logits, targets = example()
    loss = parse_loss(text)
    other = logits.clone()
    other.permute(0, 2, 3, 1)[targets == 255] = torch.tensor([50.0, -7.0, 3.0])
    assert loss(other, targets, WEIGHTS).item() == pytest.approx(loss(logits, targets, WEIGHTS).item(), rel=1e-6)
    logits.requires_grad_()
    loss(logits, targets, WEIGHTS).backward()
    gradient = logits.grad.permute(0, 2, 3, 1)
    assert (gradient[targets == 255] == 0).all()
    assert (gradient[targets != 255] != 0).any()


@pytest.mark.parametrize("text", ALL)
def test_a_batch_without_labelled_pixels_is_0_with_gradient_0(text):
    logits = example()[0].requires_grad_()
    loss = parse_loss(text)(logits, torch.full((2, 5, 7), 255), WEIGHTS)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("text", ALL)
def test_pixels_may_be_laid_out_otherwise(text):
    logits, targets = example()
    loss = parse_loss(text)
    whole = loss(logits, targets, WEIGHTS).item()
    turned = loss(logits.flip(0).transpose(2, 3), targets.flip(0).transpose(1, 2), WEIGHTS).item()
    assert turned == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_sure_and_right_pixels_have_finite_gradients(gamma):
    logits = torch.tensor([[200.0], [-200.0]]).view(1, 2, 1, 1).requires_grad_()
    focal(logits, torch.zeros(1, 1, 1, dtype=torch.long), gamma=gamma).backward()
    assert torch.isfinite(logits.grad).all()


def test_gradients_equal_finite_differences():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 3, 3, generator=draws, requires_grad=True)
    targets = torch.tensor([[[0, 1, 255], [1, 1, 0], [0, 0, 1]]])
    loss = parse_loss("ce+focal+dice")
    loss(logits, targets).backward()
    step = torch.zeros_like(logits)
    step[0, 1, 1, 0] = 1e-2
    slope = (loss(logits + step, targets) - loss(logits - step, targets)).item() / 2e-2
    assert logits.grad[0, 1, 1, 0].item() == pytest.approx(slope, rel=1e-2)


def test_sums_are_read_and_written():
    assert parse_loss("ce").text == "ce"
    assert parse_loss(" 0.5*ce + focal:gamma=1.5 + dice:classes=all,smooth=1 ").text == (
        "0.5*ce+focal:gamma=1.5+dice:classes=all"
    )
    assert parse_loss(parse_loss("2*focal:gamma=0").text) == parse_loss("2*focal:gamma=0")
    logits, targets = example()
    parts = 0.5 * parse_loss("ce")(logits, targets) + parse_loss("dice")(logits, targets)
    assert parse_loss("0.5*ce+dice")(logits, targets).item() == pytest.approx(parts.item())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cee", "no loss 'cee'; did you mean ce"),
        ("", "no loss ''"),
        ("ce+", "no loss ''"),
        ("focal:gama=2", "no option 'gama'; did you mean gamma"),
        ("ce:gamma=2", "takes no options"),
        ("focal:gamma=-1", "'-1'; expected a number of 0 or more"),
        ("dice:smooth=0", "'0'; expected a number above 0"),
        ("dice:classes=some", "'some'; expected changed or all"),
        ("x*ce", "factor is 'x'"),
        ("inf*ce", "factor is 'inf'"),
    ],
)
def test_what_is_not_a_loss_is_refused(text, message):
    with pytest.raises(OptionError, match=message.replace("(", r"\(")):
        parse_loss(text)
