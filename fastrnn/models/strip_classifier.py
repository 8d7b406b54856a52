"""StripClassifier: a recurrent classifier of long image strips."""

from __future__ import annotations

import dataclasses
import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, overload

import torch
from torch import Tensor, nn

from fastrnn.models.bundle import BundledModel, register_model
from fastrnn.nn.lstm import LSTM
from fastrnn.nn.pooling import POOLINGS, AttentionPooling, LastPooling, make_pooling
from fastrnn.nn.scan import SCANS, Lengths, Scan, check_strips, valid_steps

__all__ = ["StripClassifier", "StripClassifierConfig"]

# Far above any sensible model: they catch slips and damaged files before any work.
_LIMITS = {
    "in_channels": (1, 2**16),
    "height": (1, 2**16),
    "num_classes": (2, 2**20),
    "hidden_size": (1, 2**16),
    "num_layers": (1, 2**8),
    "width": (1, 2**24),
}


@dataclass(frozen=True)
class StripClassifierConfig:
    """The architecture of a `StripClassifier`; the fields are its arguments.

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

    in_channels: int
    height: int
    num_classes: int
    scan: str = "auto"
    hidden_size: int = 64
    num_layers: int = 1
    bidirectional: bool = True
    pooling: str = "attention"
    dropout: float = 0.1
    width: int | None = None
    pixel_mean: float = 0.5
    pixel_std: float = 0.25

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            if name != "width" or self.width is not None:
                value = _integer(name, getattr(self, name), low, high)
                object.__setattr__(self, name, value)
        _check_choice("scan", self.scan, SCANS)
        _check_choice("pooling", self.pooling, tuple(POOLINGS))
        if not isinstance(self.bidirectional, bool):
            raise TypeError(f"bidirectional must be True or False, got {self.bidirectional!r}")
        for name in ("dropout", "pixel_mean", "pixel_std"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.pixel_std <= 0:
            raise ValueError(f"pixel_std must be positive, got {self.pixel_std}")
        if self.scan == "channels" and self.width is None:
            raise ValueError("scan='channels' needs width, as each step is a whole channel")
        if self.scan != "channels" and self.width is not None:
            raise ValueError(
                f"width is for scan='channels' only, got {self.width} with scan={self.scan!r}"
            )


@register_model
class StripClassifier(BundledModel):
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
    scan : {"auto", "rows", "columns", "pixels", "channels", "profile"}, default "auto"
        What a step of the sequence is; see `fastrnn.nn.scan`. The default takes a column a step,
        in strips that run from top to bottom a row a step.
    hidden_size : int, default 64
        Hidden units of the LSTM, per direction.
    num_layers : int, default 1
        Layers of the LSTM.
    bidirectional : bool, default True
        Whether the LSTM also runs backwards.
    pooling : {"attention", "last", "mean", "max"}, default "attention"
        How the outputs of all steps become one vector; see `fastrnn.nn.pooling`.
    dropout : float, default 0.1
        Probability of zeroing a pooled feature, and an output between layers, in training.
    width : int, optional
        For ``scan="channels"`` only, where a step is a whole channel: the largest width. Narrower
        strips are filled up with zeros on the right.
    pixel_mean, pixel_std : float, default 0.5 and 0.25
        The LSTM reads ``(pixel - pixel_mean) / pixel_std`` of pixels in [0, 1]. The defaults
        suit both dark and light backgrounds; with many training strips their own mean and
        deviation (`fastrnn.data.pixel_statistics`) may do better.
    labels : sequence of str, optional
        Names of the classes. Default: "0" to "K-1".
    device, dtype : optional
        Of the weights.

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

    def __init__(
        self,
        in_channels: int,
        height: int,
        num_classes: int,
        *,
        scan: str = "auto",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str = "attention",
        dropout: float = 0.1,
        width: int | None = None,
        pixel_mean: float = 0.5,
        pixel_std: float = 0.25,
        labels: Sequence[str] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config = StripClassifierConfig(
            in_channels=in_channels,
            height=height,
            num_classes=num_classes,
            scan=scan,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            pooling=pooling,
            dropout=dropout,
            width=width,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
        )
        self.labels = _class_names(labels, config.num_classes)
        self.scan = Scan(
            config.scan,
            in_channels=config.in_channels,
            short_side=config.height,
            long_side=config.width,
        )
        self.lstm = LSTM(
            self.scan.input_size,
            config.hidden_size,
            num_layers=config.num_layers,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
            bidirectional=config.bidirectional,
            device=device,
            dtype=dtype,
        )
        features = config.hidden_size * (2 if config.bidirectional else 1)
        self.pooling = make_pooling(
            config.pooling,
            features,
            bidirectional=config.bidirectional,
            device=device,
            dtype=dtype,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(features, config.num_classes, device=device, dtype=dtype)

    @classmethod
    def from_config(
        cls,
        config: StripClassifierConfig,
        *,
        labels: Sequence[str] | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """Build a classifier with new weights from its config."""
        return cls(**dataclasses.asdict(config), labels=labels, device=device)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What the input must look like, in JSON types."""
        return {
            "channels": self.config.in_channels,
            "height": self.config.height,
            "scaling": "uint8 / 255",
        }

    @overload
    def forward(
        self,
        strips: Tensor,
        lengths: Lengths | None = None,
        *,
        return_attention: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self, strips: Tensor, lengths: Lengths | None = None, *, return_attention: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        strips: Tensor,
        lengths: Lengths | None = None,
        *,
        return_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Give the logits of strips.

        Parameters
        ----------
        strips : Tensor [B, C, H, W]
            uint8 pixels, scaled to [0, 1] here, or float pixels, best in [0, 1] too, converted to
            the type of the weights. NaN pixels are not refused: they make the logits of their
            own strip NaN, and of no other.
        lengths : Tensor [B] or sequence of B ints, optional
            Valid columns of each strip (rows, if the strips run from top to bottom), zero
            allowed. The rest is padding and makes no difference. Default: all.
        return_attention : bool, default False
            Also give the attention weights; needs ``pooling="attention"``.

        Returns
        -------
        logits : Tensor [B, K]
            In the type of the weights.
        weights : Tensor [B, T]
            With `return_attention`: how much each step counts; zero on padding.

        Raises
        ------
        TypeError
            If strips are not uint8 or float, or lengths are not integers.
        ValueError
            If a shape does not fit the model, or a length is outside the strip.
        """
        sequence, lengths = self._sequence(strips, lengths)
        # The last state alone needs no outputs: the fastest kernels then do not write them.
        only_state = isinstance(self.pooling, LastPooling) and not return_attention
        y, (h_n, _) = self.lstm(sequence, lengths=lengths, last_state_only=only_state)
        if not return_attention:
            pooled = (
                self.pooling.pool_state(h_n)
                if isinstance(self.pooling, LastPooling)
                else self.pooling(y, lengths, zero_padded=True)
            )
            return self.head(self.dropout(pooled))  # type: ignore[no-any-return]
        if not isinstance(self.pooling, AttentionPooling):
            raise ValueError(
                "return_attention needs a model with pooling='attention', "
                f"this one has pooling={self.config.pooling!r}"
            )
        pooled, weights = self.pooling(y, lengths, zero_padded=True, return_weights=True)
        return self.head(self.dropout(pooled)), weights

    def predict_proba(self, strips: Tensor, lengths: Lengths | None = None) -> Tensor:
        """Give the class probabilities [B, K] of strips, without gradients.

        Dropout is applied if the model is in training mode: call ``eval()`` first.
        """
        with torch.no_grad():
            return self(strips, lengths).softmax(1)  # type: ignore[no-any-return]

    def _sequence(self, strips: Tensor, lengths: Lengths | None) -> tuple[Tensor, Tensor | None]:
        """Scan strips to the LSTM's input [T, B, I]."""
        dtype = self.head.weight.dtype
        if self.config.scan == "channels":
            # Lengths count columns, as for the other scans, but no step ends at them: padding is
            # blanked instead, and every channel is a valid step.
            strips = _blank_columns(strips, lengths, self.config.width or 0)
            lengths = None
        sequence, steps = self.scan(strips, lengths, dtype=dtype)
        # sub makes a new tensor (the sequence may be the caller's strips), which div_ can reuse.
        return sequence.sub(self.config.pixel_mean).div_(self.config.pixel_std), steps


def _blank_columns(strips: Tensor, lengths: Lengths | None, width: int) -> Tensor:
    """Zero what lies past each strip's length, and fill up to `width` columns."""
    check_strips(strips)
    batch_size, columns = strips.shape[0], strips.shape[3]
    if columns > width:
        raise ValueError(f"strips must have at most {width} columns (width), got {columns}")
    if lengths is not None:
        lengths = valid_steps(lengths, batch_size, columns, unit="columns", device=strips.device)
        valid = torch.arange(columns, device=strips.device) < lengths[:, None]
        strips = torch.where(valid[:, None, None], strips, 0)
    return nn.functional.pad(strips, (0, width - columns))


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        value = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} must be an integer, got {value!r}") from error
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {value}")
    return int(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _class_names(labels: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    if labels is None:
        return tuple(str(index) for index in range(num_classes))
    if isinstance(labels, str):
        raise TypeError(f"labels must be a sequence of names, not the one string {labels!r}")
    names = tuple(labels)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"labels must be strings, got {name!r}")
    if len(names) != num_classes:
        raise ValueError(f"labels must name all {num_classes} classes, got {len(names)} names")
    if len(set(names)) != num_classes:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"labels must differ, got {twice!r} twice")
    return names
