"""ONNX Runtime: one ONNX `LSTM` node; inference only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..work import Array, Work, reorder

_GATES = "iofg"
_OPSET = 17


class OnnxRuntimeLayer:
    """A session with as many threads as the process may use; inputs and outputs are not copied."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.model = _model(work).SerializeToString()
        self.inputs = {"X": onnxruntime.OrtValue.ortvalue_from_numpy(work.x)}
        if work.lengths is not None:
            lengths = onnxruntime.OrtValue.ortvalue_from_numpy(work.lengths)
            self.inputs["sequence_lens"] = lengths

    def prepare(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads
        options.inter_op_num_threads = 1
        # Threads spin while a call runs, and stop when it ends: the others' turn comes then.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            self.model, options, providers=["CPUExecutionProvider"]
        )

    def run(self) -> Any:
        return self.session.run_with_ort_values(["Y"], self.inputs)[0]

    def results(self, output: Any) -> dict[str, Array]:
        y = output.numpy().transpose(0, 2, 1, 3)  # [T, D, B, H]
        return {"y": y.reshape(*y.shape[:2], -1)}


def _model(work: Work) -> Any:
    case = work.case
    bias = reorder(work.bias, _GATES)
    constants = {
        "W": reorder(work.w_ih, _GATES),
        "R": reorder(work.w_hh, _GATES),
        "B": np.concatenate([bias, np.zeros_like(bias)], axis=1),
    }
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, list(work.x.shape))]
    names = ["X", *constants]
    if work.lengths is not None:
        names.append("sequence_lens")
        shape = [case.batch_size]
        inputs.append(helper.make_tensor_value_info("sequence_lens", TensorProto.INT32, shape))
    node = helper.make_node(
        "LSTM",
        names,
        ["Y"],
        hidden_size=case.hidden_size,
        direction="bidirectional" if case.bidirectional else "forward",
    )
    shape = [case.seq_len, work.directions, case.batch_size, case.hidden_size]
    graph = helper.make_graph(
        [node],
        "lstm",
        inputs,
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def versions() -> dict[str, str]:
    return {"onnxruntime": onnxruntime.__version__}


_threads = 1


def set_threads(threads: int) -> None:
    global _threads
    _threads = threads
