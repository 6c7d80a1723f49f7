"""The head of the Bitemporal Image Transformer: a feature map of each date to logits of what changed.

Chen, Qi and Shi, "Remote Sensing Image Change Detection with Transformers", TGRS 2021 (arXiv 2103.00208). With the
published options and the weights of the authors' release it gives their logits (see `published.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args, get_type_hints

import torch
from torch import nn
from torch.nn import functional

from regraft.errors import OptionError
from regraft.models.change.attention import DecoderLayer, EncoderLayer, sinusoids

if TYPE_CHECKING:
    from torch import Tensor

_DATES = 2
_QUARTER = 4  # of the input's side: the size of map at which the published networks compare the dates
_STAGES = (3, 5)
_POSITIONS_STD = 0.02  # as vision transformers start them


@dataclass(frozen=True)
class BitOptions:
    """What can be chosen of the network; the defaults are those of the published `base_transformer_pos_s4`.

    Attributes:
        stages: how many of the backbone's five halvings are used, 3 to 5: up to the part of nominal stride 2^stages.
        width: channels of the maps and tokens.
        upsample2x: double a map coarser than a quarter of the input before the transformer; else after the difference.
        tokens: "semantic": sums over the map, with learned weights; "pool": a grid of pooled pixels.
        token_len: semantic tokens a date.
        pool: how pooled tokens are pooled, "max" or "avg".
        pool_size: side of the grid of pooled tokens.
        encoder: let the tokens of both dates look at each other.
        encoder_depth: layers of the encoder.
        encoder_positions: add a learned position to each token of both dates; the dates are then not interchangeable.
        decoder: "transformer": pixels look at their date's tokens; "simple": the tokens' sum is added to every pixel;
            "none": no tokens at all, only the difference of the maps (the published `base_resnet18`).
        decoder_depth: layers of the transformer decoder.
        decoder_positions: of the pixels: "none", "learned" (a grid, interpolated to the map) or "fixed" (sinusoids).
        position_size: side of the grid of learned positions of the pixels.
        decoder_softmax: False: the decoder's scores weigh the tokens as they are, without softmax.
        heads: attention heads of encoder and decoder.
        head_dim: width of each of the encoder's heads.
        decoder_head_dim: width of each of the decoder's heads.
        mlp_dim: hidden units of the layers' perceptrons; 0: twice the width.
        dropout: share that is dropped inside encoder and decoder while training.
        sigmoid: give sigmoids of the logits, as an option of the authors' network does.
    """

    stages: int = 4
    width: int = 32
    upsample2x: bool = True
    tokens: Literal["semantic", "pool"] = "semantic"
    token_len: int = 4
    pool: Literal["max", "avg"] = "max"
    pool_size: int = 2
    encoder: bool = True
    encoder_depth: int = 1
    encoder_positions: bool = True
    decoder: Literal["transformer", "simple", "none"] = "transformer"
    decoder_depth: int = 1
    decoder_positions: Literal["none", "learned", "fixed"] = "none"
    position_size: int = 64
    decoder_softmax: bool = True
    heads: int = 8
    head_dim: int = 64
    decoder_head_dim: int = 64
    mlp_dim: int = 0
    dropout: float = 0.0
    sigmoid: bool = False

    def __post_init__(self) -> None:
        """Raise OptionError for a value that no network can have."""
        kinds = get_type_hints(BitOptions)
        for field in fields(self):
            value, kind = getattr(self, field.name), kinds[field.name]
            if kind is int and value < (field.name != "mlp_dim"):
                raise OptionError(f"bit:{field.name}={value} is too small. Expected a whole number from 1 on.")
            if (allowed := get_args(kind)) and value not in allowed:
                raise OptionError(f"there is no bit:{field.name}={value}; choose one of {', '.join(allowed)}.")
        if not _STAGES[0] <= self.stages <= _STAGES[1]:
            raise OptionError(f"bit:stages={self.stages} is not possible. Expected {_STAGES[0]} to {_STAGES[1]}.")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"bit:dropout={self.dropout} is not possible. Expected a share from 0 to below 1.")
        if self.decoder_positions == "fixed" and self.width % 4:
            raise OptionError(f"bit:decoder_positions=fixed needs a width that is a multiple of 4, not {self.width}.")

    @property
    def tokens_a_date(self) -> int:
        """How many tokens each date has."""
        return self.token_len if self.tokens == "semantic" else self.pool_size**2


class BitHead(nn.Module):
    """A feature map of both dates to logits; the option `stages` is the trunk's matter.

    Names of the parts are those of the authors' state dicts; `published.py` says how the layers' names differ.

    Args:
        channels: D, of the map.
        classes: K.
        options: see `BitOptions`.
    """

    def __init__(self, channels: int, classes: int, options: BitOptions) -> None:
        super().__init__()
        self.options = options
        width = options.width
        self.conv_pred = nn.Conv2d(channels, width, 3, padding=1)
        if options.decoder != "none":
            self._add_tokens(options)
        if options.decoder == "transformer":
            self._add_decoder(options)
        self.classifier = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, classes, 3, padding=1),
        )

    def _add_tokens(self, options: BitOptions) -> None:
        width = options.width
        if options.tokens == "semantic":
            self.conv_a = nn.Conv2d(width, options.token_len, 1, bias=False)
        if not options.encoder:
            return
        if options.encoder_positions:
            positions = torch.randn(1, _DATES * options.tokens_a_date, width)
            self.pos_embedding = nn.Parameter(positions * _POSITIONS_STD)
        hidden = options.mlp_dim or 2 * width
        self.transformer = nn.ModuleList(
            EncoderLayer(width, options.heads, options.head_dim, hidden, options.dropout)
            for _ in range(options.encoder_depth)
        )

    def _add_decoder(self, options: BitOptions) -> None:
        width = options.width
        if options.decoder_positions == "learned":
            positions = torch.randn(1, width, options.position_size, options.position_size)
            self.pos_embedding_decoder = nn.Parameter(positions * _POSITIONS_STD)
        hidden, softmax = options.mlp_dim or 2 * width, options.decoder_softmax
        self.transformer_decoder = nn.ModuleList(
            DecoderLayer(width, options.heads, options.decoder_head_dim, hidden, options.dropout, softmax=softmax)
            for _ in range(options.decoder_depth)
        )

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps of both dates to logits.

        Args:
            maps: (B, T=2, D, h, w), the dates' feature maps.
            size: H and W of the images they are of, and of the logits.

        Returns:
            (B, K, H, W) float32; sigmoids of the logits where the options ask for them.
        """
        both = maps.flatten(0, 1)
        factor = _factor(size, (maps.shape[-2], maps.shape[-1]))
        if self.options.upsample2x:
            both = _enlarged(both, factor)
        both = self.conv_pred(both)  # (2B, width, h, w)
        if self.options.decoder != "none":
            both = self._with_tokens(both)
        difference = (both[0::_DATES] - both[1::_DATES]).abs()
        if not self.options.upsample2x:
            difference = _enlarged(difference, factor)
        if difference.shape[-2:] != size:
            difference = functional.interpolate(difference, size, mode="bilinear", align_corners=False)
        # In the precision around it: of two channels, float32 takes four times as long as bfloat16 on a processor.
        logits: Tensor = self.classifier(difference).float()
        return logits.sigmoid() if self.options.sigmoid else logits

    def _with_tokens(self, both: Tensor) -> Tensor:
        """Maps (2B, width, h, w) to maps that know of their date's tokens, of the same shape."""
        tokens = self._tokens(both)  # (2B, L, width)
        if self.options.encoder:
            pairs = tokens.reshape(-1, _DATES * tokens.shape[1], tokens.shape[2])  # (B, 2L, width)
            if self.options.encoder_positions:
                pairs = pairs + self.pos_embedding
            for layer in self.transformer:
                pairs = layer(pairs)
            tokens = pairs.reshape(tokens.shape)
        if self.options.decoder == "simple":
            return both + tokens.sum(1)[:, :, None, None]
        size = (both.shape[-2], both.shape[-1])
        both = self._with_positions(both, size)
        pixels = both.flatten(2).transpose(1, 2)  # (2B, h w, width)
        for layer in self.transformer_decoder:
            pixels = layer(pixels, tokens)
        return pixels.transpose(1, 2).reshape(both.shape)

    def _tokens(self, both: Tensor) -> Tensor:
        """(2B, width, h, w) -> (2B, L, width)."""
        options = self.options
        if options.tokens == "semantic":
            shares: Tensor = self.conv_a(both).flatten(2).softmax(-1)  # (2B, L, h w)
            return shares @ both.flatten(2).transpose(1, 2)
        pooling = functional.adaptive_max_pool2d if options.pool == "max" else functional.adaptive_avg_pool2d
        pooled: Tensor = pooling(both, (options.pool_size, options.pool_size))
        return pooled.flatten(2).transpose(1, 2)

    def _with_positions(self, both: Tensor, size: tuple[int, int]) -> Tensor:
        if self.options.decoder_positions == "fixed":
            return both + sinusoids(self.options.width, size, both)
        if self.options.decoder_positions == "learned":
            grid: Tensor = self.pos_embedding_decoder
            if grid.shape[-2:] != size:
                grid = functional.interpolate(grid, size, mode="bicubic", align_corners=False, antialias=True)
            return both + grid
        return both


def _factor(size: tuple[int, int], found: tuple[int, int]) -> int:
    """The power of two that brings a map nearest to a quarter of the input's size; 1 if it is that large."""
    ratio = math.sqrt(size[0] * size[1] / (found[0] * found[1])) / _QUARTER
    return 1 << max(0, round(math.log2(ratio)))


def _enlarged(x: Tensor, factor: int) -> Tensor:
    return functional.interpolate(x, scale_factor=float(factor), mode="nearest") if factor > 1 else x
