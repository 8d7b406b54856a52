"""Image strips to sequences: which pixels make a step, and in what order the steps come.

A strip is an image ``[C, H, W]`` with one long side. A scan walks along it and gives the
time-first sequence ``[T, B, I]`` that a recurrent layer reads:

=========== =================================== ================ ======
scan        one step is                         T                I
=========== =================================== ================ ======
``columns`` a column of all channels            W                C * H
``rows``    a row of all channels               H                C * W
``auto``    a line across, along the long side  long side        C * short side
``pixels``  a pixel; the short side innermost   W * H            C
``profile`` the mean of a line across           long side        C
``channels`` a whole channel                    C                H * W
=========== =================================== ================ ======

`stack` joins so many steps to one, side by side: T is divided by it (rounded up), I multiplied.

The long side is W where W >= H, otherwise H. In a batch of mixed widths that would turn around
from batch to batch, so `short_side` can fix it: the side that has this many pixels is the short
one (W is the long side if both have it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fastrnn.nn.padding import blank_steps
from fastrnn.recurrence.problem import as_lengths, check_lengths

__all__ = [
    "SCANS",
    "Lengths",
    "Scan",
    "check_strips",
    "scan_input_size",
    "to_sequence",
    "valid_steps",
]

SCANS = ("auto", "rows", "columns", "pixels", "channels", "profile")

Axis = Literal["rows", "columns", "channels"]
Lengths = Tensor | Sequence[int]

PIXEL_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def to_sequence(
    strips: Tensor,
    lengths: Lengths | None = None,
    *,
    scan: str = "auto",
    short_side: int | None = None,
    stack: int = 1,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Turn strips into one time-first sequence per strip.

    Parameters
    ----------
    strips : Tensor [B, C, H, W]
        uint8 pixels, which are scaled to [0, 1], or float pixels, which are taken as they are.
    lengths : Tensor [B] or sequence of B ints, optional
        Valid rows, columns or channels of each strip, whichever the scan walks along; zero is
        allowed. Values are checked where they can be read for free, on CPU. On an accelerator
        and in compiled code they are clamped to the valid range instead.
    scan : {"auto", "rows", "columns", "pixels", "channels", "profile"}
        What a step is, see the table above.
    short_side : int, optional
        Pixels of the short side. Fixes the direction of ``auto``, ``pixels`` and ``profile``, and
        is checked for ``rows`` and ``columns``.
    stack : int, default 1
        Steps that are joined to one. What a strip's last step lacks is filled up with zeros.
    dtype : torch.dtype, optional
        Floating type of the sequence. Default: that of the strips; torch's default for uint8.

    Returns
    -------
    sequence : Tensor [T, B, I]
        Contiguous. Padding stays padding: the valid steps are the first ones.
    lengths : Tensor [B] int64 or None
        Valid steps, on the device of the strips; None if None was given.

    Raises
    ------
    TypeError
        If strips or lengths have a wrong type.
    ValueError
        If the scan is unknown, a shape is wrong, or a length is outside the strip.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.scan import to_sequence
    >>> strips = torch.randint(0, 256, (2, 3, 28, 100), dtype=torch.uint8)
    >>> sequence, lengths = to_sequence(strips, [100, 60])
    >>> sequence.shape, lengths
    (torch.Size([100, 2, 84]), tensor([100,  60]))
    """
    check_strips(strips)
    batch_size, _, height, width = strips.shape
    axis = _steps_along(scan, height, width, short_side)
    limit = {"columns": width, "rows": height, "channels": strips.shape[1]}[axis]
    if lengths is not None:
        lengths = valid_steps(lengths, batch_size, limit, unit=axis, device=strips.device)
        if scan == "pixels":
            lengths = lengths * (height if axis == "columns" else width)
    if dtype is None:
        dtype = torch.get_default_dtype() if strips.dtype == torch.uint8 else strips.dtype
    elif not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point type, got {dtype}")

    if scan == "profile":
        lines = strips.mean(2 if axis == "columns" else 3, keepdim=True, dtype=dtype)
    else:
        lines = strips
    # Pixels move while they are small: uint8 is reordered first, then converted, once.
    sequence = _reorder(lines, scan, axis)
    if stack != 1:
        sequence, lengths = _stack_steps(sequence, lengths, stack)
    sequence = sequence.to(dtype)
    if strips.dtype == torch.uint8:
        sequence = sequence.div_(255)
    return sequence, lengths


