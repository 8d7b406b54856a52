"""Frames side by side, and which frames of a clip to take."""

from dataclasses import dataclass

from torch import Tensor

from fastrnn.data.checks import positive_int
from fastrnn.data.keeping import Keep, check_keep, kept_start


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a clip to take.

    Attributes
    ----------
    stride
        Take frames 0, ``stride``, ``2 * stride``, ...
    max_frames
        At most so many of those; all if None.
    keep
        If there are more: the first ones ("head"), the last ones ("tail"), or those in the
        middle ("centre").

    Raises
    ------
    ValueError, TypeError
        If an attribute is wrong.

    Examples
    --------
    >>> list(FrameChoice(stride=2, max_frames=3, keep="tail").of(11))
    [6, 8, 10]
    """

    stride: int = 1
    max_frames: int | None = None
    keep: Keep = "head"

    def __post_init__(self) -> None:
        positive_int("stride", self.stride)
        if self.max_frames is not None:
            positive_int("max_frames", self.max_frames)
        check_keep(self.keep)

    def of(self, total: int) -> range:
        """Numbers of the frames to take of ``total``."""
        every = range(0, total, self.stride)
        if self.max_frames is None or len(every) <= self.max_frames:
            return every
        start = kept_start(len(every) - self.max_frames, self.keep)
        return every[start : start + self.max_frames]


def frames_to_strip(frames: Tensor) -> Tensor:
    """Lay the frames of a clip side by side.

    Parameters
    ----------
    frames
        ``[T, C, H, w]``, any dtype.

    Returns
    -------
    torch.Tensor
        ``[C, H, T * w]``: frame ``t`` is columns ``t * w .. (t + 1) * w - 1``.

    Raises
    ------
    ValueError
        If ``frames`` has another number of dimensions.

    Examples
    --------
    >>> import torch
    >>> frames_to_strip(torch.arange(8).reshape(2, 1, 2, 2)).tolist()
    [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    """
    if frames.ndim != 4:
        raise ValueError(f"frames has shape {tuple(frames.shape)}, but must be [T, C, H, w]")
    return frames.permute(1, 2, 0, 3).flatten(2)


def strip_to_frames(strip: Tensor, frame_width: int) -> Tensor:
    """Cut a strip into the frames that lie side by side in it.

    Parameters
    ----------
    strip
        ``[C, H, T * frame_width]``, any dtype.
    frame_width
        Columns of a frame.

    Returns
    -------
    torch.Tensor
        ``[T, C, H, frame_width]``, a view.

    Raises
    ------
    ValueError, TypeError
        If the strip is not made of whole frames, or an argument is wrong.

    Examples
    --------
    >>> import torch
    >>> strip = frames_to_strip(torch.rand(5, 3, 28, 40))
    >>> strip_to_frames(strip, 40).shape
    torch.Size([5, 3, 28, 40])
    """
    width = positive_int("frame_width", frame_width)
    if strip.ndim != 3 or strip.shape[-1] % width:
        raise ValueError(
            f"strip has shape {tuple(strip.shape)}, but must be [C, H, T * frame_width], with "
            f"frame_width {width}"
        )
    return strip.view(*strip.shape[:2], -1, width).permute(2, 0, 1, 3)
