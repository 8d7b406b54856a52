"""The base of all classifiers: an encoder, a masked pooling, a linear layer."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self, overload

import torch
from torch import Tensor, nn

from fastrnn.models.bundle import BundledModel
from fastrnn.models.checks import class_names
from fastrnn.models.config import ModelConfig
from fastrnn.models.encoders.base import Encoded, Encoder
from fastrnn.models.windows import WindowPlan
from fastrnn.nn.pooling import AttentionPooling, LastPooling, Pooling, make_pooling
from fastrnn.nn.scan import Lengths

__all__ = ["EncoderClassifier"]


class EncoderClassifier(BundledModel):
    """Classify strips of any length by what an encoder sees along them.

    A subclass sets `config_class` and makes the encoder; it is called with the fields of its
    config.

    Parameters
    ----------
    in_channels, height, num_classes : int
        Channels C and rows of the strips, and number of classes K.
    labels : sequence of str, optional
        Names of the classes. Default: "0" to "K-1".
    device, dtype : optional
        Of the weights.
    **settings
        The other fields of `config_class`.

    Attributes
    ----------
    config
        The architecture.
    labels : tuple of str
        Names of the classes.
    encoder : Encoder
        Strips to features along the strip.
    """

    config_class: ClassVar[type[ModelConfig]]
    config: ModelConfig
    encoder: Encoder

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "config_class" in vars(cls):
            cls.__signature__ = _signature(cls.config_class)  # type: ignore[attr-defined]

    def __init__(
        self,
        in_channels: int,
        height: int,
        num_classes: int,
        *,
        labels: Sequence[str] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self._check_known(settings)
        self.config = self.config_class(in_channels, height, num_classes, **settings)
        self.labels = class_names(labels, self.config.num_classes)
        self.build(device=device, dtype=dtype)

    def build(self, *, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Make the parts that `config` describes."""
        self.encoder = self.make_encoder(device=device, dtype=dtype)
        self.pooling: Pooling = make_pooling(
            self.config.pooling,
            self.encoder.size,
            bidirectional=self.encoder.bidirectional,
            heads=self.config.attention_heads,
            device=device,
            dtype=dtype,
        )
        self.dropout = nn.Dropout(self.config.dropout)
        self.head = nn.Linear(
            self.pooling.out_size, self.config.num_classes, device=device, dtype=dtype
        )

    def make_encoder(
        self, *, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> Encoder:
        """Make the encoder that `config` describes."""
        raise NotImplementedError

    @classmethod
    def from_config(
        cls,
        config: ModelConfig,
        *,
        labels: Sequence[str] | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """Build a classifier with new weights from its config."""
        return cls(**dataclasses.asdict(config), labels=labels, device=device)

    @property
    def windows(self) -> WindowPlan | None:
        """How training and prediction cut strips, None if they take them whole."""
        return self.config.windows

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What the input must look like, in JSON types."""
        needed: dict[str, Any] = {
            "channels": self.config.in_channels,
            "height": self.config.height,
            "scaling": "uint8 / 255",
        }
        if self.config.reader is not None:
            needed["reader"] = self.config.reader
        return needed

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
            the type of the weights. NaN pixels are not refused: what is computed from them is
            NaN, in the logits of their own strip and of no other.
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
            With `return_attention`: how much each step counts, the mean over all heads; zero on
            padding.

        Raises
        ------
        TypeError
            If strips are not uint8 or float, or lengths are not integers.
        ValueError
            If a shape does not fit the model, or a length is outside the strip.
        """
        if return_attention:
            return self._with_attention(strips, lengths)
        # The last state alone needs no outputs: the fastest kernels then do not write them.
        only_last = isinstance(self.pooling, LastPooling)
        encoded = self.encoder(strips, lengths, only_last=only_last)
        return self.head(self.dropout(self._pooled(encoded)))  # type: ignore[no-any-return]

    def predict_proba(self, strips: Tensor, lengths: Lengths | None = None) -> Tensor:
        """Give the class probabilities [B, K] of strips, without gradients.

        Dropout is applied if the model is in training mode: call ``eval()`` first.
        """
        with torch.no_grad():
            return self(strips, lengths).softmax(1)  # type: ignore[no-any-return]

    def _pooled(self, encoded: Encoded) -> Tensor:
        if isinstance(self.pooling, LastPooling) and encoded.last is not None:
            return encoded.last
        return self.pooling(encoded.steps, encoded.lengths, zero_padded=True)  # type: ignore[no-any-return]

    def _with_attention(self, strips: Tensor, lengths: Lengths | None) -> tuple[Tensor, Tensor]:
        if not isinstance(self.pooling, AttentionPooling):
            raise ValueError(
                "return_attention needs a model with pooling='attention', "
                f"this one has pooling={self.config.pooling!r}"
            )
        encoded = self.encoder(strips, lengths)
        pooled, weights = self.pooling(
            encoded.steps, encoded.lengths, zero_padded=True, return_weights=True
        )
        return self.head(self.dropout(pooled)), weights

    @classmethod
    def _check_known(cls, settings: dict[str, Any]) -> None:
        known = [field.name for field in dataclasses.fields(cls.config_class)]
        for name in settings:
            if name not in known:
                raise TypeError(
                    f"{cls.__name__} has no setting {name!r}; it has {', '.join(known)}"
                )


def _signature(config_class: type[ModelConfig]) -> inspect.Signature:
    """Give the arguments of a classifier: its config's fields, then labels, device, dtype."""
    required, optional = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    fields = [
        parameter if parameter.default is parameter.empty else parameter.replace(kind=optional)
        for parameter in inspect.signature(config_class).parameters.values()
    ]
    more = [
        inspect.Parameter("labels", optional, default=None, annotation="Sequence[str] | None"),
        inspect.Parameter("device", optional, default=None, annotation="torch.device | str | None"),
        inspect.Parameter("dtype", optional, default=None, annotation="torch.dtype | None"),
    ]
    assert all(parameter.kind is required for parameter in fields[:3])
    return inspect.Signature(fields + more)
