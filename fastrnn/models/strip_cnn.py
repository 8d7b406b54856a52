"""StripCNN: the convolutional baseline that recurrent models are held against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fastrnn.models.bundle import register_model
from fastrnn.models.classifier import EncoderClassifier
from fastrnn.models.config import ConvConfig, ModelConfig
from fastrnn.models.encoders.base import Encoder
from fastrnn.models.encoders.conv import ConvEncoder
from fastrnn.nn.conv import ConvContext, ConvFront, check_width_factor

__all__ = ["StripCNN", "StripCNNConfig"]


@dataclass(frozen=True)
class StripCNNConfig(ConvConfig, ModelConfig):
    """The architecture of a `StripCNN`: those of its bases, and these.

    Parameters
    ----------
    depth : int, default 2
        Convolutions along the steps, in the place of an LSTM; 0 for none.
    kernel_size : int, default 5
        Steps that each of them sees, odd.

    Examples
    --------
    >>> from fastrnn.models import StripCNNConfig
    >>> StripCNNConfig(in_channels=1, height=28, num_classes=10).depth
    2
    """

    depth: int = 2
    kernel_size: int = 5

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        ConvConfig.__post_init__(self)
        self._set_integer("depth", 0, 2**8)
        self._set_integer("kernel_size", 1, 2**16)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        check_width_factor(self.width_factor, len(self.conv_channels))
        self._check_attention(self.conv_features)


@register_model
class StripCNN(EncoderClassifier):
    """Classify image strips by convolutions alone.

    The front of `CNNLSTMClassifier`, then residual convolutions along the steps where that has its
    LSTM. Each step sees a bounded neighbourhood; only the pooling sees the whole strip. With the
    default settings it has about as many parameters as a `CNNLSTMClassifier`.

    Parameters
    ----------
    in_channels, height, num_classes : int
        Channels C and rows of the strips, and number of classes K.
    labels : sequence of str, optional
        Names of the classes. Default: "0" to "K-1".
    device, dtype : optional
        Of the weights.
    **settings
        The other fields of `StripCNNConfig`, `ConvConfig` and `ModelConfig`.

    Attributes
    ----------
    config : StripCNNConfig
        The architecture.
    labels : tuple of str
        Names of the classes.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.models import StripCNN
    >>> model = StripCNN(in_channels=1, height=28, num_classes=10, pooling="max")
    >>> model(torch.rand(2, 1, 28, 300), lengths=[300, 140]).shape
    torch.Size([2, 10])
    """

    config_class = StripCNNConfig
    config: StripCNNConfig

    def make_encoder(
        self, *, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> Encoder:
        """Make all convolutions."""
        config = self.config
        front = ConvFront(
            config.in_channels,
            config.height,
            channels=config.conv_channels,
            width_factor=config.width_factor,
            out_features=config.conv_features,
            device=device,
            dtype=dtype,
        )
        context = nn.ModuleList(
            ConvContext(config.conv_features, config.kernel_size, device=device, dtype=dtype)
            for _ in range(config.depth)
        )
        return ConvEncoder(config, front, context)
