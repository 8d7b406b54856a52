"""What holds for every backend with kernels of its own for GPUs, interpreted or emulated here."""

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence.ops import lstm_layer

from .conftest import Case, detached
from .emulated import emulate_cuda


@pytest.fixture(params=["triton", "cuda"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "cuda":
        emulate_cuda(monkeypatch)
    name: str = request.param
    return name


@pytest.mark.parametrize("input_size", [2, 20, 120])
def test_the_last_state_alone_is_the_same_without_an_output(backend: str, input_size: int) -> None:
    args = detached(Case(6, 5, input_size, 8, 2, "zeros", dtype=torch.float16).build()[0])
    _, h_n, c_n = lstm_layer(args, backend)
    y, h_alone, c_alone = lstm_layer(args, backend, last_state_only=True)
    assert y.shape == (0, 5, 16)
    assert torch.equal(h_n, h_alone)
    assert torch.equal(c_n, c_alone)


@pytest.mark.parametrize("directions", [1, 2])
def test_lengths_out_of_range_count_as_the_nearest(
    backend: str, directions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrnn.recurrence.problem.check_lengths", lambda *_: None)
    args, grads = Case(4, 3, 5, 8, directions, "random", states=True).build()
    inputs = [t for t in args.differentiable if t is not None]
    runs = []
    for lengths in ([4, 2, 0], [9, 2, -7]):
        outputs = lstm_layer(args._replace(lengths=torch.tensor(lengths)), backend)
        runs.append((*outputs, *torch.autograd.grad(outputs, inputs, grads)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


# Raised by torch's own tracing of any autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_without_a_graph_break(backend: str) -> None:
    args, _ = Case(4, 3, 4, 5, 2, "random").build()

    def run(x: Tensor) -> Tensor:
        return lstm_layer(args._replace(x=x), backend)[0]

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True, dynamic=True)
    for seq_len in (4, 3):
        x = args.x[:seq_len].detach().requires_grad_()
        args = args._replace(lengths=torch.tensor([seq_len, 1, 2]))
        results = [torch.autograd.grad(f(x).square().sum(), x)[0] for f in (compiled, run)]
        assert torch.equal(*results)
