"""Gradients of gradients through inputs, states and weights, whatever backend runs the layer.

For torch's test_LSTM_grad_and_gradgrad. All backends go to the reference for them. The kernels for
GPUs run without one here: Triton's interpreted, those in CUDA emulated, and cuDNN's stand-in is the
same function of torch on the CPU.
"""

import pytest
import torch
from torch import Tensor

import fastrnn
from fastrnn.recurrence import dispatch
from fastrnn.recurrence.backends.cudnn import CudnnBackend

from ..recurrence.emulated import emulate_cuda
from .side_by_side import assert_equal, flat, make_pair, make_state

# Torch says once that oneDNN, which it uses on the CPU, has no projections.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")


@pytest.fixture(params=["cpu", "eager", "triton", "cuda", "cudnn"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "cuda":
        emulate_cuda(monkeypatch)
    if name == "cudnn":
        others = [backend for backend in dispatch.BACKENDS if backend.name != name]
        monkeypatch.setattr(dispatch, "BACKENDS", (CudnnBackend(), *others))
        monkeypatch.setattr(CudnnBackend, "supports", lambda self, problem: [])
    return name


def second_order(layer: torch.nn.RNNBase, inputs: list[Tensor]) -> list[Tensor]:
    """Outputs, first gradients of a curved loss, and gradients of the sum of their squares."""
    x, h_0, c_0 = inputs
    leaves = [*inputs, *layer.parameters()]
    outputs = flat(layer(x, (h_0, c_0)))
    loss = sum(o.square().sum() for o in outputs)
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
    return [*outputs, *first, *second]


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"bias": False}], ids=str)
def test_every_backend_has_the_second_order_of_stock(
    backend: str, options: dict[str, object]
) -> None:
    """Float32 on a backend against float64 in stock: outputs, first and second gradients."""
    stock, ours = make_pair(3, 8, 2, **options)
    inputs = [torch.randn(4, 3, 3, requires_grad=True), *make_state(ours, 3)]
    doubled = [t.detach().double().requires_grad_() for t in inputs]
    want = [t.float() for t in second_order(stock.double(), doubled)]
    with fastrnn.use_backend(backend):
        got = second_order(ours, inputs)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * b.detach().abs().max().item())


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("backend", ["cpu", "eager", "cudnn"], indirect=True)
def test_gradgradcheck(backend: str, options: dict[str, object]) -> None:
    """Both orders are what differences say, where a backend computes in float64."""
    _, ours = make_pair(4, 4, dtype=torch.float64, **options)
    x = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    h_0, c_0 = make_state(ours, 3)
    names = [name for name, _ in ours.named_parameters()]

    def run(x: Tensor, h_0: Tensor, c_0: Tensor, *weights: Tensor) -> list[Tensor]:
        named = dict(zip(names, weights, strict=True))
        return flat(torch.func.functional_call(ours, named, (x, (h_0, c_0))))

    weights = [p.detach().requires_grad_() for p in ours.parameters()]
    with fastrnn.use_backend(backend):
        assert torch.autograd.gradcheck(run, (x, h_0, c_0, *weights), fast_mode=True)
        assert torch.autograd.gradgradcheck(run, (x, h_0, c_0, *weights), fast_mode=True)


@pytest.mark.parametrize("options", [{"proj_size": 2}, {"lengths": [4, 0, 2]}], ids=str)
def test_projections_and_lengths(options: dict[str, object]) -> None:
    """Second order where kernels end and plain torch goes on, and across padding."""
    lengths = options.pop("lengths", None)
    stock, ours = make_pair(3, 5, 2, dtype=torch.float64, **options)
    inputs = [torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True), *make_state(ours, 3)]
    if lengths is None:
        assert_equal(second_order(ours, inputs), second_order(stock, inputs))
        return
    x, h_0, c_0 = inputs
    weights = tuple(ours.parameters())

    def run(x: Tensor, h_0: Tensor, c_0: Tensor, *_: Tensor) -> list[Tensor]:
        return flat(ours(x, (h_0, c_0), lengths=lengths))

    assert torch.autograd.gradgradcheck(run, (x, h_0, c_0, *weights), fast_mode=True)
