"""The grid of the comparison with other libraries, and the numbers that everybody computes with."""

import numpy as np
import pytest

from benchmarks.cases import LayerCase
from benchmarks.peers.cases import CROSS, GROUPS, PRESETS, SHAPES, Cell, select
from benchmarks.peers.registry import BASELINE, OURS, PEERS
from benchmarks.peers.work import make_work, reorder, valid_steps


def names(preset: str) -> set[str]:
    return {selection.cell.name for selection in select(preset)}


def test_core_has_torch_on_every_shape_in_both_modes() -> None:
    core = {s.cell: s.peers for s in select("core")}
    assert len(SHAPES) == len(set(SHAPES)) == 144
    for shape in SHAPES:
        for training in (False, True):
            assert {OURS, BASELINE} <= set(core[Cell(shape, training, 2)])


def test_core_has_everybody_on_the_cross() -> None:
    core = {s.cell: s.peers for s in select("core")}
    assert len(CROSS) == len(set(CROSS)) == 11
    assert all(core[Cell(shape, False, 2)] == tuple(PEERS) for shape in CROSS)


def test_full_holds_all_of_the_other_presets() -> None:
    assert names("short") | names("core") <= names("full")
    assert len(names("full")) == 144 * 2**4


def test_every_group_is_known() -> None:
    assert {s.cell.group for s in select("full")} == set(GROUPS)


@pytest.mark.parametrize("preset", PRESETS)
def test_cells_come_with_least_arithmetic_first(preset: str) -> None:
    flops = [s.cell.flops for s in select(preset)]
    assert flops == sorted(flops)


def test_a_selection_keeps_what_was_asked_for_and_fastrnn() -> None:
    chosen = select(
        "core", peers=["jax"], modes=["inference"], threads=[2], pattern="H=64, B=32, T=1024"
    )
    assert len(chosen) == 5  # three input sizes, two directions, lengths
    for selection in chosen:
        assert OURS in selection.peers
        assert set(selection.peers) <= {OURS, "jax"}
        assert selection.cell.mode == "inference"


def test_arithmetic_counts_multiply_adds_twice_and_no_padding() -> None:
    layer = LayerCase(3, 5, 2, 7)
    one_step = 2 * 4 * 5 * (3 + 5)
    assert Cell(layer, False, 1).flops == one_step * 2 * 7
    # Backward: the gradients of both weights, and that of the state.
    assert Cell(layer, True, 1).flops == (2 * one_step + 2 * 4 * 5 * 5) * 2 * 7
    variable = LayerCase(3, 5, 16, 64, bidirectional=True, variable=True)
    lengths = make_work(variable, training=False).lengths
    assert lengths is not None
    assert 8 <= lengths.min() < lengths.max() <= 64
    assert valid_steps(variable) == lengths.sum()
    assert Cell(variable, False, 1).flops == one_step * 2 * lengths.sum()


def test_every_process_draws_the_same_numbers() -> None:
    case = LayerCase(3, 5, 4, 16, bidirectional=True, variable=True)
    first, second = make_work(case, training=True), make_work(case, training=True)
    assert first.grad_y is not None
    assert second.grad_y is not None
    for name in ("x", "w_ih", "w_hh", "bias", "grad_y"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.w_ih.shape == (2, 20, 3)
    assert first.grad_y.shape == (16, 4, 10)
    assert first.lengths is not None
    past = np.arange(16)[:, None] >= first.lengths
    assert past.any()
    assert not first.grad_y[past].any()
    assert np.abs(first.grad_y[~past]).min() > 0


def test_gates_are_put_into_another_order() -> None:
    gates = np.repeat(np.arange(4, dtype=np.float32), 2)[None, :, None]  # i, f, g, o
    assert reorder(gates, "iofg")[0, :, 0].tolist() == [0, 0, 3, 3, 1, 1, 2, 2]
