"""`torch.nn.LSTM` beside ours on padded sequences with lengths, which it has to pack."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import LSTMState

from . import side_by_side
from .side_by_side import assert_equal, flat, make_pair

Result = tuple[Tensor, tuple[Tensor, Tensor]]

INPUT_SIZE, HIDDEN_SIZE = 3, 5


def pair(**options: Any) -> tuple[nn.LSTM, fastrnn.LSTM]:
    """Both layers, with the same weights."""
    return make_pair(INPUT_SIZE, HIDDEN_SIZE, **options)


class Padded(nn.Module):
    """A layer called with lengths, by position, as traces and exported programs want it."""

    def __init__(self, lstm: fastrnn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, hx: LSTMState | None = None
    ) -> tuple[Tensor, LSTMState]:
        return self.lstm(x, hx, lengths=lengths)


class StockPadded(nn.Module):
    """The same with `torch.nn.LSTM`, which packs."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        if lengths is None:
            return self.lstm(x, hx)
        first = self.lstm.batch_first
        packed = pack_padded_sequence(x, lengths, first, enforce_sorted=False)
        y, state = self.lstm(packed, hx)
        steps = x.shape[1 if first else 0]
        return pad_packed_sequence(y, first, total_length=steps)[0], state


def padded_pair(**options: Any) -> tuple[StockPadded, Padded]:
    stock, ours = pair(**options)
    return StockPadded(stock), Padded(ours)


def inputs_for(
    layer: nn.RNNBase, seq_len: int, batch_size: int, *, with_lengths: bool
) -> tuple[Tensor, Tensor | None]:
    shape = (batch_size, seq_len) if layer.batch_first else (seq_len, batch_size)
    lengths = torch.randint(1, seq_len + 1, (batch_size,)) if with_lengths else None
    return torch.randn(*shape, INPUT_SIZE), lengths


def assert_same_run(got: Result, want: Result) -> None:
    assert_equal(flat(got), flat(want))


def gradients(run: Result, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of a fixed random weighting of all that a call returns."""
    return side_by_side.gradients(flat(run), inputs)
