"""What a cell could take at best, against numbers worked out by hand."""

from pathlib import Path

import pytest

from benchmarks.cases import LayerCase
from benchmarks.peers.cases import Cell
from benchmarks.peers.limits import limit
from benchmarks.peers.machine import cache_sizes

MACHINE = {
    "sgemm_gflops": {"small": 10.0, "square": 100.0},
    "activation_ns": {"exp": 2.0, "tanh": 1.0},
    "bandwidth_gb_s": {"L2": 200.0, "L3": 40.0, "DRAM": 10.0},
    "cache_bytes": {"L1": 32 * 1024, "L2": 1024 * 1024, "L3": 32 * 1024 * 1024},
}


def test_products_and_activations_add_up() -> None:
    cell = Cell(LayerCase(28, 64, 32, 1024), False, 2)
    found = limit(cell, MACHINE)
    assert found.arithmetic_ms == pytest.approx(cell.flops / 100e9 * 1e3)
    assert found.activation_ms == pytest.approx(5 * 64 * 32 * 1024 * 1e-6 / 2)
    assert found.bound == "computing"
    assert found.ms == found.arithmetic_ms + found.activation_ms


def test_recurrent_weights_cost_nothing_in_the_l1_and_are_read_once_a_step_beyond() -> None:
    assert limit(Cell(LayerCase(3, 32, 1, 128), True, 1), MACHINE).weights_ms == 0
    layer = LayerCase(28, 128, 1, 1000)
    size = 4 * 128 * 128 * 4
    forward = limit(Cell(layer, False, 1), MACHINE)
    assert forward.weights_ms == pytest.approx(1000 * size / 200e9 * 1e3)
    assert limit(Cell(layer, True, 1), MACHINE).weights_ms == pytest.approx(2 * forward.weights_ms)


def test_weights_of_both_directions_may_leave_the_l2() -> None:
    one = limit(Cell(LayerCase(84, 250, 1, 100), False, 1), MACHINE)
    two = limit(Cell(LayerCase(84, 250, 1, 100, bidirectional=True), False, 1), MACHINE)
    assert two.weights_ms == pytest.approx(one.weights_ms * 2 * 200 / 40)


@pytest.mark.parametrize(
    ("steps", "rate"), [(100, 200e9), (10_000, 40e9), (1_000_000, 10e9)], ids=["L2", "L3", "DRAM"]
)
def test_sequences_move_through_the_memory_that_holds_them(steps: int, rate: float) -> None:
    layer = LayerCase(28, 64, 1, steps)
    inference = limit(Cell(layer, False, 1), MACHINE).sequences_ms
    assert inference == pytest.approx(steps * (28 + 64) * 4 / rate * 1e3)
    training = limit(Cell(layer, True, 1), MACHINE).sequences_ms
    assert training == pytest.approx(steps * (2 * 28 + 5 * 64) * 4 / rate * 1e3)


def test_padding_costs_nothing() -> None:
    full = limit(Cell(LayerCase(28, 64, 32, 1024), False, 2), MACHINE)
    variable = limit(Cell(LayerCase(28, 64, 32, 1024, variable=True), False, 2), MACHINE)
    assert 0.3 * full.ms < variable.ms < 0.8 * full.ms


def test_what_is_stored_says_which_part_is_longest() -> None:
    stored = limit(Cell(LayerCase(3, 300, 1, 128), False, 1), MACHINE).as_dict()
    assert stored["bound"] == "weights"
    assert stored["ms"] == stored["weights_ms"] > stored["arithmetic_ms"]


def test_cache_sizes_come_from_the_system(tmp_path: Path) -> None:
    kinds = [("1", "Data", "48K"), ("1", "Instruction", "64K"), ("2", "Unified", "2048K")]
    for index, (level, kind, size) in enumerate(kinds):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(text + "\n")
    sizes = cache_sizes(tmp_path)
    assert sizes[1] == 48 * 1024
    assert sizes[2] == 2 * 1024 * 1024
    assert sizes[3] > sizes[2]  # not told: a usual size
