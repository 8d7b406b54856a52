"""Paddle: `paddle.nn.LSTM`, which has a kernel of its own on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from ..work import Array, Work

_NAMES = ("weight_ih", "weight_hh", "bias_ih")


class PaddleLayer:
    """Paddle's layer, called eagerly, time first."""

    def __init__(self, work: Work) -> None:
        case = work.case
        self.work = work
        self.layer = paddle.nn.LSTM(
            case.input_size,
            case.hidden_size,
            direction="bidirect" if case.bidirectional else "forward",
            time_major=True,
        )
        self.parameters = dict(self.layer.named_parameters())
        for key, array in _weights(work).items():
            self.parameters[key].set_value(paddle.to_tensor(array))
        self.x = paddle.to_tensor(work.x)
        self.lengths = None if work.lengths is None else paddle.to_tensor(work.lengths)
        self.grad = None if work.grad_y is None else paddle.to_tensor(work.grad_y)

    def prepare(self) -> None:
        if not self.work.training:
            self.layer.eval()

    def run(self) -> Any:
        if self.grad is None:
            with paddle.no_grad():
                return self.layer(self.x, sequence_length=self.lengths)[0]
        self.layer.clear_gradients(set_to_zero=False)
        y, _ = self.layer(self.x, sequence_length=self.lengths)
        y.backward(self.grad)
        return y

    def results(self, output: Any) -> dict[str, Array]:
        found = {"y": output.numpy()}
        if self.grad is not None:
            for result, name in zip(("w_ih", "w_hh", "bias"), _NAMES, strict=True):
                found[f"grad {result}"] = np.stack(
                    [self.parameters[name + suffix].grad.numpy() for suffix in _suffixes(self.work)]
                )
        return found


def _suffixes(work: Work) -> tuple[str, ...]:
    return ("_l0", "_l0_reverse")[: work.directions]


def _weights(work: Work) -> dict[str, Array]:
    weights = {}
    for direction, suffix in enumerate(_suffixes(work)):
        arrays = (work.w_ih, work.w_hh, work.bias)
        for name, array in zip(_NAMES, arrays, strict=True):
            weights[name + suffix] = array[direction]
        weights["bias_hh" + suffix] = np.zeros_like(work.bias[direction])
    return weights


def versions() -> dict[str, str]:
    return {"paddle": paddle.__version__}


def set_threads(threads: int) -> None:
    paddle.set_flags({"FLAGS_paddle_num_threads": threads})
