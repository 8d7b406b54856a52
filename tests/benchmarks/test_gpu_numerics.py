"""Precision and poison are lent, and given back."""

import pytest
import torch

from benchmarks.gpu.numerics import DTYPES, arithmetic, poisoned_memory, relative_distance
from fastrnn.recurrence.precision import rnn_allows_tf32


@pytest.mark.parametrize("precision", DTYPES)
def test_torch_may_use_tf32_for_tf32_alone(precision: str) -> None:
    before = rnn_allows_tf32()
    with arithmetic(precision) as dtype:
        assert dtype == DTYPES[precision]
        assert rnn_allows_tf32() == (precision == "tf32")
    assert rnn_allows_tf32() == before


def test_memory_is_poisoned_for_a_while() -> None:
    with poisoned_memory():
        assert torch.empty(8).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_nan_is_never_near() -> None:
    a = torch.tensor([3.0, 4.0])
    assert relative_distance(a * 1.1, a) == pytest.approx(0.1, rel=1e-3)
    assert relative_distance(torch.zeros(2), torch.zeros(2)) == 0.0
    assert not relative_distance(torch.full((2,), torch.nan), a) <= 1.0
