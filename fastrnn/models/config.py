"""Settings that models share, as frozen dataclasses that check themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

from fastrnn.models import checks
from fastrnn.models.windows import MOST_COLUMNS, Combine, WindowPlan
from fastrnn.nn.initialisation import INITS, check_init
from fastrnn.nn.pooling import POOLINGS

LAYER_NORMS = ("none", "output", "gates")

# Far above any sensible model: they catch slips and damaged files before any work.
_CHANNELS = (1, 2**16)
_CONV_CHANNELS = (2, 2**16)  # one channel, normalised by itself, says nothing
_SIDE = (1, 2**16)
_CLASSES = (2, 2**20)
_UNITS = (1, 2**16)
_LAYERS = (1, 2**8)
LONG_SIDE = (1, MOST_COLUMNS)


@dataclass(frozen=True)
class ModelConfig:
    """What every classifier of strips has.

    Parameters
    ----------
    in_channels : int
        Channels C of the strips: 1 for grey, 3 for RGB.
    height : int
        Pixels of the strips' fixed short side.
    num_classes : int
        K, at least 2.
    pooling : {"attention", "last", "mean", "max", "mean+max"}, default "attention"
        How the features of all steps become one vector; see `fastrnn.nn.pooling`.
    attention_heads : int, default 1
        Heads of the attention; divides the features of a step.
    dropout : float, default 0.1
        Probability of zeroing a pooled feature, and an output between layers, in training.
    pixel_mean, pixel_std : float, default 0.5 and 0.25
        The model reads ``(pixel - pixel_mean) / pixel_std`` of pixels in [0, 1]. The defaults
        suit both dark and light backgrounds; with many training strips their own mean and
        deviation (`fastrnn.data.pixel_statistics`) may do better.
    window_size, window_stride : int, optional
        Cut strips into windows of so many columns, one every so many (``window_size`` by
        default), for training and for prediction. Not at all by default.
    window_combine : {"mean", "vote"}, default "mean"
        How windows decide on their strip: the mean of their logits, or a vote each.
    reader : dict, optional
        How files become the model's strips, in JSON types, as `fastrnn.data.StripReader.as_json`
        gives it. The model only keeps it, for `fastrnn.deploy.Predictor` and others.

    Raises
    ------
    TypeError, ValueError
        If a setting has a wrong type or a value that makes no model; names it.
    """

    in_channels: int
    height: int
    num_classes: int
    pooling: str = "attention"
    attention_heads: int = 1
    dropout: float = 0.1
    pixel_mean: float = 0.5
    pixel_std: float = 0.25
    window_size: int | None = None
    window_stride: int | None = None
    window_combine: Combine = "mean"
    reader: dict[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        self._set_integer("in_channels", *_CHANNELS)
        self._set_integer("height", *_SIDE)
        self._set_integer("num_classes", *_CLASSES)
        checks.choice("pooling", self.pooling, tuple(POOLINGS))
        self._set_integer("attention_heads", *_UNITS)
        if self.attention_heads > 1 and self.pooling != "attention":
            raise ValueError(
                f"attention_heads is for pooling='attention' only, got {self.attention_heads} with "
                f"pooling={self.pooling!r}"
            )
        self._set("dropout", checks.probability("dropout", self.dropout))
        for name in ("pixel_mean", "pixel_std"):
            self._set(name, checks.number(name, getattr(self, name)))
        if self.pixel_std <= 0:
            raise ValueError(f"pixel_std must be positive, got {self.pixel_std}")
        self._check_windows()
        if self.reader is not None:
            self._set("reader", checks.json_object("reader", self.reader))

    def _check_windows(self) -> None:
        checks.choice("window_combine", self.window_combine, get_args(Combine))
        if self.window_size is None:
            if self.window_stride is not None:
                raise ValueError(
                    f"window_stride is {self.window_stride}, but window_size is None: there are no "
                    "windows"
                )
            return
        self._set_integer("window_size", *LONG_SIDE)
        if self.window_stride is None:
            self._set("window_stride", self.window_size)
        self._set_integer("window_stride", 1, self.window_size)

    def _check_attention(self, features: int) -> None:
        if self.pooling == "attention" and features % self.attention_heads:
            raise ValueError(
                f"attention_heads must divide the features of a step ({features}), got "
                f"{self.attention_heads}"
            )

    @property
    def windows(self) -> WindowPlan | None:
        """How strips are cut, None if they are not."""
        if self.window_size is None or self.window_stride is None:
            return None
        return WindowPlan(self.window_size, self.window_stride, self.window_combine)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _set_integer(self, name: str, low: int, high: int) -> None:
        self._set(name, checks.integer(name, getattr(self, name), low, high))


@dataclass(frozen=True)
class RecurrentConfig(ModelConfig):
    """What every classifier with an LSTM has, besides `ModelConfig`; names are `LSTM`'s.

    Parameters
    ----------
    hidden_size : int, default 64
        Hidden units of the LSTM, per direction.
    num_layers : int, default 1
        Layers of the LSTM.
    bidirectional : bool, default True
        Whether the LSTM also runs backwards.
    layer_norm : {"none", "output", "gates"}, default "none"
        Normalise what the LSTM gives, step by step, or its gates (`LSTM`'s ``layer_norm``, which
        has no fused kernel).
    input_dropout : float, default 0.0
        Probability of zeroing a feature of the LSTM's input, for all steps of a strip, in
        training [1]_.
    recurrent_dropout, zoneout : float, default 0.0
        As for `LSTM`.
    coupled_gates, proj_size
        As for `LSTM`: fewer parameters.
    recurrent_heads : int, default 1
        Blocks of the recurrent weights, see `LightLSTM`: fewer parameters.
    init, forget_bias, chrono_range
        As for `LSTM`.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent
       Neural Networks", NeurIPS 2016.
    """

    hidden_size: int = 64
    num_layers: int = 1
    bidirectional: bool = True
    layer_norm: str = "none"
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    coupled_gates: bool = False
    proj_size: int = 0
    recurrent_heads: int = 1
    init: str = "uniform"
    forget_bias: float | None = None
    chrono_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set_integer("hidden_size", *_UNITS)
        self._set_integer("num_layers", *_LAYERS)
        self._set_integer("recurrent_heads", 1, self.hidden_size)
        self._set_integer("proj_size", 0, self.hidden_size - 1)
        for name in ("bidirectional", "coupled_gates"):
            checks.boolean(name, getattr(self, name))
        checks.choice("layer_norm", self.layer_norm, LAYER_NORMS)
        for name in ("input_dropout", "recurrent_dropout", "zoneout"):
            self._set(name, checks.probability(name, getattr(self, name)))
        for name in ("hidden_size", "proj_size"):
            if getattr(self, name) % self.recurrent_heads:
                raise ValueError(
                    f"recurrent_heads must divide {name} ({getattr(self, name)}), got "
                    f"{self.recurrent_heads}"
                )
        self._check_norm()
        self._check_init()
        self._check_attention(self.features)

    def _check_norm(self) -> None:
        units = {"output": self.features, "gates": self.hidden_size // self.recurrent_heads}
        if units.get(self.layer_norm) == 1:
            raise ValueError(
                f"layer_norm={self.layer_norm!r} normalises a single unit (of hidden_size="
                f"{self.hidden_size}, proj_size={self.proj_size}, recurrent_heads="
                f"{self.recurrent_heads}); it needs two or more"
            )

    def _check_init(self) -> None:
        checks.choice("init", self.init, INITS)
        if isinstance(self.chrono_range, list):  # as JSON gives it
            self._set("chrono_range", tuple(self.chrono_range))
        check_init(self.init, self.chrono_range, self.forget_bias, True)

    @property
    def features(self) -> int:
        """Features of a step that the LSTM gives, both directions together."""
        return (self.proj_size or self.hidden_size) * (2 if self.bidirectional else 1)


@dataclass(frozen=True)
class ConvConfig:
    """Settings of a convolutional front; see `fastrnn.nn.conv.ConvFront`.

    Parameters
    ----------
    conv_channels : sequence of int, default (24, 48, 64)
        Channels of the convolutions, at least 2; each halves the rows.
    conv_features : int, default 96
        Features of a step.
    width_factor : int, default 4
        Columns of a step: 1, 2, 4, ... up to ``2 ** len(conv_channels)``.
    """

    conv_channels: tuple[int, ...] = (24, 48, 64)
    conv_features: int = 96
    width_factor: int = 4

    def __post_init__(self) -> None:
        channels = checks.integers("conv_channels", self.conv_channels, *_CONV_CHANNELS)
        object.__setattr__(self, "conv_channels", channels)
        for name, (low, high) in (("conv_features", _UNITS), ("width_factor", LONG_SIDE)):
            object.__setattr__(self, name, checks.integer(name, getattr(self, name), low, high))
