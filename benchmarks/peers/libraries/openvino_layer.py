"""OpenVINO: one `LSTMSequence` node; inference only."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset5 as ops

from ..work import Array, Work, reorder

_GATES = "figo"


class OpenVinoLayer:
    """A model compiled for one stream with as many threads as the process may use."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.x = np.ascontiguousarray(work.x.swapaxes(0, 1))  # its layout is [B, T, I]

    def prepare(self) -> None:
        options = {
            "INFERENCE_NUM_THREADS": _threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Without this it computes in bfloat16 on a CPU that can.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = openvino.Core().compile_model(_model(self.work), "CPU", options)
        self.request = compiled.create_infer_request()
        self.request.set_input_tensor(openvino.Tensor(self.x, shared_memory=True))

    def run(self) -> Any:
        self.request.infer()
        return self.request.get_output_tensor(0)

    def results(self, output: Any) -> dict[str, Array]:
        y = output.data.transpose(2, 0, 1, 3)  # [B, D, T, H]
        return {"y": y.reshape(*y.shape[:2], -1)}


def _model(work: Work) -> openvino.Model:
    case = work.case
    rows = (case.batch_size, case.seq_len)
    x = ops.parameter([*rows, case.input_size], dtype=np.float32)
    state = ops.constant(
        np.zeros((case.batch_size, work.directions, case.hidden_size), dtype=np.float32)
    )
    lengths = np.full(case.batch_size, case.seq_len, dtype=np.int32)
    if work.lengths is not None:
        lengths = work.lengths
    node = ops.lstm_sequence(
        x,
        state,
        state,
        ops.constant(lengths),
        ops.constant(reorder(work.w_ih, _GATES)),
        ops.constant(reorder(work.w_hh, _GATES)),
        ops.constant(reorder(work.bias, _GATES)),
        case.hidden_size,
        "BIDIRECTIONAL" if case.bidirectional else "FORWARD",
    )
    return openvino.Model([node.output(0)], [x], "lstm")


def versions() -> dict[str, str]:
    return {"openvino": openvino.__version__}


_threads = 1


def set_threads(threads: int) -> None:
    global _threads
    _threads = threads
