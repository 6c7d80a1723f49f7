"""A backbone and a head as one module, the form in which both are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class Classifier(nn.Module):
    """Images to logits.

    Attributes:
        backbone: images (B, 3, H, W) -> features (B, D).
        head: features (B, D) -> logits (B, K).
        weighing: parameters besides, which an objective learns and the logits do not depend on; absent without any.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, weighing: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        if weighing is not None:
            self.weighing = weighing

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float images (B, 3, H, W) to logits (B, K) float32.

        The head computes in float32, under autocast too: it is small, and what it rounds nobody mends.
        """
        features = self.backbone(images).float()
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features)
        return logits
