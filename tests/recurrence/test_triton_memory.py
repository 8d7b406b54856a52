"""What the Triton kernels may touch: offsets beyond 32 bits, and never memory of others."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import WantedGrads
from fastrnn.recurrence.backends.eager import reference_gradients
from fastrnn.recurrence.gate_gradients import input_gradients
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.triton_kernels import launch
from fastrnn.recurrence.triton_kernels.kernels import KERNELS

from .conftest import Case, detached
from .guarded import sparse
from .guarded import spread as spread_over

pytestmark = [
    pytest.mark.skipif(
        not launch.INTERPRETED, reason="Triton's interpreter is off: a GPU is there"
    ),
    pytest.mark.skipif(sys.platform != "linux", reason="maps memory in a way of Linux only"),
]

TILE = 8
HERE = str(Path(__file__).parent)


def run_last_tile(
    kind: Any, batch_size: int, monkeypatch: pytest.MonkeyPatch, **tensors: Any
) -> None:
    """Run the programs of the last tile, one for each of two directions, of a huge batch."""
    from triton.runtime.interpreter import interpreter_builder

    plain = type(interpreter_builder).create_get_program_id

    def last(axis: int) -> Any:
        program = plain(interpreter_builder, axis)
        if axis == 0:
            program.data = program.data + (batch_size // TILE - 1)
        return program

    constants: dict[str, Any] = {
        "HIDDEN_SIZE": 16, "PADDED_SIZE": 16, "DIRECTIONS": 2, "TILE": TILE, "FAST": False,
        "PRECISION": "interpreted",
    }  # fmt: skip
    if kind == "forward":
        constants |= {"INPUT_SIZE": 0, "FUSED_INPUT": False, "SAVE": True}
    with monkeypatch.context() as patch:
        patch.setattr(interpreter_builder, "create_get_program_id", last)
        KERNELS[kind][(1, 2)](batch_size=batch_size, **tensors, **constants)


@pytest.mark.parametrize("lengths", ["none", "random"])
def test_offsets_beyond_two_to_the_31st(lengths: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, batch, hidden = 3, 1 << 30, 16
    assert steps * batch > 2**31
    few, grads = Case(steps, TILE, 5, hidden, 2, lengths, states=True).build()
    few = detached(few)
    last = slice(batch - TILE, batch)

    def spread(tensor: Tensor | None, rows: int) -> Tensor:
        return spread_over(tensor, rows, batch)

    order = ends = None
    if few.lengths is not None:
        falling = few.lengths.sort(descending=True)
        order = spread(batch - TILE + falling.indices, 0)
        ends = spread(falling.values.to(torch.int32), 0)
    common = {"order": order, "lengths": ends, "seq_len": steps, "c_0": spread(few.c_0, 1)}
    share = [few.x @ w.t() + b for w, b in zip(few.w_ih, few.bias, strict=True)]  # type: ignore[arg-type]
    gates = spread(torch.cat(share, dim=-1), 1)
    y, cells = (sparse(steps, batch, 2 * hidden) for _ in range(2))
    h_n, c_n = (sparse(2, batch, hidden) for _ in range(2))
    run_last_tile(
        "forward", batch, monkeypatch, gates=gates, x=None, w_ih=None, bias=None, w_hh=few.w_hh,
        h_0=spread(few.h_0, 1), y=y, h_n=h_n, c_n=c_n, cells=cells, given=7, **common,
    )  # fmt: skip
    want = lstm_layer(few, "eager")
    for got, expected in zip((y, h_n, c_n), want, strict=True):
        torch.testing.assert_close(got[:, last], expected)

    grad_gates = sparse(steps, batch, 2 * 4 * hidden)
    grad_h_0, grad_c_0 = (sparse(2, batch, hidden) for _ in range(2))
    by_gate = few.w_hh.view(2, 4, hidden, hidden)
    run_last_tile(
        "backward", batch, monkeypatch, gates=gates, cells=cells, grad_y=spread(grads.y, 1),
        grad_h_n=spread(grads.h_n, 1), grad_c_n=spread(grads.c_n, 1), grad_gates=grad_gates,
        w_hh_t=by_gate.transpose(2, 3).contiguous(), grad_h_0=grad_h_0, grad_c_0=grad_c_0,
        given=15, **common,
    )  # fmt: skip
    truth = reference_gradients(few, grads, WantedGrads(), create_graph=False)
    problem = Problem.from_args(few, training=True)
    found = input_gradients(
        problem, few, y[:, last].contiguous(), grad_gates[:, last].contiguous(), WantedGrads()
    )._replace(h_0=grad_h_0[:, last], c_0=grad_c_0[:, last])
    for name, expected_grad in zip(truth._fields, truth, strict=True):
        torch.testing.assert_close(getattr(found, name), expected_grad)


GUARDED = """
import sys
import torch
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs
from fastrnn.recurrence.triton_kernels import launch

sys.path.insert(0, sys.argv[1])
from guarded import guarded


class Guarded:
    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        def run(**arguments):
            tensors = {
                name: value
                for name, value in arguments.items()
                if isinstance(value, torch.Tensor) and value.numel()
            }
            for at_end in (False, True):
                copies = {name: guarded(tensor, at_end=at_end) for name, tensor in tensors.items()}
                self.kernel[grid](**{**arguments, **copies})
            for name, tensor in tensors.items():
                tensor.copy_(copies[name])
        return run


launch.KERNELS.update({kind: Guarded(kernel) for kind, kernel in launch.KERNELS.items()})
for lengths in ([2] * 8 + [0] * 8, [0] * 9, [2, 0, 1], None):
    for directions in (1, 2):
        for dtype, input_size in ((torch.float32, 5), (torch.float16, 2)):
            batch, hidden = 3 if lengths is None else len(lengths), 9
            tensors = [
                torch.randn(*shape, dtype=dtype, requires_grad=True)
                for shape in (
                    (2, batch, input_size),
                    (directions, 4 * hidden, input_size),
                    (directions, 4 * hidden, hidden),
                    (directions, 4 * hidden),
                )
            ]
            args = LayerArgs(*tensors, lengths=None if lengths is None else torch.tensor(lengths))
            sum(t.sum() for t in lstm_layer(args, "triton")).backward()
            with torch.no_grad():
                lstm_layer(args, "triton", last_state_only=True)
"""


def test_no_byte_outside_of_the_tensors_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages before and after each tensor that nobody may touch; many sequences have no step."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", GUARDED, HERE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
