"""StripClassifier: a recurrent classifier of long image strips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastrnn.models import checks
from fastrnn.models.bundle import register_model
from fastrnn.models.classifier import EncoderClassifier
from fastrnn.models.config import LONG_SIDE, RecurrentConfig
from fastrnn.models.encoders.base import Encoder
from fastrnn.models.encoders.scan import ScanEncoder
from fastrnn.nn.scan import SCANS, Scan

__all__ = ["StripClassifier", "StripClassifierConfig"]


@dataclass(frozen=True)
class StripClassifierConfig(RecurrentConfig):
    """The architecture of a `StripClassifier`: the settings of `RecurrentConfig` and these.

    Parameters
    ----------
    scan : {"auto", "rows", "columns", "pixels", "channels", "profile"}, default "auto"
        What a step of the sequence is; see `fastrnn.nn.scan`. The default takes a column a step,
        in strips that run from top to bottom a row a step.
    stack : int, default 1
        Steps that are joined to one: 2 makes a step of two columns, and half as many steps.
    width : int, optional
        For ``scan="channels"`` only, where a step is a whole channel: the largest width. Narrower
        strips are filled up with zeros on the right.

    Raises
    ------
    TypeError
        If a field has a wrong type.
    ValueError
        If a field has a value that makes no model.

    Examples
    --------
    >>> from fastrnn.models import StripClassifierConfig
    >>> StripClassifierConfig(in_channels=1, height=28, num_classes=10).hidden_size
    64
    """

    scan: str = "auto"
    stack: int = 1
    width: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("scan", self.scan, SCANS)
        self._set_integer("stack", *LONG_SIDE)
        if self.scan == "channels" and self.width is None:
            raise ValueError("scan='channels' needs width, as each step is a whole channel")
        if self.scan != "channels" and self.width is not None:
            raise ValueError(
                f"width is for scan='channels' only, got {self.width} with scan={self.scan!r}"
            )
        if self.width is not None:
            self._set_integer("width", *LONG_SIDE)


@register_model
class StripClassifier(EncoderClassifier):
    """Classify image strips of any length: scan, LSTM, masked pooling, linear layer.

    Parameters
    ----------
    in_channels : int
        Channels C of the strips: 1 for grey, 3 for RGB.
    height : int
        Pixels of the strips' fixed short side. That is their height, or their width where they
        run from top to bottom (``scan="rows"``, and ``auto``, ``pixels`` and ``profile`` if the
        height differs from it).
    num_classes : int
        K, at least 2.
    labels : sequence of str, optional
        Names of the classes. Default: "0" to "K-1".
    device, dtype : optional
        Of the weights.
    **settings
        The other fields of `StripClassifierConfig`, `RecurrentConfig` and `ModelConfig`:
        ``hidden_size``, ``num_layers``, ``bidirectional``, ``pooling``, ``scan``, ``dropout`` and
        more.

    Attributes
    ----------
    config : StripClassifierConfig
        The architecture.
    labels : tuple of str
        Names of the classes.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.models import StripClassifier
    >>> model = StripClassifier(in_channels=1, height=28, num_classes=10)
    >>> strips = torch.randint(0, 256, (2, 1, 28, 300), dtype=torch.uint8)
    >>> model(strips, lengths=[300, 140]).shape
    torch.Size([2, 10])
    >>> logits, weights = model(strips, [300, 140], return_attention=True)
    >>> weights.shape
    torch.Size([2, 300])
    """

    config_class = StripClassifierConfig
    config: StripClassifierConfig

    @classmethod
    def upgrade_weights(cls, weights: dict[str, Tensor], format_version: int) -> dict[str, Tensor]:
        """Give weights of format 1 today's names: there were no encoders and no heads."""
        if format_version > 1:
            return weights
        renamed = {
            f"encoder.recurrence.{name}" if name.startswith("lstm.") else name: value
            for name, value in weights.items()
        }
        query = renamed.get("pooling.query")
        if query is not None and query.dim() == 1:
            renamed["pooling.query"] = query[None]
        return renamed

    def make_encoder(
        self, *, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> Encoder:
        """Make the scan and the LSTM."""
        config = self.config
        scan = Scan(
            config.scan,
            in_channels=config.in_channels,
            short_side=config.height,
            long_side=config.width,
            stack=config.stack,
        )
        return ScanEncoder(config, scan, device=device, dtype=dtype)
