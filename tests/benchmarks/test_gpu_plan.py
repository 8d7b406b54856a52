"""The most telling cells come first, and only what fits is planned."""

from dataclasses import replace

import pytest

from benchmarks.gpu.plan import (
    AXES,
    FIRST_CELLS,
    Cell,
    Pace,
    all_cells,
    fitting,
    one_of_each_class,
    representatives,
    within_budget,
)

# What speed has of the eight minutes, and torch, cuda, triton, cudnn and auto.
SPEED_SECONDS, PEERS = 90.0, 5
TWO_DIRECTIONS = 4


def test_every_combination_is_planned_once() -> None:
    cells = all_cells()
    assert len(cells) == len(set(cells)) == 6 * 4 * 4 * 3 * 4 * 2 * 2 + TWO_DIRECTIONS
    assert len({cell.name for cell in cells}) == len(cells)


def test_the_most_telling_cells_come_first_and_bring_all_their_modes() -> None:
    first = all_cells()[:FIRST_CELLS]
    assert {cell.penalty for cell in first} == {0}
    assert {cell.precision for cell in first} == {"fp16", "tf32"}
    assert {cell.input_size for cell in first} == {3, 84}
    for cells in (first[n : n + 4] for n in range(0, FIRST_CELLS, 4)):
        assert len({(cell.packed, cell.training) for cell in cells}) == 4
        assert len({cell.shape for cell in cells}) == 1


def test_the_usual_time_sees_every_value_of_every_axis() -> None:
    chosen = within_budget(all_cells(), SPEED_SECONDS, PEERS)
    for axis, values in AXES.items():
        assert {getattr(cell, axis) for cell in chosen} == set(values), axis
    two = [cell for cell in chosen if cell.num_directions == 2]
    assert len({(cell.packed, cell.training) for cell in two}) == TWO_DIRECTIONS
    # Training the largest layer in 32 bits alone would take longer; it needs too much memory, too.
    too_long = [c for c in all_cells() if c.seconds(PEERS) > SPEED_SECONDS]
    largest = {(c.hidden_size, c.batch_size, c.seq_len, c.training) for c in too_long}
    assert largest == {(1024, 1024, 8192, True)}
    assert {c.precision for c in too_long} == {"fp32", "tf32"}
    assert not fitting(too_long, 140 * 2**30)


def test_an_index_of_32_bits_would_be_found_out_where_kernels_are_fused() -> None:
    chosen = within_budget(all_cells(), SPEED_SECONDS, PEERS)
    many = [c for c in fitting(chosen, 78 * 2**30) if c.gate_elements > 2**31]
    assert any(cell.hidden_size <= 128 and cell.training for cell in many)


def test_auto_is_measured_on_one_cell_of_everything() -> None:
    for axis, values in AXES.items():
        met = {getattr(cell, axis) for cell in all_cells() if cell.measures_auto}
        assert met == set(values), axis
    assert all(cell.measures_auto for cell in representatives())
    assert sum(cell.measures_auto for cell in all_cells()) < 100


def test_after_one_of_everything_the_penalty_only_grows() -> None:
    rest = [cell for cell in all_cells()[FIRST_CELLS:] if cell not in representatives()]
    penalties = [cell.penalty for cell in rest]
    assert penalties == sorted(penalties)


def test_what_does_not_fit_into_memory_is_left_out() -> None:
    large = Cell(128, 1024, 1024, 8192, "fp32", packed=False, training=True)
    small = Cell(3, 64, 32, 1024, "fp16", packed=False, training=True)
    memory = 140 * 2**30
    assert fitting([large, small], memory) == [small]
    assert fitting([large, small], None) == [large, small]
    assert large.bytes_needed > memory > 1000 * small.bytes_needed


def test_a_budget_is_kept_and_a_long_cell_does_not_keep_out_a_short_one() -> None:
    long = Cell(128, 1024, 1024, 8192, "fp32", packed=True, training=True)
    short = Cell(3, 64, 32, 1024, "fp16", packed=False, training=False)
    budget = long.seconds(4) - 1
    assert within_budget([long, short], budget, 4) == [short]
    chosen = within_budget(all_cells(), 120, 4)
    assert 30 < len(chosen) < 300
    assert sum(cell.seconds(4) for cell in chosen) <= 120


def test_longer_calls_get_fewer_rounds_but_cost_more() -> None:
    cells = [Cell(84, 512, 256, t, "fp16", packed=False, training=True) for t in (256, 1024, 8192)]
    seconds = [cell.seconds(4) for cell in cells]
    calls = [cell.call_ms() for cell in cells]
    assert seconds == sorted(seconds)
    assert calls[2] / calls[0] > seconds[2] / seconds[0]


def test_the_pace_follows_what_cells_really_take() -> None:
    pace = Pace()
    pace.learn(1.0, 3.0)
    assert pace.factor == pytest.approx(3.0)
    pace.learn(1.0, 1.0)
    assert pace.factor == pytest.approx(2.0)
    pace.learn(1.0, 1000.0)
    assert pace.factor == 5.0


def test_one_cell_stands_for_its_class() -> None:
    cells = [Cell(i, 64, 32, 1024, "fp16", packed=False, training=True) for i in (84, 3)]
    assert one_of_each_class(cells) == cells[:1]


@pytest.mark.parametrize(
    "other",
    [{"input_size": 128}, {"batch_size": 256}, {"batch_size": 1}, {"num_directions": 2}],
    ids=str,
)
def test_a_class_is_as_narrow_as_torchs_choice_of_a_kernel(other: dict[str, int]) -> None:
    cell = Cell(84, 256, 32, 1024, "fp16", packed=False, training=True)
    assert one_of_each_class([cell, replace(cell, **other)]) == [cell, replace(cell, **other)]
    # Packed, torch takes the same one for every batch.
    packed = replace(cell, packed=True)
    assert len(one_of_each_class([packed, replace(packed, batch_size=256)])) == 1


def test_both_directions_cost_more_time_and_memory() -> None:
    one = Cell(84, 64, 32, 1024, "fp16", packed=False, training=True)
    two = replace(one, num_directions=2)
    assert two.name == "I=84, H=64, B=32, T=1024, D=2, fp16, padded, forward+backward"
    assert two.call_ms() > one.call_ms()
    assert two.bytes_needed > one.bytes_needed
    assert two.gate_elements == 2 * one.gate_elements
