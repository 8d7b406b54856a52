"""JAX: flax's `OptimizedLSTMCell` under `lax.scan`, which `flax.linen.RNN` is."""

from __future__ import annotations

from typing import Any

import flax
import jax
import numpy as np
from flax import linen

from ..work import Array, Work

_GATES = "ifgo"


class FlaxLayer:
    """The layer, compiled ahead of time for one shape."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.layer = _layer(work)
        self.parameters = jax.device_put(_parameters(work))
        self.x = jax.device_put(work.x)
        self.lengths = None if work.lengths is None else jax.device_put(work.lengths)
        self.grad = None if work.grad_y is None else jax.device_put(work.grad_y)

    def prepare(self) -> None:
        def inference(parameters: Any, x: Any, lengths: Any, grad: Any) -> Any:
            return self.layer.apply({"params": parameters}, x, seq_lengths=lengths), None

        def training(parameters: Any, x: Any, lengths: Any, grad: Any) -> Any:
            y, pull = jax.vjp(lambda p: inference(p, x, lengths, grad)[0], parameters)
            return y, pull(grad)[0]

        function = jax.jit(training if self.work.training else inference)
        inputs = (self.parameters, self.x, self.lengths, self.grad)
        self.compiled = function.lower(*inputs).compile()

    def run(self) -> Any:
        inputs = (self.parameters, self.x, self.lengths, self.grad)
        return jax.block_until_ready(self.compiled(*inputs))

    def results(self, output: Any) -> dict[str, Array]:
        y, grads = output
        found = {"y": np.asarray(y)}
        if grads is not None:
            cells = [rnn["cell"] for rnn in _rnns(self.work, grads)]
            for name, prefix, leaf in (
                ("w_ih", "i", "kernel"),
                ("w_hh", "h", "kernel"),
                ("bias", "h", "bias"),
            ):
                found[f"grad {name}"] = np.stack(
                    [
                        np.concatenate([np.asarray(cell[prefix + gate][leaf]).T for gate in _GATES])
                        for cell in cells
                    ]
                )
        return found


def _layer(work: Work) -> Any:
    rnns = [
        linen.RNN(linen.OptimizedLSTMCell(work.case.hidden_size), time_major=True)
        for _ in range(work.directions)
    ]
    if work.case.bidirectional:
        return linen.Bidirectional(*rnns, time_major=True)
    return rnns[0]


def _rnns(work: Work, tree: dict[str, Any]) -> list[dict[str, Any]]:
    """Each direction's part of a tree of parameters."""
    if work.case.bidirectional:
        return [tree["forward_rnn"], tree["backward_rnn"]]
    return [tree]


def _parameters(work: Work) -> dict[str, Any]:
    rnns = []
    for arrays in zip(work.w_ih, work.w_hh, work.bias, strict=True):
        cell: dict[str, Any] = {}
        gates = zip(_GATES, *(np.split(array, 4) for array in arrays), strict=True)
        for gate, w_ih, w_hh, bias in gates:
            cell["i" + gate] = {"kernel": w_ih.T}
            cell["h" + gate] = {"kernel": w_hh.T, "bias": bias}
        rnns.append({"cell": cell})
    if work.case.bidirectional:
        return {"forward_rnn": rnns[0], "backward_rnn": rnns[1]}
    return rnns[0]


def versions() -> dict[str, str]:
    return {"jax": jax.__version__, "flax": flax.__version__}


def set_threads(threads: int) -> None:
    """Nothing: XLA takes the number of CPUs that the process may use."""
