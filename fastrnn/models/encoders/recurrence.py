"""The recurrent part of an encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastrnn.models.config import RecurrentConfig
from fastrnn.models.encoders.base import Encoded
from fastrnn.nn.light_lstm import LightLSTM
from fastrnn.nn.lstm import LSTM
from fastrnn.nn.padding import blank_steps


class Recurrence(nn.Module):
    """The LSTM of a model, with what is around it: dropout of its input, norm of its output.

    Parameters
    ----------
    input_size : int
        Features of a step that it reads.
    config : RecurrentConfig
        All the rest.
    device, dtype
        Of the parameters.
    """

    def __init__(
        self,
        input_size: int,
        config: RecurrentConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.features = config.features
        self.input_dropout = config.input_dropout
        self.bidirectional = config.bidirectional
        self.lstm = _make_lstm(input_size, config, device, dtype)
        self.norm = (
            nn.LayerNorm(config.features, device=device, dtype=dtype)
            if config.layer_norm == "output"
            else None
        )

    def forward(self, steps: Tensor, lengths: Tensor | None, *, only_last: bool = False) -> Encoded:
        """Run [T, B, I] through the LSTM."""
        if self.training and self.input_dropout:
            # One draw for all steps, as a feature that comes and goes could be guessed.
            mask = nn.functional.dropout(torch.ones_like(steps[0]), self.input_dropout)
            steps = steps * mask
        y, (h_n, _) = self.lstm(steps, lengths=lengths, last_state_only=only_last)
        last = h_n[-2 if self.bidirectional else -1 :].transpose(0, 1).flatten(1)
        if self.norm is not None:
            y, last = blank_steps(self.norm(y), lengths), self.norm(last)
            if lengths is not None:  # an empty strip gives zeros, as it does to every pooling
                last = torch.where(lengths[:, None] > 0, last, 0)
        return Encoded(y, lengths, last)


def _make_lstm(
    input_size: int,
    config: RecurrentConfig,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> LSTM | LightLSTM:
    shared: dict[str, Any] = {
        "num_layers": config.num_layers,
        "dropout": config.dropout if config.num_layers > 1 else 0.0,
        "bidirectional": config.bidirectional,
        "proj_size": config.proj_size,
        "layer_norm": config.layer_norm == "gates",
        "recurrent_dropout": config.recurrent_dropout,
        "zoneout": config.zoneout,
        "coupled_gates": config.coupled_gates,
        "init": config.init,
        "forget_bias": config.forget_bias,
        "chrono_range": config.chrono_range,
        "device": device,
        "dtype": dtype,
    }
    if config.recurrent_heads == 1:
        return LSTM(input_size, config.hidden_size, **shared)
    return LightLSTM(input_size, config.hidden_size, heads=config.recurrent_heads, **shared)
