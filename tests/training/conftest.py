"""Small problems and a small model, so that a training takes a fraction of a second."""

import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastrnn.data import StripArrays

HEIGHT = 6


class RowMeans(nn.Module):
    """Classifies a strip by the mean of each of its rows."""

    def __init__(self, height: int, classes: int, *, dropout: float = 0.2) -> None:
        super().__init__()
        self.hidden = nn.Linear(height, 8)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(8, classes)

    def forward(self, strips: Tensor, lengths: Tensor | None = None) -> Tensor:
        columns = strips.shape[-1] if lengths is None else lengths[:, None]
        means = (strips.float() / 255).sum(-1).mean(1) / columns
        return self.output(self.dropout(self.hidden(4 * means - 2).tanh()))


def make_clusters(
    count: int, *, classes: int = 2, seed: int = 0, spread: float = 20.0, height: int = HEIGHT
) -> StripArrays:
    """Strips whose rows are bright at some height, which depends on the class, of any width."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).uniform(70, 185, (classes, height))
    targets = np.arange(count) % classes
    rows = centres[targets] + random.normal(0, spread, (count, height))
    strips = [
        np.clip(np.tile(row[:, None], random.integers(3, 12)), 0, 255).astype(np.uint8)
        for row in rows
    ]
    return StripArrays(strips, targets, [f"class {k}" for k in range(classes)])


def make_row_means(classes: int = 2, *, seed: int = 0, height: int = HEIGHT) -> RowMeans:
    """A model with weights from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RowMeans(height, classes)


@pytest.fixture
def clusters() -> Callable[..., StripArrays]:
    return make_clusters


@pytest.fixture
def row_means() -> Callable[..., RowMeans]:
    return make_row_means


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, even if the test runner was started with it ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)
