"""A language model of words: three LSTM layers, tied weights, dropout everywhere.

After Merity, Keskar and Socher, "Regularizing and Optimizing LSTM Language Models" (2017),
https://arxiv.org/abs/1708.02182: dropout on the recurrent weights, the same dropout mask at every
step, and the embedding as the output layer. The state goes from one piece of text to the next.
It uses `torch.nn.LSTM` only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]


class Batch(NamedTuple):
    """Words ``[T + 1, B]`` of B texts that run on, in pieces of at most `piece` steps."""

    words: Tensor
    piece: int


class LockedDropout(nn.Module):
    """Dropout ``[T, B, H]`` with one mask for all steps."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x * nn.functional.dropout(torch.ones_like(x[:1]), self.p, self.training)


class WeightDropLSTM(nn.Module):
    """One LSTM layer with dropout on its recurrent weights, one mask for all steps."""

    def __init__(self, input_size: int, hidden_size: int, p: float) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_size, hidden_size)
        self.p = p
        self.weight_hh_raw = nn.Parameter(self.rnn.weight_hh_l0.detach())
        del self.rnn.weight_hh_l0  # a tensor comes in its place in every call

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        # A view: without dropout the parameter itself would be registered in the LSTM too.
        raw = self.weight_hh_raw.view_as(self.weight_hh_raw)
        self.rnn.weight_hh_l0 = nn.functional.dropout(raw, self.p, self.training)
        return self.rnn(x, state)


class WordLanguageModel(nn.Module):
    """Words ``[T, B]`` and a state per layer to logits ``[T, B, words]`` and the next states."""

    def __init__(
        self,
        words: int,
        embedding_size: int = 400,
        hidden_size: int = 1150,
        num_layers: int = 3,
        dropout: float = 0.4,
        weight_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding_size)
        self.sizes = [*[hidden_size] * (num_layers - 1), embedding_size]
        self.layers = nn.ModuleList(
            WeightDropLSTM(before, after, weight_dropout)
            for before, after in zip([embedding_size, *self.sizes], self.sizes, strict=False)
        )
        self.dropout = LockedDropout(dropout)
        self.output = nn.Linear(embedding_size, words)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.output.weight = self.embedding.weight

    def initial_state(self, batch_size: int) -> list[State]:
        new = self.embedding.weight.new_zeros
        return [(new(1, batch_size, size), new(1, batch_size, size)) for size in self.sizes]

    def forward(self, words: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        x = self.dropout(self.embedding(words))
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer(x, state)
            x = self.dropout(x)
            after.append(state)
        return self.output(x), after


def _losses(model: WordLanguageModel, batch: Batch) -> Tensor:
    """Loss of each piece; gradients do not flow from one into the one before."""
    states = model.initial_state(batch.words.shape[1])
    losses = []
    for begin in range(0, len(batch.words) - 1, batch.piece):
        words = batch.words[begin : begin + batch.piece + 1]
        logits, states = model(words[:-1], states)
        losses.append(nn.functional.cross_entropy(logits.flatten(0, 1), words[1:].flatten()))
        states = [(h.detach(), c.detach()) for h, c in states]
    return torch.stack(losses)


def predict(model: WordLanguageModel, batch: Batch) -> Tensor:
    """Loss of each piece, ``[pieces]``: the model's way to be judged."""
    return _losses(model, batch)


def loss(model: WordLanguageModel, batch: Batch) -> Tensor:
    return _losses(model, batch).mean()


def random_batch(batch_size: int, steps: int, words: int, piece: int = 70) -> Batch:
    return Batch(torch.randint(0, words, (steps + 1, batch_size)), piece)
