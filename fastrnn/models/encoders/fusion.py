"""The encoder of several modalities, which meet step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastrnn.models.encoders.base import Encoded, Encoder
from fastrnn.nn.padding import blank_columns
from fastrnn.nn.scan import Lengths, valid_steps


class GatedFusion(Encoder):
    """An encoder for each modality; their steps are added, weighted by a learned gate.

    At each step a linear layer looks at the features of all modalities and gives each a score; a
    softmax over those that are there makes the scores weights, as in the gated multimodal unit
    [1]_.

    Parameters
    ----------
    encoders : sequence of Encoder
        One per modality, all with the same features and steps.
    channels : sequence of int
        Channels of each modality.
    device, dtype
        Of the gate.

    References
    ----------
    .. [1] J. Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR workshop 2017.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        channels: Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.channels = list(channels)
        first = encoders[0]
        self.size, self.bidirectional = first.size, first.bidirectional
        self.pixels_per_step = first.pixels_per_step
        features = len(encoders) * self.size
        self.gate = nn.Linear(features, len(encoders), device=device, dtype=dtype)

    def forward(
        self, strips: Tensor, lengths: Lengths | None = None, *, only_last: bool = False
    ) -> Encoded:
        """Encode strips; see `Encoder`. All steps are needed for the sum, whatever is wanted."""
        present = modalities_present(strips, lengths, self.channels)
        parts = torch.split(strips, self.channels, dim=1)
        encoded = [
            encoder(part, lengths) for encoder, part in zip(self.encoders, parts, strict=True)
        ]
        # A missing modality is zeroed, so that the gate cannot look at what was made of nothing.
        steps = torch.stack([part.steps for part in encoded], dim=2)  # [T, B, M, F]
        steps = torch.where(present[..., None], steps, 0)
        scores = self.gate(steps.flatten(2))
        floor = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~present, floor).softmax(2)
        together = (steps * weights[..., None]).sum(2)
        return Encoded(together, encoded[0].lengths)


def modalities_present(strips: Tensor, lengths: Lengths | None, channels: Sequence[int]) -> Tensor:
    """Say which modalities have a pixel that is not zero: bool [B, M]; all, where none has."""
    if lengths is not None:
        batch_size, columns = strips.shape[0], strips.shape[3]
        valid = valid_steps(lengths, batch_size, columns, unit="columns", device=strips.device)
        strips = blank_columns(strips, valid)
    parts = torch.split(strips, list(channels), dim=1)
    present = torch.stack([(part != 0).flatten(1).any(1) for part in parts], dim=1)
    return present | ~present.any(1, keepdim=True)
