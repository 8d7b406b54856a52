"""What the CUDA kernels may touch: offsets beyond 32 bits, and never memory of others."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import WantedGrads
from fastrnn.recurrence.backends.eager import reference_gradients
from fastrnn.recurrence.gate_gradients import input_gradients
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import Problem

from .conftest import Case, detached
from .emulated import emulated_module
from .guarded import sparse
from .guarded import spread as spread_over

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="maps memory in a way of Linux only"
)

TILE = 8
ROOT = Path(__file__).parents[2]
QUEUE = {"device": 0, "stream": 0}


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


@pytest.mark.parametrize("lengths", ["none", "random"])
@pytest.mark.parametrize("input_size", [4, 100], ids=["fused", "not fused"])
def test_offsets_beyond_two_to_the_31st(lengths: str, input_size: int) -> None:
    native = emulated_module()
    steps, batch, hidden = 3, 1 << 29, 16
    assert steps * batch * 2 * hidden > 2**35  # bytes, and more elements than 2**31 in a step
    few, grads = Case(steps, TILE, input_size, hidden, 2, lengths, states=True).build()
    few = detached(few)
    last = slice(batch - TILE, batch)

    def spread(tensor: Tensor | None, rows: int) -> Tensor:
        return spread_over(tensor, rows, batch)

    order = ends = None
    if few.lengths is not None:
        falling = few.lengths.sort(descending=True)
        order = spread(batch - TILE + falling.indices, 0)
        ends = spread(falling.values.to(torch.int32), 0)
    problem = native.Problem(
        precision="float32", seq_len=steps, batch_size=batch, input_size=input_size,
        hidden_size=hidden, num_directions=2, training=True,
    )  # fmt: skip
    plan = native.make_plan(problem, native.emulated_device)
    assert plan.fuses_input == (input_size == 4)
    bias = few.bias
    assert bias is not None
    share = gates = sparse(steps, batch, 2, hidden, 4)
    if not plan.fuses_input:
        parts = [few.x @ w.t() + b for w, b in zip(few.w_ih, bias, strict=True)]
        by_gate = torch.stack(parts, dim=2).view(steps, TILE, 2, 4, hidden)
        share = spread(by_gate.transpose(3, 4), 1)
    words, back = (
        torch.empty(size // 4, dtype=torch.int32)
        for size in (plan.forward_weight_bytes, plan.backward_weight_bytes)
    )
    x, h_0, c_0 = spread(few.x, 1), spread(few.h_0, 1), spread(few.c_0, 1)
    common = {
        "x": address(x), "bias": address(bias), "share": address(share), "h_0": address(h_0),
        "weights": address(words), "order": address(order), "lengths": address(ends),
    }  # fmt: skip
    y, cells = sparse(steps, batch, 2 * hidden), sparse(steps, batch, 2 * hidden)
    h_n, c_n, grad_h_0, grad_c_0 = (sparse(2, batch, hidden) for _ in range(4))
    # Two kinds of blocks have no order among them, so that the last ones can be run alone.
    native.pack_forward(
        plan, w_ih=address(few.w_ih), w_hh=address(few.w_hh), words=address(words), **QUEUE
    )
    native.pack_backward(plan, w_hh=address(few.w_hh), words=address(back), **QUEUE)
    native.set_first_block(batch // TILE - 1)
    try:
        native.forward(
            plan, c_0=address(c_0), y=address(y), h_n=address(h_n), c_n=address(c_n),
            cells=address(cells), **common, **QUEUE,
        )  # fmt: skip
        native.gates(plan, y=address(y), gates=address(gates), **common, **QUEUE)
        grad_y, grad_h_n, grad_c_n = (spread(grad, 1) for grad in grads)
        native.backward(
            plan, weights=address(back), gates=address(gates), cells=address(cells),
            c_0=address(c_0), order=address(order), lengths=address(ends), grad_y=address(grad_y),
            grad_h_n=address(grad_h_n), grad_c_n=address(grad_c_n), grad_h_0=address(grad_h_0),
            grad_c_0=address(grad_c_0), grad_bias_tiles=0, **QUEUE,
        )  # fmt: skip
    finally:
        native.set_first_block(0)
    want = lstm_layer(few, "eager")
    for got, expected in zip((y, h_n, c_n), want, strict=True):
        torch.testing.assert_close(got[:, last], expected)
    truth = reference_gradients(few, grads, WantedGrads(), create_graph=False)
    of_gates = gates[:, last].transpose(3, 4).reshape(steps, TILE, -1)
    found = input_gradients(
        Problem.from_args(few, training=True), few, y[:, last].contiguous(), of_gates, WantedGrads()
    )._replace(h_0=grad_h_0[:, last], c_0=grad_c_0[:, last])
    for name, expected_grad in zip(truth._fields, truth, strict=True):
        torch.testing.assert_close(getattr(found, name), expected_grad)


GUARDED = """
import itertools
import sys
import pytest
import torch

sys.path.insert(0, sys.argv[1])
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs
from tests.recurrence.emulated import emulate_cuda, emulated_module
from tests.recurrence.guarded import guarded

emulate_cuda(pytest.MonkeyPatch())
native, known, plain_address = emulated_module(), {}, torch.Tensor.data_ptr


def remembered(tensor):
    address = plain_address(tensor)
    known[address] = tensor
    return address


def wrapped(launch):
    def run(plan, *, device, stream, **addresses):
        tensors = {name: known[value] for name, value in addresses.items() if value}
        tensors = {name: tensor for name, tensor in tensors.items() if tensor.numel()}
        for at_end in (False, True):
            copies = {name: guarded(tensor, at_end=at_end) for name, tensor in tensors.items()}
            if "share" in copies and addresses["share"] == addresses.get("gates"):
                copies["gates"] = copies["share"]
            launch(plan, device=device, stream=stream,
                   **{name: plain_address(copies[name]) if name in copies else 0
                      for name in addresses})
        for name, tensor in tensors.items():
            tensor.copy_(copies[name])
    return run


torch.Tensor.data_ptr = remembered
for name in ("pack_forward", "pack_backward", "forward", "gates", "backward"):
    setattr(native, name, wrapped(getattr(native, name)))
lengths = ([2] * 8 + [0] * 8, [0] * 9, [2, 0, 1], None)
kinds = ((torch.float32, 5, 9), (torch.float16, 2, 9), (torch.float16, 3, 36),
         (torch.bfloat16, 97, 70))
for rows, directions, (dtype, input_size, hidden) in itertools.product(lengths, (1, 2), kinds):
    batch = 3 if rows is None else len(rows)
    shapes = ((2, batch, input_size), (directions, 4 * hidden, input_size),
              (directions, 4 * hidden, hidden), (directions, 4 * hidden))
    tensors = [torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes]
    args = LayerArgs(*tensors, lengths=None if rows is None else torch.tensor(rows))
    known.clear()
    sum(t.sum() for t in lstm_layer(args, "cuda")).backward()
    with torch.no_grad():
        lstm_layer(args, "cuda", last_state_only=True)
print("all", len(lengths) * 2 * len(kinds))
"""


def test_no_byte_outside_of_the_tensors_is_touched() -> None:
    """Pages before and after each tensor that nobody may touch; many sequences have no step."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", GUARDED, str(ROOT)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "all 32\n"
