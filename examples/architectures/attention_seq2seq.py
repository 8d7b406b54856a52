"""A translator: a bidirectional encoder on packed input, a decoder that attends to it.

After Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and
Translate" (2014), https://arxiv.org/abs/1409.0473, with LSTM layers. The decoder goes step by step:
what it attends to depends on its last state. It uses `torch.nn.LSTM` only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, Tensor]

PADDING, BEGIN = 0, 1


class Batch(NamedTuple):
    """Source words ``[S, B]`` with ``[B]`` lengths, target words ``[T, B]``, padded with 0."""

    source: Tensor
    lengths: Tensor
    target: Tensor


class Encoder(nn.Module):
    def __init__(self, words: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding_size, padding_idx=PADDING)
        self.rnn = nn.LSTM(embedding_size, hidden_size, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        packed = pack_padded_sequence(self.embedding(source), lengths, enforce_sorted=False)
        packed, (h_n, c_n) = self.rnn(packed)
        memory, _ = pad_packed_sequence(packed, total_length=source.shape[0])
        h_0, c_0 = (torch.tanh(self.bridge(torch.cat([s[0], s[1]], 1))) for s in (h_n, c_n))
        return memory, (h_0[None], c_0[None])


class Attention(nn.Module):
    """Weighs memories ``[S, B, M]`` by what a small network says of each and of the state."""

    def __init__(self, memory_size: int, hidden_size: int) -> None:
        super().__init__()
        self.of_memory = nn.Linear(memory_size, hidden_size)
        self.of_state = nn.Linear(hidden_size, hidden_size, bias=False)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, memory: Tensor, keys: Tensor, mask: Tensor, state: Tensor) -> Tensor:
        scores = self.score(torch.tanh(keys + self.of_state(state))).squeeze(2)
        weights = scores.masked_fill(mask, -torch.inf).softmax(0)
        return torch.einsum("sb,sbm->bm", weights, memory)


class Translator(nn.Module):
    """Source and target words to logits ``[T, B, words]`` of the next target word."""

    def __init__(self, words: int, embedding_size: int = 256, hidden_size: int = 512) -> None:
        super().__init__()
        self.encoder = Encoder(words, embedding_size, hidden_size)
        self.embedding = nn.Embedding(words, embedding_size, padding_idx=PADDING)
        self.attention = Attention(2 * hidden_size, hidden_size)
        self.decoder = nn.LSTM(embedding_size + 2 * hidden_size, hidden_size)
        self.output = nn.Linear(3 * hidden_size, words)

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor | None, steps: int) -> Tensor:
        """Without a target the decoder goes on from its own words."""
        memory, state = self.encoder(source, lengths)
        keys = self.attention.of_memory(memory)
        mask = torch.arange(len(source))[:, None] >= lengths
        word = torch.full_like(source[0], BEGIN)
        logits = []
        for step in range(steps):
            context = self.attention(memory, keys, mask, state[0][0])
            x = torch.cat([self.embedding(word), context], 1)
            y, state = self.decoder(x[None], state)
            logits.append(self.output(torch.cat([y[0], context], 1)))
            word = logits[-1].argmax(1) if target is None else target[step]
        return torch.stack(logits)


def predict(model: Translator, batch: Batch) -> Tensor:
    """Translate without looking at the target, as many steps as it has."""
    return model(batch.source, batch.lengths, None, len(batch.target))


def loss(model: Translator, batch: Batch) -> Tensor:
    logits = model(batch.source, batch.lengths, batch.target, len(batch.target))
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.target.flatten(), ignore_index=PADDING
    )


def random_batch(batch_size: int, steps: int, words: int) -> Batch:
    """Sentences of T/4 to T words."""
    lengths = torch.randint(max(steps // 4, 1), steps + 1, (batch_size,))
    lengths[0] = steps
    padding = torch.arange(steps)[:, None] >= lengths
    source, target = (
        torch.randint(2, words, (steps, batch_size)).masked_fill(padding, PADDING) for _ in range(2)
    )
    return Batch(source, lengths, target)
