"""A speech recogniser: convolutions over a spectrogram, many bidirectional LSTM layers, CTC.

After Amodei et al., "Deep Speech 2: End-to-End Speech Recognition in English and Mandarin" (2015),
https://arxiv.org/abs/1512.02595: packed input, batch normalisation before each recurrent layer but
the first, and the sum of both directions. It uses `torch.nn.LSTM` only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Batch(NamedTuple):
    """Spectrograms ``[B, 1, F, T]`` with ``[B]`` frames, letters ``[B, L]`` and ``[B]`` of them."""

    spectrograms: Tensor
    frames: Tensor
    letters: Tensor
    letter_counts: Tensor


class RecurrentLayer(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, normalise: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(input_size) if normalise else nn.Identity()
        self.rnn = nn.LSTM(input_size, hidden_size, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = self.norm(x.flatten(0, 1)).view_as(x)
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.rnn(packed)[0], total_length=x.shape[0])
        forward, backward = y.chunk(2, dim=2)
        return forward + backward


class SpeechRecogniser(nn.Module):
    """Spectrograms ``[B, 1, F, T]`` to logits ``[T / 2, B, letters + 1]``, 0 is the blank."""

    def __init__(
        self,
        letters: int,
        bins: int = 160,
        hidden_size: int = 800,
        num_layers: int = 5,
        channels: int = 32,
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels, (41, 11), stride=(2, 2), padding=(20, 5), bias=False),
            *(nn.BatchNorm2d(channels), nn.Hardtanh(0, 20)),
            nn.Conv2d(channels, channels, (21, 11), stride=(2, 1), padding=(10, 5), bias=False),
            *(nn.BatchNorm2d(channels), nn.Hardtanh(0, 20)),
        )
        sizes = [channels * ((bins + 3) // 4), *[hidden_size] * (num_layers - 1)]
        self.recurrent = nn.ModuleList(
            RecurrentLayer(size, hidden_size, normalise=i > 0) for i, size in enumerate(sizes)
        )
        self.norm = nn.BatchNorm1d(hidden_size)
        self.output = nn.Linear(hidden_size, letters + 1, bias=False)

    def forward(self, spectrograms: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        features = self.convolutions(spectrograms)
        x = features.flatten(1, 2).permute(2, 0, 1)
        lengths = (frames + 1) // 2
        for layer in self.recurrent:
            x = layer(x, lengths)
        return self.output(self.norm(x.flatten(0, 1)).view_as(x)), lengths


def predict(model: SpeechRecogniser, batch: Batch) -> Tensor:
    """Logits of every second frame."""
    return model(batch.spectrograms, batch.frames)[0]


def loss(model: SpeechRecogniser, batch: Batch) -> Tensor:
    logits, lengths = model(batch.spectrograms, batch.frames)
    return nn.functional.ctc_loss(
        logits.log_softmax(2), batch.letters, lengths, batch.letter_counts, zero_infinity=True
    )


def random_batch(batch_size: int, frames: int, letters: int, bins: int = 160) -> Batch:
    """Utterances of T/2 to T frames, one letter in 16 frames."""
    counts = torch.randint(frames // 2, frames + 1, (batch_size,))
    counts[0] = frames
    texts = torch.randint(1, letters + 1, (batch_size, frames // 16))
    return Batch(torch.randn(batch_size, 1, bins, frames), counts, texts, counts // 16)
