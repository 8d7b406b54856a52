"""What every library computes, as numpy arrays that each process makes for itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import LayerCase

Array = NDArray[np.float32]

CHECK_STEPS = 33
"""Steps of the short problem on which results are checked and the time is estimated."""


@dataclass(frozen=True)
class Work:
    """One layer's call.

    ``x [T, B, I]``, ``lengths [B]`` or None, ``w_ih [D, 4H, I]``, ``w_hh [D, 4H, H]``, ``bias
    [D, 4H]``, gates in the order i, f, g, o. ``grad_y [T, B, D*H]`` is there in training, and zero
    past a sequence's length.
    """

    case: LayerCase
    x: Array
    lengths: NDArray[np.int32] | None
    w_ih: Array
    w_hh: Array
    bias: Array
    grad_y: Array | None

    @property
    def training(self) -> bool:
        return self.grad_y is not None

    @property
    def directions(self) -> int:
        return self.w_ih.shape[0]


def make_work(case: LayerCase, training: bool) -> Work:
    """Draw the same numbers in every process."""
    directions, hidden = 2 if case.bidirectional else 1, case.hidden_size
    scale = np.float32(hidden**-0.5)
    weights = np.random.default_rng(1)

    def uniform(*shape: int) -> Array:
        return (2 * weights.random(shape, dtype=np.float32) - 1) * scale

    w_ih = uniform(directions, 4 * hidden, case.input_size)
    w_hh = uniform(directions, 4 * hidden, hidden)
    bias = uniform(directions, 4 * hidden)
    rows = (case.seq_len, case.batch_size)
    x = np.random.default_rng(2).standard_normal((*rows, case.input_size), dtype=np.float32)
    lengths = draw_lengths(case)
    grad_y = None
    if training:
        rng = np.random.default_rng(3)
        grad_y = rng.standard_normal((*rows, directions * hidden), dtype=np.float32)
        if lengths is not None:
            grad_y[np.arange(case.seq_len)[:, None] >= lengths] = 0
    return Work(case, x, lengths, w_ih, w_hh, bias, grad_y)


def draw_lengths(case: LayerCase) -> NDArray[np.int32] | None:
    """Lengths ``[B]``, uniform from T/8 to T; None where the case has none."""
    if not case.variable:
        return None
    rng = np.random.default_rng(4)
    low, high = case.seq_len // 8, case.seq_len + 1
    return rng.integers(low, high, case.batch_size, dtype=np.int32)


def valid_steps(case: LayerCase) -> int:
    """Steps of one direction that are no padding, over the batch."""
    lengths = draw_lengths(case)
    return case.batch_size * case.seq_len if lengths is None else int(lengths.sum())


def short(case: LayerCase) -> LayerCase:
    """The case on few steps."""
    return replace(case, seq_len=CHECK_STEPS)


def reorder(weights: Array, order: str) -> Array:
    """Gates along the second axis of ``[D, 4H, ...]`` from i, f, g, o into another order."""
    gates = np.split(weights, 4, axis=1)
    return np.ascontiguousarray(np.concatenate([gates["ifgo".index(g)] for g in order], axis=1))
