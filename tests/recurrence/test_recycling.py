"""Memory of a backward pass serves the next forward pass, and nobody notices."""

import copy
import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import fastrnn
from fastrnn.recurrence.backends import recycling

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    gc.collect()
    recycling._kept.clear()
    monkeypatch.setattr(recycling, "SMALLEST", MIB)
    monkeypatch.setattr(recycling, "LIMIT", 10 * MIB)
    yield
    recycling._kept.clear()


def block(mebibytes: float) -> Tensor:
    return recycling.empty(torch.empty(0), (round(mebibytes * MIB / 4),))


def kept() -> list[int]:
    return [tensor.numel() // MIB for tensor in recycling._kept.values()]


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    tensor = block(2)
    address, view = tensor.data_ptr(), tensor[5:].reshape(-1)
    del tensor
    assert kept() == []
    del view
    assert kept() == [2]
    assert block(1.5).data_ptr() == address


def test_small_and_much_smaller_tensors_take_fresh_memory() -> None:
    tensor = block(4)
    del tensor
    small, smaller = block(0.5), block(1.5)
    assert kept() == [4]
    del small, smaller
    assert kept() == [4, 1]


def test_the_oldest_blocks_are_dropped_beyond_the_limit() -> None:
    first, second, third = block(3), block(4), block(5)
    del first, second
    assert kept() == [3, 4]
    del third
    assert kept() == [4, 5]
    too_large = block(11)
    del too_large
    assert kept() == []


def test_dtype_and_shape_are_those_asked_for() -> None:
    tensor = recycling.empty(torch.empty(0, dtype=torch.float64), (3, MIB))
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.float64, (3, MIB))
    assert tensor.is_contiguous()


def gradients(layer: fastrnn.LSTM, x: Tensor, times: int = 1) -> list[Tensor]:
    layer.zero_grad()
    loss = layer(x)[0].square().mean()
    for _ in range(times):
        loss.backward(retain_graph=True)
    return [p.grad.clone() for p in layer.parameters() if p.grad is not None]


def test_training_steps_in_recycled_memory_give_the_same_gradients() -> None:
    layer = fastrnn.LSTM(3, 32)
    inputs = [torch.randn(length, 16, 3) for length in (200, 150, 200, 180)]
    found = [gradients(layer, x) for x in inputs]
    assert kept()
    recycling._kept.clear()
    fresh = []
    for x in inputs:
        fresh.append(gradients(copy.deepcopy(layer), x))
        recycling._kept.clear()
    for some, others in zip(found, fresh, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_a_graph_that_lives_keeps_its_memory() -> None:
    layer = fastrnn.LSTM(3, 32)
    x, other = torch.randn(200, 16, 3), torch.randn(200, 16, 3)
    expected = gradients(layer, x, times=2)
    layer.zero_grad()
    loss = layer(x)[0].square().mean()
    loss.backward(retain_graph=True)
    layer(other)[0].square().mean()  # would overwrite memory that is still needed
    loss.backward()
    found = [p.grad for p in layer.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
