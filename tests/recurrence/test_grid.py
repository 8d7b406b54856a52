"""Whatever share of the grid is run, no pair of values is left out."""

from itertools import combinations, product
from operator import attrgetter

import pytest
import torch

from .conftest import Case
from .grid import DTYPES, HIDDEN_SIZES, Share, share_of_grid

SIZES = ("seq_len", "batch_size", "input_size")
VARIED = (*SIZES, "lengths", "states", "bias")


def cases_of(share: Share, dtype: torch.dtype) -> dict[tuple[int, int], list[Case]]:
    """By hidden size and number of directions."""
    cells = product(HIDDEN_SIZES, (1, 2))
    return {(h, d): list(share_of_grid(share, h, d, dtype)) for h, d in cells}


def assert_all_pairs_meet(cases: list[Case], names: tuple[str, ...], levels: int) -> None:
    for pair in combinations(names, 2):
        values = [{getattr(case, name) for case in cases} for name in pair]
        assert {attrgetter(*pair)(case) for case in cases} == set(product(*values)), pair
    assert sum(len({getattr(case, name) for case in cases}) for name in names) == levels


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("share", Share)
def test_each_pair_of_values_meets_in_each_dtype(share: Share, dtype: torch.dtype) -> None:
    cases = [case for cell in cases_of(share, dtype).values() for case in cell]
    names = (*VARIED, "contiguous", "hidden_size", "num_directions")
    assert_all_pairs_meet(cases, names, levels=4 * 4 + 3 * 2 + 4 + 2)
    assert len(set(cases)) == len(cases)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("share", [Share.ALL, Share.PAIRS])
def test_each_pair_of_sizes_and_options_meets_in_each_cell(
    share: Share, dtype: torch.dtype
) -> None:
    for cases in cases_of(share, dtype).values():
        assert_all_pairs_meet(cases, VARIED, levels=4 * 4 + 2 * 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_shares_are_parts_of_the_whole(dtype: torch.dtype) -> None:
    whole, pairs, few = (cases_of(share, dtype) for share in Share)
    for cell, cases in whole.items():
        assert len({attrgetter(*SIZES)(case) for case in cases}) == len(cases) == 64
        assert set(pairs[cell]) < set(cases)
        assert set(few[cell]) < set(cases)
        assert (len(pairs[cell]), len(few[cell])) == (16, 4)
        for name in (*SIZES, "lengths"):  # even the least has each value once
            assert len({getattr(case, name) for case in few[cell]}) == 4
