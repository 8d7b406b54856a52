"""A text recogniser: convolutions, two bidirectional LSTM layers over the columns, CTC.

After Shi, Bai and Yao, "An End-to-End Trainable Neural Network for Image-based Sequence
Recognition" (2015), https://arxiv.org/abs/1507.05717. It uses `torch.nn.LSTM` only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Batch(NamedTuple):
    """Grey images ``[B, 1, 32, W]``, characters ``[B, L]`` from 1 up, and ``[B]`` of them."""

    images: Tensor
    texts: Tensor
    text_lengths: Tensor


class BidirectionalLayer(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_size, hidden_size, bidirectional=True)
        self.projection = nn.Linear(2 * hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.rnn(x)[0])


class CRNN(nn.Module):
    """Images ``[B, 1, 32, W]`` to logits ``[W / 4 + 1, B, characters + 1]``, 0 is the blank."""

    def __init__(self, characters: int, channels: int = 64, hidden_size: int = 256) -> None:
        super().__init__()
        c1, c2, c3, c4 = (channels * factor for factor in (1, 2, 4, 8))
        flat = {"kernel_size": (2, 2), "stride": (2, 1), "padding": (0, 1)}  # keeps the width
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(1, c1, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(c1, c2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(c2, c3, 3, padding=1, bias=False), nn.BatchNorm2d(c3), nn.ReLU()),
            *(nn.Conv2d(c3, c3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(**flat)),
            *(nn.Conv2d(c3, c4, 3, padding=1, bias=False), nn.BatchNorm2d(c4), nn.ReLU()),
            *(nn.Conv2d(c4, c4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(**flat)),
            *(nn.Conv2d(c4, c4, 2, bias=False), nn.BatchNorm2d(c4), nn.ReLU()),
        )
        self.recurrent = nn.Sequential(
            BidirectionalLayer(c4, hidden_size, hidden_size),
            BidirectionalLayer(hidden_size, hidden_size, characters + 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        columns = self.convolutions(images).squeeze(2).permute(2, 0, 1)
        return self.recurrent(columns)


def predict(model: CRNN, batch: Batch) -> Tensor:
    """Logits of every column."""
    return model(batch.images)


def loss(model: CRNN, batch: Batch) -> Tensor:
    log_probabilities = model(batch.images).log_softmax(2)
    steps = torch.full_like(batch.text_lengths, log_probabilities.shape[0])
    return nn.functional.ctc_loss(log_probabilities, batch.texts, steps, batch.text_lengths)


def random_batch(batch_size: int, width: int, characters: int) -> Batch:
    lengths = torch.randint(3, 8, (batch_size,))
    texts = torch.randint(1, characters + 1, (batch_size, 7))
    return Batch(torch.randn(batch_size, 1, 32, width), texts, lengths)