class Scan(nn.Module):
    """`to_sequence` as a module, with a fixed number of features per step.

    Parameters
    ----------
    scan : {"auto", "rows", "columns", "pixels", "channels", "profile"}
        What a step is.
    in_channels : int
        Channels C of the strips.
    short_side : int, optional
        Pixels of the strips' short side. ``pixels`` and ``profile`` can do without: their steps
        have C features whatever the sides are.
    long_side : int, optional
        Pixels of the long side, for ``channels`` only, whose strips are exactly
        ``[B, C, short_side, long_side]``.
    stack : int, default 1
        Steps that are joined to one.

    Attributes
    ----------
    input_size : int
        Features I of one step.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.scan import Scan
    >>> scan = Scan("columns", in_channels=3, short_side=28)
    >>> scan.input_size
    84
    >>> sequence, lengths = scan(torch.rand(2, 3, 28, 100), [100, 60])
    >>> sequence.shape
    torch.Size([100, 2, 84])
    """

    def __init__(
        self,
        scan: str = "auto",
        *,
        in_channels: int,
        short_side: int | None = None,
        long_side: int | None = None,
        stack: int = 1,
    ) -> None:
        super().__init__()
        _check_stack(stack)
        self.input_size = stack * scan_input_size(scan, in_channels, short_side, long_side)
        self.stack = stack
        self.scan = scan
        self.in_channels = in_channels
        self.short_side = short_side
        self.long_side = long_side

    def forward(
        self,
        strips: Tensor,
        lengths: Lengths | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Give the sequence [T, B, I] and its lengths [B]; see `to_sequence`."""
        check_strips(strips)
        channels, height, width = strips.shape[1:]
        if channels != self.in_channels:
            raise ValueError(
                f"strips must have {self.in_channels} channels, "
                f"got {channels} in shape {_shape(strips)}"
            )
        if self.scan == "channels" and (height, width) != (self.short_side, self.long_side):
            raise ValueError(
                f"scan='channels' needs strips of {self.short_side} x {self.long_side} "
                f"(height x width), got {height} x {width}"
            )
        return to_sequence(
            strips,
            lengths,
            scan=self.scan,
            short_side=self.short_side,
            stack=self.stack,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        """Show the settings in the module's repr."""
        stack = "" if self.stack == 1 else f", stack={self.stack}"
        return f"{self.scan!r}, in_channels={self.in_channels}, short_side={self.short_side}{stack}"


def scan_input_size(
    scan: str, in_channels: int, short_side: int | None = None, long_side: int | None = None
) -> int:
    """Give the features I of one step of a scan.

    Parameters
    ----------
    scan : {"auto", "rows", "columns", "pixels", "channels", "profile"}
        What a step is.
    in_channels : int
        Channels of the strips.
    short_side, long_side : int, optional
        Pixels of their sides, where the scan needs them.

    Returns
    -------
    int
        Features of one step.

    Raises
    ------
    ValueError
        If the scan is unknown or needs a side that is not given.

    Examples
    --------
    >>> from fastrnn.nn.scan import scan_input_size
    >>> scan_input_size("auto", in_channels=3, short_side=28)
    84
    """
    _check_scan(scan)
    sides = {"in_channels": in_channels, "short_side": short_side, "long_side": long_side}
    for name, value in sides.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if scan in ("pixels", "profile"):
        return in_channels
    if short_side is None:
        raise ValueError(f"scan={scan!r} needs short_side, the pixels of the strips' short side")
    if scan != "channels":
        return in_channels * short_side
    if long_side is None:
        raise ValueError("scan='channels' needs long_side, as each step is a whole channel")
    return short_side * long_side


def check_strips(strips: Tensor) -> None:
    """Check that strips are pixels [B, C, H, W].

    Parameters
    ----------
    strips : Tensor
        What was given as strips.

    Raises
    ------
    TypeError
        If they are no tensor, or not of uint8 or a floating type.
    ValueError
        If they do not have four dimensions, or one is empty.
    """
    if not isinstance(strips, Tensor):
        raise TypeError(f"strips must be a torch.Tensor, got {type(strips).__name__}")
    if strips.dtype not in PIXEL_DTYPES:
        raise TypeError(f"strips must hold uint8 or floating-point pixels, got {strips.dtype}")
    if strips.dim() != 4:
        raise ValueError(
            f"strips must have 4 dimensions [batch, channels, height, width], got {_shape(strips)}"
        )
    if 0 in strips.shape:
        raise ValueError(f"strips must not be empty, got shape {_shape(strips)}")


def valid_steps(
    lengths: Lengths, batch_size: int, limit: int, *, unit: str, device: torch.device
) -> Tensor:
    """Check lengths and give them as an int64 tensor [B] on a device.

    Parameters
    ----------
    lengths : Tensor [B] or sequence of B ints
        Values 0 <= length <= `limit`. Checked where they can be read for free, on CPU. On an
        accelerator and in compiled code they are clamped instead.
    batch_size : int
        B.
    limit : int
        The largest length allowed.
    unit : str
        What is counted, for messages ("columns").
    device : torch.device
        Where the result lies.

    Returns
    -------
    Tensor [B] int64
        The lengths.

    Raises
    ------
    TypeError
        If they are not integers.
    ValueError
        If the shape is wrong or a value is out of range.
    """
    try:
        tensor = as_lengths(lengths)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"lengths should be {batch_size} integers, got {lengths!r}") from error
    check_lengths(tensor, batch_size, limit, steps=unit)
    return tensor.to(device, torch.int64).clamp(0, limit)


