"""The CPU kernels on calls of few steps, which read the weights where they lie."""

import pytest
import torch

from fastrnn import _cpu
from fastrnn.recurrence.ops import lstm_layer

from .conftest import Case
from .test_backends import ISAS, assert_right, require_isa

# Rows of weights with and without a rest beyond whole vectors; forward in place with up to 6 steps,
# or with 16 where there are many weights, by two threads.
CASES = (
    Case(1, 1, 3, 32),
    Case(2, 3, 7, 21, states=True),
    Case(1, 5, 32, 64, states=True, bias=False),
    Case(3, 2, 16, 48, num_directions=2, lengths="random"),
    Case(4, 4, 16, 32, num_directions=2, lengths="zeros", variants=("reset",)),
    Case(2, 3, 16, 16, variants=("coupled_gates", "recurrent_dropout"), states=True),
    Case(1, 16, 128, 256, states=True),
    Case(4, 4, 100, 250, num_directions=2, lengths="random"),
    Case(1, 6, 32, 64, dtype=torch.float64, states=True),
)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_right(
    case: Case, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_isa(isa)
    monkeypatch.setenv("FASTRNN_CPU_ISA", isa)
    assert_right("cpu", case)


def test_sequences_without_any_step_have_gradients_of_zero() -> None:
    args, grads = Case(4, 2, 16, 32).build()
    args = args._replace(lengths=torch.zeros(2, dtype=torch.int64))
    outputs = lstm_layer(args, "cpu")
    found = torch.autograd.grad(outputs, [args.x, args.w_ih, args.w_hh], list(grads))
    assert all((grad == 0).all() for grad in found)


def workspaces(seq_len: int, batch_size: int) -> tuple[int, int]:
    call = _cpu.Call(
        isa="",
        float64=False,
        seq_len=seq_len,
        batch_size=batch_size,
        input_size=512,
        hidden_size=512,
        num_directions=1,
        num_gates=4,
        lengths=0,
        reset=0,
        state_mask=0,
        num_threads=1,
    )
    return call.forward_workspace(), call.backward_workspace(True, True)


def test_few_steps_need_no_room_for_weights() -> None:
    num_weights = 4 * 512 * 1024
    assert max(workspaces(1, 16)) < num_weights
    assert min(workspaces(17, 1)) > num_weights
