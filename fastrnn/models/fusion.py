"""FusionClassifier: strips of several modalities, such as colour and depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastrnn.models import checks
from fastrnn.models.bundle import register_model
from fastrnn.models.classifier import EncoderClassifier
from fastrnn.models.cnn_lstm import CNNLSTMClassifier
from fastrnn.models.config import LONG_SIDE, ConvConfig, RecurrentConfig
from fastrnn.models.encoders.base import Encoder, check_shape
from fastrnn.models.encoders.fusion import GatedFusion, modalities_present
from fastrnn.models.strip_classifier import StripClassifier
from fastrnn.nn.conv import check_width_factor
from fastrnn.nn.scan import Lengths, check_strips

__all__ = ["FusionClassifier", "FusionConfig"]

FUSIONS = ("early", "middle", "late")
ENCODERS = ("cnn-lstm", "lstm")


@dataclass(frozen=True)
class FusionConfig(ConvConfig, RecurrentConfig):
    """The architecture of a `FusionClassifier`: those of its bases, and these.

    Parameters
    ----------
    layer_norm : {"none", "output", "gates"}, default "output"
        As for `CNNLSTMConfig`.
    modalities : sequence of (str, int), default (("rgb", 3), ("depth", 1))
        Name and number of channels of each modality, in the order of the strips' channels.
    fusion : {"early", "middle", "late"}, default "middle"
        Where the modalities meet: as channels of one encoder; as steps of an encoder each, in a
        gated sum along the strip; or as logits of a classifier each.
    encoder : {"cnn-lstm", "lstm"}, default "cnn-lstm"
        What reads the strips, as `CNNLSTMClassifier` or `StripClassifier` does; the settings of
        `ConvConfig` are the former's.
    stack : int, default 1
        As for `StripClassifierConfig`, with ``encoder="lstm"`` only.
    modality_dropout : float, default 0.2
        Probability of hiding a modality from a strip, in training; one always stays. So the model
        learns to do without.

    Examples
    --------
    >>> from fastrnn.models import FusionConfig
    >>> FusionConfig(4, 24, 9).modalities
    (('rgb', 3), ('depth', 1))
    """

    layer_norm: str = "output"
    modalities: tuple[tuple[str, int], ...] = (("rgb", 3), ("depth", 1))
    fusion: str = "middle"
    encoder: str = "cnn-lstm"
    stack: int = 1
    modality_dropout: float = 0.2

    def __post_init__(self) -> None:
        RecurrentConfig.__post_init__(self)
        ConvConfig.__post_init__(self)
        checks.choice("fusion", self.fusion, FUSIONS)
        checks.choice("encoder", self.encoder, ENCODERS)
        self._set_integer("stack", *LONG_SIDE)
        if self.stack > 1 and self.encoder != "lstm":
            raise ValueError(
                f"stack is for encoder='lstm' only, got {self.stack} with encoder={self.encoder!r}"
            )
        self._set("modality_dropout", checks.probability("modality_dropout", self.modality_dropout))
        self._set("modalities", _modalities(self.modalities))
        total = sum(channels for _, channels in self.modalities)
        if total != self.in_channels:
            raise ValueError(
                f"modalities have {total} channels together, but in_channels is {self.in_channels}"
            )
        if self.encoder == "cnn-lstm":
            check_width_factor(self.width_factor, len(self.conv_channels))


@register_model
class FusionClassifier(EncoderClassifier):
    """Classify strips of two or more modalities, whose channels lie one after the other.

    A modality whose pixels are all zero in a strip counts as missing there: it is left out of the
    gated sum (``middle``) and of the mean of logits (``late``); ``early`` fusion reads zeros, as
    it did in training where `modality_dropout` hid the modality. Of a strip without any pixel but
    zeros no modality is missing.

    Parameters
    ----------
    in_channels, height, num_classes : int
        Channels of all modalities together, rows of the strips, and number of classes K.
    labels : sequence of str, optional
        Names of the classes. Default: "0" to "K-1".
    device, dtype : optional
        Of the weights.
    **settings
        The other fields of `FusionConfig`, `ConvConfig`, `RecurrentConfig` and `ModelConfig`.

    Attributes
    ----------
    config : FusionConfig
        The architecture.
    labels : tuple of str
        Names of the classes.
    branches : ModuleList
        With ``fusion="late"``, the classifier of each modality, in the place of an encoder.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.models import FusionClassifier
    >>> model = FusionClassifier(4, 24, num_classes=9, fusion="late").eval()
    >>> strips = torch.randint(0, 256, (2, 4, 24, 100), dtype=torch.uint8)
    >>> model(strips, lengths=[100, 61]).shape
    torch.Size([2, 9])
    >>> logits = model(strips, lengths=[100, 61], missing=["depth"])
    """

    config_class = FusionConfig
    config: FusionConfig

    def build(self, *, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Make one classifier, or one per modality for late fusion."""
        if self.config.fusion != "late":
            super().build(device=device, dtype=dtype)
            return
        self.branches = nn.ModuleList(
            self._branch(channels, device, dtype) for _, channels in self.config.modalities
        )

    def make_encoder(
        self, *, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> Encoder:
        """Make one encoder for all channels, or one per modality and the gate."""
        config = self.config
        if config.fusion == "early":
            return self._branch(config.in_channels, device, dtype).encoder
        encoders = [
            self._branch(channels, device, dtype).encoder for _, channels in config.modalities
        ]
        return GatedFusion(encoders, self._sizes, device=device, dtype=dtype)

    def forward(  # type: ignore[override]
        self,
        strips: Tensor,
        lengths: Lengths | None = None,
        *,
        missing: Sequence[str] = (),
        return_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Give the logits of strips.

        Parameters
        ----------
        strips, lengths, return_attention
            As for `EncoderClassifier.forward`; late fusion has no common attention.
        missing : sequence of str, optional
            Modalities to leave out, as if all their pixels were zero.

        Returns
        -------
        logits : Tensor [B, K]
            In the type of the weights.
        weights : Tensor [B, T]
            With `return_attention`.

        Raises
        ------
        TypeError, ValueError
            As `EncoderClassifier.forward`; also if a missing modality is not one of the model's,
            or all are.
        """
        check_strips(strips)
        check_shape(strips, self.config)
        strips = self._without(strips, missing)
        if self.training and self.config.modality_dropout:
            strips = self._drop(strips, lengths)
        if self.config.fusion != "late":
            return super().forward(strips, lengths, return_attention=return_attention)  # type: ignore[call-overload, no-any-return]
        if return_attention:
            raise ValueError("return_attention needs fusion='early' or 'middle', this is 'late'")
        return self._late(strips, lengths)

    @property
    def _sizes(self) -> list[int]:
        return [channels for _, channels in self.config.modalities]

    def _branch(
        self, in_channels: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> EncoderClassifier:
        """Make the classifier that a single modality would have."""
        kind = CNNLSTMClassifier if self.config.encoder == "cnn-lstm" else StripClassifier
        wanted = {field.name for field in dataclasses.fields(kind.config_class)}
        mine: dict[str, Any] = vars(self.config)
        settings = {name: mine[name] for name in wanted & mine.keys()} | {
            "in_channels": in_channels
        }
        return kind(**settings, device=device, dtype=dtype)

    def _without(self, strips: Tensor, missing: Sequence[str]) -> Tensor:
        names = [name for name, _ in self.config.modalities]
        if isinstance(missing, str):
            raise TypeError(f"missing must be a sequence of names, not the one string {missing!r}")
        for name in missing:
            if name not in names:
                raise ValueError(f"missing must name some of {', '.join(names)}, got {name!r}")
        if not missing:
            return strips
        if set(missing) == set(names):
            raise ValueError("missing names all modalities; one must be there")
        there = torch.tensor([name not in missing for name in names], device=strips.device)
        return self._kept(strips, there.expand(len(strips), -1))

    def _drop(self, strips: Tensor, lengths: Lengths | None) -> Tensor:
        """Hide modalities at random, but of each strip keep one of those that it has."""
        present = modalities_present(strips, lengths, self._sizes)
        draws = torch.rand(present.shape, device=strips.device)
        kept = draws >= self.config.modality_dropout
        lucky = draws.masked_fill(~present, -1).argmax(1, keepdim=True)
        return self._kept(strips, kept.scatter(1, lucky, True))

    def _kept(self, strips: Tensor, kept: Tensor) -> Tensor:
        """Zero the channels of the modalities that are not kept, bool [B, M]."""
        sizes = torch.tensor(self._sizes, device=strips.device)
        channels = kept.repeat_interleave(sizes, dim=1)
        return torch.where(channels[:, :, None, None], strips, 0)

    def _late(self, strips: Tensor, lengths: Lengths | None) -> Tensor:
        """Mean of the logits of the modalities that are there."""
        present = modalities_present(strips, lengths, self._sizes)
        parts = torch.split(strips, self._sizes, dim=1)
        logits = torch.stack(
            [branch(part, lengths) for branch, part in zip(self.branches, parts, strict=True)]
        )
        weights = present.t()[..., None].to(logits.dtype)  # [M, B, 1]
        return (logits * weights).sum(0) / weights.sum(0)


def _modalities(value: Any) -> tuple[tuple[str, int], ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(
            f"modalities must be pairs of a name and a number of channels, got {value!r}"
        )
    pairs = []
    for number, pair in enumerate(value):
        where = f"modalities[{number}]"
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(f"{where} must be a name and a number of channels, got {pair!r}")
        name, channels = pair
        if not isinstance(name, str) or not name:
            raise TypeError(f"{where} must begin with a name, got {name!r}")
        pairs.append((name, checks.integer(f"{where}'s channels", channels, 1, 2**16)))
    names = [name for name, _ in pairs]
    if len(pairs) < 2 or len(set(names)) < len(names):
        raise ValueError(f"modalities must be at least two, with different names, got {names}")
    return tuple(pairs)
