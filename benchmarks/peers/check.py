"""Whether a library computes what the others compute: the float64 reference decides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch

from benchmarks.cases import LayerCase
from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.problem import LayerArgs
from fastrnn.recurrence.verification import Expectation, expect

from .work import Array, Work, make_work

TOLERANCE = 16.0
"""Times float32's own error on the same numbers: what fastrnn's CPU kernels are held to as well."""


@lru_cache(maxsize=8)
def expected(case: LayerCase, training: bool) -> Expectation:
    """What a short case should give, and float32's own error in it."""
    threads = torch.get_num_threads()
    # So small steps gain nothing from more, and nobody's threads should spin beside the workers.
    torch.set_num_threads(1)
    try:
        return expect(*_as_layer_call(make_work(case, training)))
    finally:
        torch.set_num_threads(threads)


def what_is_wrong(case: LayerCase, training: bool, found: Mapping[str, Array]) -> str:
    """Compare results with the reference's; an empty string where all of them are right.

    Parameters
    ----------
    case : LayerCase
        A short one.
    found
        ``y``, and in training ``grad w_ih``, ``grad w_hh`` and ``grad bias``, in the shapes of
        `Work`. What y holds past a sequence's length is up to the library.
    """
    truth, own_error = expected(case, training)
    names = ["y", *(("grad w_ih", "grad w_hh", "grad bias") if training else ())]
    faults = []
    for name in names:
        exact = truth[name].numpy()
        if name not in found:
            faults.append(f"{name}: missing")
            continue
        values = found[name].astype(np.float64)
        if values.shape != exact.shape:
            faults.append(f"{name}: shape {values.shape} instead of {exact.shape}")
            continue
        if name == "y":
            values = np.where(_valid(case), values, 0.0)
        error, allowed = float(np.abs(values - exact).max()), TOLERANCE * own_error[name]
        if not error <= allowed:  # so that a NaN counts
            faults.append(f"{name}: error {error:.3g}, allowed {allowed:.3g}")
    return "; ".join(faults)


def _valid(case: LayerCase) -> np.ndarray:
    lengths = make_work(case, training=False).lengths
    if lengths is None:
        return np.ones((1, 1, 1), dtype=bool)
    return (np.arange(case.seq_len)[:, None] < lengths)[:, :, None]


def _as_layer_call(work: Work) -> tuple[LayerArgs, OutputGrads]:
    weights = [torch.from_numpy(array) for array in (work.w_ih, work.w_hh, work.bias)]
    for weight in weights:
        weight.requires_grad_(work.training)
    lengths = None if work.lengths is None else torch.from_numpy(work.lengths)
    grad = None if work.grad_y is None else torch.from_numpy(work.grad_y)
    args = LayerArgs(torch.from_numpy(work.x), *weights, lengths=lengths)
    return args, OutputGrads(grad, None, None)
