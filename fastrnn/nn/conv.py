"""Convolutions over strips of different lengths, in which padding makes no difference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastrnn.nn.padding import blank_columns, blank_steps, valid_mask

__all__ = ["ConvContext", "ConvFront", "FrameFront"]


class ConvBlock(nn.Module):
    """Convolution, layer normalisation over the channels of each pixel, ReLU.

    Normalising each pixel alone, unlike batch normalisation, depends neither on padding nor on
    what else is in the batch.

    Parameters
    ----------
    in_channels, out_channels
        Channels.
    kernel
        Rows and columns of the kernel, odd.
    stride
        Rows and columns from one result to the next.
    device, dtype
        Of the parameters.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: tuple[int, int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=kernel // 2,
            device=device,
            dtype=dtype,
        )
        self.norm = nn.LayerNorm(out_channels, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W'], with H' = ceil(H / stride), and so W'."""
        # Channels last: dense for the norm, and several times as fast through the first layer.
        x = x.to(memory_format=torch.channels_last)
        last = self.conv(x).permute(0, 2, 3, 1)
        return self.norm(last).relu().permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class ConvFront(nn.Module):
    """A small convolutional network that makes a step of every `width_factor` columns.

    Blocks of convolution, layer normalisation and ReLU; each halves the rows, the first ones halve
    the columns too. What is left of a column's rows goes through one linear layer, as in a
    CRNN [1]_ that collapses the height. After each block the columns past a strip's end are zeroed,
    so that a strip gives the same steps whatever it is padded with.

    Parameters
    ----------
    in_channels, height : int
        Channels and rows of the strips.
    channels : sequence of int
        Channels of the blocks. The first block's kernel is 5 x 5, the others' 3 x 3.
    width_factor : int
        Columns of a step: 1, 2, 4, ... up to ``2 ** len(channels)``.
    out_features : int
        Features of a step.
    device, dtype
        Of the parameters.

    References
    ----------
    .. [1] B. Shi, X. Bai, C. Yao, "An End-to-End Trainable Neural Network for Image-based Sequence
       Recognition", TPAMI 2017.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.conv import ConvFront
    >>> front = ConvFront(1, 28, channels=(8, 16), width_factor=4, out_features=32)
    >>> steps, lengths = front(torch.rand(2, 1, 28, 100), torch.tensor([100, 61]))
    >>> steps.shape, lengths
    (torch.Size([25, 2, 32]), tensor([25, 16]))
    """

    def __init__(
        self,
        in_channels: int,
        height: int,
        *,
        channels: Sequence[int],
        width_factor: int,
        out_features: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_width_factor(width_factor, len(channels))
        self.width_factor = width_factor
        self.out_features = out_features
        halvings = width_factor.bit_length() - 1
        strides = [(2, 2 if number < halvings else 1) for number in range(len(channels))]
        self.blocks = _blocks(in_channels, channels, strides, device, dtype)
        rows = _halved(height, len(channels))
        self.project = nn.Linear(channels[-1] * rows, out_features, device=device, dtype=dtype)

    def forward(
        self, pixels: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Convolve strips.

        Parameters
        ----------
        pixels : Tensor [B, C, H, W]
            Of the parameters' type.
        lengths : Tensor [B], optional
            Valid columns, 0 .. W; all by default.

        Returns
        -------
        steps : Tensor [ceil(W / width_factor), B, out_features]
            Zero past a strip's end.
        lengths : Tensor [B] or None
            Valid steps.
        """
        x = blank_columns(pixels, lengths)
        for block in self.blocks:
            assert isinstance(block, ConvBlock)
            if lengths is not None:
                columns = block.conv.stride[1]
                lengths = (lengths + columns - 1) // columns
            x = _zero_columns(block(x), lengths)
        steps = self.project(x.permute(3, 0, 1, 2).flatten(2))
        return blank_steps(steps, lengths), lengths


class FrameFront(nn.Module):
    """A small convolutional network that makes one step of a whole frame.

    Parameters
    ----------
    in_channels, height, width : int
        Channels, rows and columns of a frame.
    channels, out_features, device, dtype
        As for `ConvFront`; each block halves both sides.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.conv import FrameFront
    >>> front = FrameFront(3, 24, 32, channels=(8, 16), out_features=32)
    >>> steps, lengths = front(torch.rand(2, 10, 3, 24, 32), torch.tensor([10, 4]))
    >>> steps.shape
    torch.Size([10, 2, 32])
    """

    def __init__(
        self,
        in_channels: int,
        height: int,
        width: int,
        *,
        channels: Sequence[int],
        out_features: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        halved = [(2, 2)] * len(channels)
        self.blocks = _blocks(in_channels, channels, halved, device, dtype)
        features = channels[-1] * _halved(height, len(channels)) * _halved(width, len(channels))
        self.project = nn.Linear(features, out_features, device=device, dtype=dtype)

    def forward(
        self, frames: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Convolve the valid frames, and no others.

        Parameters
        ----------
        frames : Tensor [B, T, C, H, W]
            Of the parameters' type.
        lengths : Tensor [B], optional
            Valid frames, 0 .. T; all by default.

        Returns
        -------
        steps : Tensor [T, B, out_features]
            Zero past a clip's end.
        lengths : Tensor [B] or None
            As given.
        """
        batch_size, count = frames.shape[:2]
        if lengths is None:
            steps = self._frames(frames.flatten(0, 1)).view(batch_size, count, -1)
            return steps.transpose(0, 1).contiguous(), None
        valid = valid_mask(lengths, count).t()
        made = self._frames(frames[valid])
        steps = made.new_zeros(batch_size, count, self.out_features)  # of autocast's type, too
        steps[valid] = made
        return steps.transpose(0, 1).contiguous(), lengths

    def _frames(self, frames: Tensor) -> Tensor:
        for block in self.blocks:
            frames = block(frames)
        return self.project(frames.flatten(1))  # type: ignore[no-any-return]


class ConvContext(nn.Module):
    """Convolution along the steps with a residual connection: each step sees its neighbours.

    Parameters
    ----------
    size : int
        Features of a step, before and after.
    kernel_size : int
        Steps that are seen at a time, odd.
    device, dtype
        Of the parameters.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.conv import ConvContext
    >>> ConvContext(16, 5)(torch.rand(20, 2, 16), torch.tensor([20, 7])).shape
    torch.Size([20, 2, 16])
    """

    def __init__(
        self,
        size: int,
        kernel_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
        self.norm = nn.LayerNorm(size, device=device, dtype=dtype)
        self.conv = nn.Conv1d(
            size, size, kernel_size, padding=kernel_size // 2, device=device, dtype=dtype
        )

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[T, B, F] to [T, B, F]; what lies past a length is zero, before and after."""
        around = blank_steps(self.norm(steps), lengths).permute(1, 2, 0)
        fresh = self.conv(around).relu().permute(2, 0, 1)
        return steps + blank_steps(fresh, lengths)


def _blocks(
    in_channels: int,
    channels: Sequence[int],
    strides: Sequence[tuple[int, int]],
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.ModuleList:
    before = (in_channels, *channels[:-1])
    kernels = [5] + [3] * (len(channels) - 1)
    return nn.ModuleList(
        ConvBlock(*sizes, device=device, dtype=dtype)
        for sizes in zip(before, channels, kernels, strides, strict=True)
    )


def _zero_columns(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Do as `blank_columns` does, faster, where what lies past the ends is finite."""
    if lengths is None:
        return x
    valid = valid_mask(lengths, x.shape[3]).t().to(x.dtype)
    return x * valid[:, None, None]


def _halved(size: int, times: int) -> int:
    """Rows or columns left after so many halvings, each rounded up."""
    return -(-size // (1 << times))


def check_width_factor(width_factor: int, blocks: int) -> None:
    """Raise ValueError unless so many blocks can divide the width by this factor."""
    possible = [2**power for power in range(blocks + 1)]
    if width_factor not in possible:
        raise ValueError(
            f"width_factor must be one of {', '.join(map(str, possible))} with {blocks} "
            f"convolutions, got {width_factor}"
        )
