"""Networks with numbers as training leaves them."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """These networks are small."""


def _stir(module):
    """Move all parameters by a little: many start at 0 or 1, so that whole branches would give nothing."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise, alpha=0.2 if parameter.ndim == 1 else 0.02)
    return module.eval()


@pytest.fixture
def stirred():
    return _stir
