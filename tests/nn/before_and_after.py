"""Holds an accelerated model to what it gave before."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import fastrnn


def outputs_and_gradients(model: nn.Module, *inputs: object) -> list[Tensor]:
    """All outputs, and the gradients of all parameters."""
    found = _tensors(model(*inputs))
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(o.shape, generator=generator, dtype=o.dtype) for o in found]
    loss = sum((o * w).sum() for o, w in zip(found, weights, strict=True))
    return [o.detach() for o in found] + list(torch.autograd.grad(loss, list(model.parameters())))


def _tensors(output: object) -> list[Tensor]:
    if isinstance(output, PackedSequence):
        return [output.data]
    if isinstance(output, tuple):
        return [tensor for part in output for tensor in _tensors(part)]
    assert isinstance(output, Tensor)
    return [output]


def assert_close(got: list[Tensor], want: list[Tensor]) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def assert_same_accelerated_and_stock_again(model: nn.Module, *inputs: object) -> None:
    """The calls give the same before, while and after the model is accelerated."""
    want = outputs_and_gradients(model, *inputs)
    assert fastrnn.accelerate(model).replaced
    assert_close(outputs_and_gradients(model, *inputs), want)
    fastrnn.restore(model)
    for a, b in zip(outputs_and_gradients(model, *inputs), want, strict=True):
        assert torch.equal(a, b)
