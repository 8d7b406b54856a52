"""CNNLSTMClassifier: convolutions see what is near, an LSTM what is far."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fastrnn.models import checks
from fastrnn.models.bundle import register_model
from fastrnn.models.classifier import EncoderClassifier
from fastrnn.models.config import LONG_SIDE, ConvConfig, RecurrentConfig
from fastrnn.models.encoders.base import Encoder
from fastrnn.models.encoders.conv import ConvEncoder, FrameEncoder
from fastrnn.models.encoders.recurrence import Recurrence
from fastrnn.nn.conv import ConvFront, FrameFront, check_width_factor

__all__ = ["CNNLSTMClassifier", "CNNLSTMConfig"]


@dataclass(frozen=True)
class CNNLSTMConfig(ConvConfig, RecurrentConfig):
    """The architecture of a `CNNLSTMClassifier`: those of its bases, and these.

    Parameters
    ----------
    layer_norm : {"none", "output", "gates"}, default "output"
        As in `RecurrentConfig`. Without it, attention over features of the front may stay uniform
        for hundreds of steps, and the loss where it was.
    frames : bool, default False
        Whether strips are clips, frames side by side, and a step is a frame; there is no
        `width_factor` then.
    frame_width : int, optional
        Columns of a frame, with ``frames=True`` alone.

    Examples
    --------
    >>> from fastrnn.models import CNNLSTMConfig
    >>> CNNLSTMConfig(in_channels=1, height=28, num_classes=10).width_factor
    4
    """

    layer_norm: str = "output"
    frames: bool = False
    frame_width: int | None = None

    def __post_init__(self) -> None:
        RecurrentConfig.__post_init__(self)
        ConvConfig.__post_init__(self)
        checks.boolean("frames", self.frames)
        if self.frames != (self.frame_width is not None):
            raise ValueError(
                "frame_width must be given with frames=True, and with that alone; got "
                f"frames={self.frames}, frame_width={self.frame_width}"
            )
        if self.frame_width is not None:
            self._set_integer("frame_width", *LONG_SIDE)
            self._check_whole_frames(self.frame_width)
        else:
            check_width_factor(self.width_factor, len(self.conv_channels))

    def _check_whole_frames(self, frame_width: int) -> None:
        for name in ("window_size", "window_stride"):
            columns = getattr(self, name)
            if columns is not None and columns % frame_width:
                raise ValueError(
                    f"{name} must be whole frames of {frame_width} columns (frame_width), got "
                    f"{columns}"
                )


@register_model
class CNNLSTMClassifier(EncoderClassifier):
    """Classify image strips, or clips, by a small convolutional network and an LSTM.

    The convolutions take the height down to nothing and the width by a factor, so the LSTM reads
    `width_factor` columns a step, features instead of pixels. With ``frames=True`` each frame of a
    clip goes through the convolutions by itself (the time-distributed form), and a step is a frame.

    Parameters
    ----------
    in_channels, height, num_classes : int
        Channels C and rows of the strips, and number of classes K.
    labels : sequence of str, optional
        Names of the classes. Default: "0" to "K-1".
    device, dtype : optional
        Of the weights.
    **settings
        The other fields of `CNNLSTMConfig`, `ConvConfig`, `RecurrentConfig` and `ModelConfig`.

    Attributes
    ----------
    config : CNNLSTMConfig
        The architecture.
    labels : tuple of str
        Names of the classes.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.models import CNNLSTMClassifier
    >>> model = CNNLSTMClassifier(in_channels=1, height=28, num_classes=10)
    >>> strips = torch.randint(0, 256, (2, 1, 28, 300), dtype=torch.uint8)
    >>> logits, weights = model(strips, lengths=[300, 140], return_attention=True)
    >>> logits.shape, weights.shape
    (torch.Size([2, 10]), torch.Size([2, 75]))

    Clips of at most 20 frames of 24 x 32 pixels:

    >>> model = CNNLSTMClassifier(3, 24, 5, frames=True, frame_width=32)
    >>> model(torch.rand(2, 20, 3, 24, 32), lengths=[20, 11]).shape
    torch.Size([2, 5])
    """

    config_class = CNNLSTMConfig
    config: CNNLSTMConfig

    def make_encoder(
        self, *, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> Encoder:
        """Make the convolutions and the LSTM."""
        config = self.config
        recurrence = Recurrence(config.conv_features, config, device=device, dtype=dtype)
        if config.frame_width is None:
            front = ConvFront(
                config.in_channels,
                config.height,
                channels=config.conv_channels,
                width_factor=config.width_factor,
                out_features=config.conv_features,
                device=device,
                dtype=dtype,
            )
            return ConvEncoder(config, front, recurrence)
        frame_front = FrameFront(
            config.in_channels,
            config.height,
            config.frame_width,
            channels=config.conv_channels,
            out_features=config.conv_features,
            device=device,
            dtype=dtype,
        )
        return FrameEncoder(config, config.frame_width, frame_front, recurrence)
