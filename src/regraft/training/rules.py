"""What is not asked for is decided by the size of the data: one small table, in the spirit of BiT's HyperRule.

Kolesnikov et al. 2020 (arXiv 1912.11370) fix almost everything for transfer and let the length of training follow from
the number of images. The same here, with figures that suit hundreds of images on a CPU. Each value was chosen on
validation images (hymenoptera's val, stanford40_mini's dev), never on test images; `docs/training.md` tells what was
tried.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_SMALL_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done where the user does not say.

    Attributes:
        images: up to so many training images (None: however many).
        epochs: passes over them. Fewer images need more passes for as many steps, but steps stop paying early.
        batch: images a step. Small sets need small batches to make enough steps in an epoch.
        views: augmented views of each image that a frozen prefix is run on. More images need fewer.
        statistics: whether BatchNorm keeps updating its running statistics; a few hundred images know less of them
            than the pretraining did.
    """

    images: int | None
    epochs: int
    batch: int
    views: int
    statistics: bool


RULES = (
    Rule(1_000, epochs=12, batch=16, views=8, statistics=False),
    Rule(10_000, epochs=10, batch=32, views=4, statistics=False),
    Rule(100_000, epochs=6, batch=64, views=2, statistics=True),
    Rule(None, epochs=3, batch=128, views=1, statistics=True),
)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a strategy asks of the optimiser (AdamW); for SGD the rates are `SGD_FACTOR` times as high.

    Attributes:
        lr: peak rate of the trunk's last part, at a batch of 16.
        head_lr: peak rate of the head.
        layer_decay: how much slower each part learns than the one after it.
        weight_decay: of weights.
        smoothing: of labels.
        longer: how many times the rule's epochs.
        why: the reason.
    """

    lr: float
    head_lr: float
    layer_decay: float
    weight_decay: float
    smoothing: float
    longer: float
    why: str


PACES = {
    "finetune": Pace(2e-4, 2e-3, 0.8, 0.05, 0.1, 1.0, "a new head learns fast, early layers hardly move"),
    "lp-ft": Pace(1e-5, 1e-5, 0.8, 0.05, 0.0, 0.5, "the head is right already; both are trained gently"),
    "partial": Pace(2e-4, 2e-3, 1.0, 0.05, 0.1, 1.0, "few layers, all near the head"),
    "gradual": Pace(2e-4, 2e-3, 0.8, 0.05, 0.1, 1.0, "as finetune, each stage from when it is thawed"),
    "lora": Pace(1e-3, 2e-3, 1.0, 0.0, 0.1, 1.0, "adapters start at zero and are small"),
    "scratch": Pace(1e-3, 1e-3, 1.0, 0.05, 0.1, 3.0, "nothing is known yet, so all layers learn fast and long"),
}
SGD_FACTOR = 10.0
"""AdamW's steps are about as long as its rate; SGD's are as long as the gradient, which is smaller here."""


def rule_for(images: int) -> Rule:
    """The rule for so many training images."""
    return next(rule for rule in RULES if rule.images is None or images <= rule.images)


def pace_for(strategy: str, *, optimiser: str, batch: int, lr: float | None) -> Pace:
    """The strategy's pace; with `lr`, all rates are scaled so that the trunk's is that.

    The rate follows the root of the batch (Krizhevsky 2014, arXiv 1404.5997), as suits AdamW.
    """
    pace = PACES[strategy]
    if lr is None:
        lr = _rounded(pace.lr * (batch / 16) ** 0.5 * (SGD_FACTOR if optimiser == "sgd" else 1.0))
    # The head's follows from the trunk's alone, so that a run that is repeated by its own options is the same.
    return replace(pace, lr=lr, head_lr=_rounded(pace.head_lr * (lr / pace.lr)))


def _rounded(rate: float) -> float:
    """Four digits, which is more than a rate needs and fewer than rounding errors change."""
    return float(f"{rate:.4g}")


def batch_for(images: int) -> int:
    """The rule's batch, a little smaller where it would leave many images of an epoch without a step."""
    batch = rule_for(images).batch
    return images // max(1, round(images / batch)) if images > batch else images


def augmentation_for(height: int, width: int) -> str:
    """Small pictures (digits) lose their content to strong crops and colours."""
    return "light" if min(height, width) <= _SMALL_IMAGES else "default"
