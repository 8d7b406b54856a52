"""The most telling cells come first, and only what fits is planned."""

import pytest

from benchmarks.gpu.plan import (
    Cell,
    Pace,
    all_cells,
    fitting,
    one_of_each_class,
    within_budget,
)

TELLING = {
    "hidden_size": {32, 64, 128},
    "batch_size": {1, 32, 256},
    "input_size": {3, 84},
    "seq_len": {1024},
    "precision": {"fp16", "tf32"},
}


def test_every_combination_is_planned_once() -> None:
    cells = all_cells()
    assert len(cells) == len(set(cells)) == 6 * 4 * 4 * 3 * 4 * 2 * 2
    assert len({cell.name for cell in cells}) == len(cells)


def test_the_most_telling_cells_come_first_and_bring_all_their_modes() -> None:
    cells = all_cells()
    telling = [
        cell
        for cell in cells
        if all(getattr(cell, name) in values for name, values in TELLING.items())
        and not (cell.packed and cell.batch_size == 1)
    ]
    assert cells[: len(telling)] == telling
    first = cells[:4]
    assert len({(cell.packed, cell.training) for cell in first}) == 4
    assert len({cell.shape for cell in first}) == 1


def test_the_penalty_only_grows() -> None:
    penalties = [cell.penalty for cell in all_cells()]
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