def _check_scan(scan: str) -> None:
    if scan not in SCANS:
        raise ValueError(f"scan must be one of {', '.join(SCANS)}, got {scan!r}")


def _steps_along(scan: str, height: int, width: int, short_side: int | None) -> Axis:
    """Give the axis that the steps follow."""
    _check_scan(scan)
    if scan == "channels":
        return "channels"
    if scan == "rows" or scan == "columns":
        name, across = ("width", width) if scan == "rows" else ("height", height)
        if short_side is not None and across != short_side:
            raise ValueError(
                f"scan={scan!r} needs strips of {name} {short_side}, "
                f"got {height} x {width} (height x width)"
            )
        return "rows" if scan == "rows" else "columns"
    if short_side is None:
        return "columns" if width >= height else "rows"
    if height == short_side:
        return "columns"
    if width == short_side:
        return "rows"
    raise ValueError(
        f"strips must have a side of {short_side} pixels (the short side), "
        f"got {height} x {width} (height x width)"
    )


def _reorder(strips: Tensor, scan: str, axis: Axis) -> Tensor:
    """[B, C, H, W] to a contiguous [T, B, I] of the same type, moving every pixel once."""
    batch_size, channels, height, width = strips.shape
    if axis == "channels":
        return strips.transpose(0, 1).contiguous().view(channels, batch_size, height * width)
    if scan == "pixels":
        order = (3, 2, 0, 1) if axis == "columns" else (2, 3, 0, 1)
        return strips.permute(order).contiguous().view(height * width, batch_size, channels)
    if axis == "rows":
        lines = strips.permute(2, 0, 1, 3).contiguous()
        return lines.view(height, batch_size, channels * width)
    # As a matrix this is a plain transpose, which torch copies in blocks: 2-3 times as fast as
    # the same permutation of four dimensions.
    lines = strips.reshape(batch_size * channels * height, width).t().contiguous()
    return lines.view(width, batch_size, channels * height)


def _check_stack(stack: int) -> None:
    if stack < 1:
        raise ValueError(f"stack must be at least 1, got {stack}")


def _stack_steps(
    sequence: Tensor, lengths: Tensor | None, stack: int
) -> tuple[Tensor, Tensor | None]:
    """[T, B, I] to [ceil(T / stack), B, stack * I]."""
    _check_stack(stack)
    valid = blank_steps(sequence, lengths)  # a strip's last group may reach into its padding
    steps = valid.shape[0]
    groups = -(-steps // stack)
    padded = nn.functional.pad(valid, (0, 0, 0, 0, 0, groups * stack - steps))
    joined = torch.cat(padded.view(groups, stack, *valid.shape[1:]).unbind(1), dim=2)
    return joined, None if lengths is None else (lengths + stack - 1) // stack


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
