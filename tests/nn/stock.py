"""`torch.nn.LSTM` beside ours, with the same weights and on the same input."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import LSTMState

INPUT_SIZE, HIDDEN_SIZE = 3, 5


def pair(**options: Any) -> tuple[nn.LSTM, fastrnn.LSTM]:
    """Both layers, with the same weights."""
    stock = nn.LSTM(INPUT_SIZE, HIDDEN_SIZE, **options)
    ours = fastrnn.LSTM(INPUT_SIZE, HIDDEN_SIZE, **options)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


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


def assert_same_run(
    got: tuple[Tensor, tuple[Tensor, Tensor]], want: tuple[Tensor, tuple[Tensor, Tensor]]
) -> None:
    for a, b in zip((got[0], *got[1]), (want[0], *want[1]), strict=True):
        torch.testing.assert_close(a, b)


def gradients(
    run: tuple[Tensor, tuple[Tensor, Tensor]], inputs: list[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients of a fixed random weighting of all that a call returns."""
    outputs = (run[0], *run[1])
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(o.shape, generator=generator).to(o.dtype) for o in outputs]
    return torch.autograd.grad(outputs, inputs, weights)
