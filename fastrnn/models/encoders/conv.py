"""Encoders with convolutions: of strips, and of the frames of clips."""

from __future__ import annotations

from torch import Tensor, nn

from fastrnn.models.config import ModelConfig
from fastrnn.models.encoders.base import Encoded, Encoder, check_shape, normalised
from fastrnn.models.encoders.recurrence import Recurrence
from fastrnn.nn.conv import ConvContext, ConvFront, FrameFront
from fastrnn.nn.padding import blank_columns
from fastrnn.nn.scan import Lengths, check_strips, valid_steps


class ConvEncoder(Encoder):
    """Steps are what a convolutional front makes of a few columns.

    Parameters
    ----------
    config : ModelConfig
        Shape and scale of the strips.
    front : ConvFront
        The front.
    context : Recurrence or sequence of ConvContext
        What lets steps learn of each other: the LSTM, or more convolutions.
    """

    def __init__(
        self, config: ModelConfig, front: ConvFront, context: Recurrence | nn.ModuleList
    ) -> None:
        super().__init__()
        self.config, self.front, self.context = config, front, context
        self.pixels_per_step = front.width_factor
        self.size = front.out_features
        if isinstance(context, Recurrence):
            self.size, self.bidirectional = context.features, context.bidirectional

    def forward(
        self, strips: Tensor, lengths: Lengths | None = None, *, only_last: bool = False
    ) -> Encoded:
        """Encode strips; see `Encoder`."""
        check_strips(strips)
        check_shape(strips, self.config)
        if lengths is not None:
            batch_size, columns = strips.shape[0], strips.shape[3]
            lengths = valid_steps(
                lengths, batch_size, columns, unit="columns", device=strips.device
            )
        pixels = normalised(strips, self.config, self.front.project.weight.dtype)
        steps, valid = self.front(pixels, lengths)
        if isinstance(self.context, Recurrence):
            return self.context(steps, valid, only_last=only_last)  # type: ignore[no-any-return]
        for block in self.context:
            assert isinstance(block, ConvContext)
            steps = block(steps, valid)
        return Encoded(steps, valid)


class FrameEncoder(Encoder):
    """Steps are whole frames of a clip, each through the same convolutions; then the LSTM.

    A clip is its frames side by side, ``[B, C, H, T * frame_width]`` with `lengths` in columns,
    or ``[B, T, C, H, frame_width]`` with `lengths` in frames.

    Parameters
    ----------
    config : ModelConfig
        Shape and scale of the frames.
    frame_width : int
        Columns of a frame.
    front : FrameFront
        The convolutions.
    recurrence : Recurrence
        The LSTM.
    """

    def __init__(
        self, config: ModelConfig, frame_width: int, front: FrameFront, recurrence: Recurrence
    ) -> None:
        super().__init__()
        self.config, self.front, self.recurrence = config, front, recurrence
        self.frame_width = self.pixels_per_step = frame_width
        self.size, self.bidirectional = recurrence.features, recurrence.bidirectional

    def forward(
        self, strips: Tensor, lengths: Lengths | None = None, *, only_last: bool = False
    ) -> Encoded:
        """Encode clips; see `Encoder`."""
        frames, counts = self._frames(strips, lengths)
        pixels = normalised(frames, self.config, self.front.project.weight.dtype)
        steps, valid = self.front(pixels, counts)
        return self.recurrence(steps, valid, only_last=only_last)  # type: ignore[no-any-return]

    def _frames(self, strips: Tensor, lengths: Lengths | None) -> tuple[Tensor, Tensor | None]:
        """Give [B, T, C, H, frame_width] and the number of frames of each clip."""
        if isinstance(strips, Tensor) and strips.dim() == 5:
            return self._counted(strips, lengths)
        check_strips(strips)
        check_shape(strips, self.config)
        batch_size, _, _, width = strips.shape
        if width % self.frame_width:
            raise ValueError(
                f"strips must be whole frames of {self.frame_width} columns side by side, got "
                f"{width} columns"
            )
        counts = None
        if lengths is not None:
            columns = valid_steps(lengths, batch_size, width, unit="columns", device=strips.device)
            strips = blank_columns(strips, columns)  # a clip may end inside of a frame
            counts = (columns + self.frame_width - 1) // self.frame_width
        side_by_side = strips.reshape(*strips.shape[:3], -1, self.frame_width)  # [B, C, H, T, w]
        return side_by_side.permute(0, 3, 1, 2, 4), counts

    def _counted(self, clips: Tensor, lengths: Lengths | None) -> tuple[Tensor, Tensor | None]:
        check_strips(clips.flatten(0, 1))
        check_shape(clips, self.config, self.frame_width)
        if lengths is None:
            return clips, None
        batch_size, count = clips.shape[:2]
        return clips, valid_steps(lengths, batch_size, count, unit="frames", device=clips.device)
