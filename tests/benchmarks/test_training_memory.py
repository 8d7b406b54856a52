"""The benchmark of training memory: each number from a process of its own, of right gradients."""

import math
import sys

import pytest
import torch

import fastrnn
from benchmarks import training_memory
from benchmarks.training_memory import OURS, STEPS, STOCK, Subject
from fastrnn.recurrence.backends import CpuBackend
from fastrnn.recurrence.problem import LayerArgs, Problem

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")

SIZES = {"input_size": 3, "hidden_size": 64, "batch_size": 8, "seq_len": 4096}


def test_what_is_kept_is_measured_to_the_page() -> None:
    """What the backend says that it keeps, and the output."""
    args = LayerArgs(torch.randn(4096, 8, 3), torch.randn(1, 256, 3), torch.randn(1, 256, 64))
    reserve = CpuBackend().reserve_shape(Problem.from_args(args, training=True))
    bytes_known = 4 * (math.prod(reserve) + 4096 * 8 * 64)
    assert 1 <= training_memory.measured("kept", OURS, SIZES)["bytes"] / bytes_known < 1.05


def test_a_step_is_measured_in_its_own_process() -> None:
    cell = training_memory.measured("step", Subject(checkpoint_every=512), SIZES)
    output = 4 * 4096 * 8 * 64
    assert output < cell["growth_bytes"] < cell["process_bytes"]
    assert cell["ms"] > 0


def test_rows_have_names_of_their_own_and_those_not_measured_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [subject.name for subject in STEPS[:3]] == [
        "nn.LSTM",
        "fastrnn.LSTM",
        "checkpoint_every=256",
    ]
    assert len({subject.name for subject in STEPS}) == len(STEPS)
    cells = {"step; nn.LSTM": {"growth_bytes": 3 * 2**20, "process_bytes": 2**30, "ms": 2.5}}
    cells["step; nn.LSTM"]["environment"] = {"cpu": "C", "threads": 1, "torch": "2"}  # type: ignore[assignment]
    monkeypatch.setattr(training_memory, "load", lambda path: cells)
    table = training_memory.steps_table()
    assert "| `nn.LSTM` | 3 MiB | 1,024 MiB | 2.5 ms |" in table
    assert "| `checkpoint_every=256` | not measured | not measured | not measured |" in table


def test_wrong_gradients_are_not_reported() -> None:
    layer = fastrnn.LSTM(3, 64)  # of other weights
    with pytest.raises(AssertionError, match="not close"):
        training_memory.check(OURS, layer, SIZES)
    assert STOCK.build(3, 64).weight_ih_l0.equal(OURS.build(3, 64).weight_ih_l0)  # type: ignore[arg-type, operator]
    training_memory.check(OURS, OURS.build(3, 64), SIZES)
