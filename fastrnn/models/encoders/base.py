"""Encoders: strips in, features along the strip out.

Every classifier is an encoder, a pooling and a linear layer. An encoder decides what a step is and
how steps learn of each other; all of them take and give the same, so that training, self-training,
tuning, export and serving need not know which one a model has.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastrnn.models.config import ModelConfig
from fastrnn.nn.scan import Lengths


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an encoder gives.

    Attributes
    ----------
    steps : Tensor [T, B, F]
        Features along the strip, zero past its end; without a step where only `last` was wanted.
    lengths : Tensor [B] or None
        Valid steps; None if all are valid.
    last : Tensor [B, F] or None
        The last state of each direction, of a recurrent encoder.
    """

    steps: Tensor
    lengths: Tensor | None
    last: Tensor | None = None


class Encoder(nn.Module):
    """Base of the encoders.

    Attributes
    ----------
    size : int
        F, the features of a step.
    bidirectional : bool
        Whether the second half of the features comes from a reverse direction.
    pixels_per_step : int
        Columns (rows, where a strip runs from top to bottom) that a step stands for; 0 where steps
        do not follow the strip.
    """

    size: int
    bidirectional: bool = False
    pixels_per_step: int = 1

    def forward(
        self, strips: Tensor, lengths: Lengths | None = None, *, only_last: bool = False
    ) -> Encoded:
        """Encode strips [B, C, H, W] of `lengths` [B]; `only_last` lets it leave steps out."""
        raise NotImplementedError


def check_shape(strips: Tensor, config: ModelConfig, width: int | None = None) -> None:
    """Raise ValueError unless strips [..., C, H, W] have a model's channels and rows."""
    channels, rows, columns = strips.shape[-3:]
    if channels != config.in_channels:
        raise ValueError(f"strips must have {config.in_channels} channels, got {channels}")
    if rows != config.height:
        raise ValueError(f"strips must have {config.height} rows (height), got {rows}")
    if width is not None and columns != width:
        raise ValueError(f"frames must have {width} columns (frame_width), got {columns}")


def normalised(pixels: Tensor, config: ModelConfig, dtype: torch.dtype) -> Tensor:
    """Give ``(pixel in [0, 1] - pixel_mean) / pixel_std`` of pixels, in a new tensor."""
    scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
    fresh = pixels.to(dtype, copy=True)
    return fresh.sub_(config.pixel_mean * scale).div_(config.pixel_std * scale)
