"""The layers of the Bitemporal Image Transformer: a few tokens among themselves, and many pixels looking at few tokens.

Chen, Qi and Shi, "Remote Sensing Image Change Detection with Transformers", TGRS 2021 (arXiv 2103.00208). As in the
authors' released network the scores are divided by the root of the model's width, not of a head's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


class SelfAttention(nn.Module):
    """Every token looks at every token: (B, L, width) -> (B, L, width)."""

    def __init__(self, width: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = width**-0.5
        self.to_qkv = nn.Linear(width, 3 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.to_qkv(tokens).chunk(3, -1)
        )
        found = functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        mixed: Tensor = self.dropout(self.to_out(found.transpose(1, 2).flatten(2)))
        return mixed


class CrossAttention(nn.Module):
    """Pixels look at tokens: (B, N, width) and (B, L, width) -> (B, N, width).

    There are thousands of pixels and a handful of tokens, so the pixels' own projection (width to heads x head_dim) and
    the one of what they found are first multiplied into the tokens: (q W) k = q (W k). With the published sizes
    (L = 4, head_dim = 64) that is a sixteenth of the multiplications; sums are the same up to the order of their terms.

    Args:
        width: of pixels and tokens.
        heads: number of heads.
        head_dim: width of each.
        dropout: share of the output that is dropped while training.
        softmax: False lets the scores weigh the tokens as they are.
    """

    def __init__(self, width: int, heads: int, head_dim: int, dropout: float, *, softmax: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.scale = width**-0.5
        self.softmax = softmax
        self.to_q = nn.Linear(width, heads * head_dim, bias=False)
        self.to_k = nn.Linear(width, heads * head_dim, bias=False)
        self.to_v = nn.Linear(width, heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """See the class."""
        keys = self.to_k(tokens).unflatten(-1, (self.heads, -1))  # (B, L, heads, head_dim)
        values = self.to_v(tokens).unflatten(-1, (self.heads, -1))
        width = pixels.shape[-1]
        query_weight = self.to_q.weight.reshape(self.heads, -1, width)  # (heads, head_dim, width)
        out_weight = self.to_out.weight.reshape(width, self.heads, -1)
        keys = torch.einsum("blhd,hdw->bwhl", keys, query_weight)
        values = torch.einsum("blhd,whd->bhlw", values, out_weight)
        scores = (pixels @ (keys * self.scale).flatten(2)).unflatten(-1, (self.heads, -1))  # (B, N, heads, L)
        weights = scores.softmax(-1) if self.softmax else scores
        found = weights.flatten(2) @ values.flatten(1, 2)
        mixed: Tensor = self.dropout(found + self.to_out.bias)
        return mixed


class EncoderLayer(nn.Module):
    """Tokens (B, L, width) -> (B, L, width): attention, then a perceptron, each after a norm and added to its input."""

    def __init__(self, width: int, heads: int, head_dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, head_dim, dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = perceptron(width, mlp_dim, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        mixed: Tensor = tokens + self.mlp(self.mlp_norm(tokens))
        return mixed


class DecoderLayer(nn.Module):
    """Pixels (B, N, width) and tokens (B, L, width) -> pixels (B, N, width).

    The norm before the attention is one for both: pixels and tokens share its scales.
    """

    def __init__(
        self, width: int, heads: int, head_dim: int, mlp_dim: int, dropout: float, *, softmax: bool = True
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads, head_dim, dropout, softmax=softmax)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = perceptron(width, mlp_dim, dropout)

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """See the class."""
        pixels = pixels + self.attention(self.attention_norm(pixels), self.attention_norm(tokens))
        mixed: Tensor = pixels + self.mlp(self.mlp_norm(pixels))
        return mixed


def perceptron(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """Width -> hidden -> width, with a GELU between."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
    )


def sinusoids(width: int, height_width: tuple[int, int], like: Tensor) -> Tensor:
    """Positions that need no learning: (1, width, H, W), of the rows in the first half and the columns in the second.

    Sines, then cosines, of wavelengths from 2 pi to 10000 x 2 pi pixels (Vaswani et al. 2017, arXiv 1706.03762).

    Args:
        width: a multiple of 4.
        height_width: H and W of the map.
        like: a tensor of the device and type that are wanted.
    """
    quarter = width // 4
    steps = torch.arange(quarter, device=like.device, dtype=torch.float32)
    rates = 10_000.0 ** (-steps / quarter)
    halves = []
    for axis, side in enumerate(height_width):
        angles = rates[:, None] * torch.arange(side, device=like.device, dtype=torch.float32)
        waves = torch.cat([angles.sin(), angles.cos()])  # (width / 2, side)
        halves.append((waves[:, :, None] if axis == 0 else waves[:, None, :]).expand(-1, *height_width))
    return torch.cat(halves)[None].to(like.dtype)
