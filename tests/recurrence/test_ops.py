"""The operators: registered as torch wants them, traceable, differentiable twice, thread-safe."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import WantedGrads
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs

from .conftest import Case, assert_autocast_only_casts, detached
from .emulated import emulate_cuda


@pytest.fixture(autouse=True)
def _poisoned_memory() -> None:
    """Switch the poisoning off here: opcheck compares whole tensors, unset reserves included."""


@pytest.fixture(params=["cpu", "eager", "triton", "cuda"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each that has its own kernels, or none; where they are for a GPU, without one."""
    if request.param == "cuda":
        emulate_cuda(monkeypatch)
    name: str = request.param
    return name


@pytest.mark.parametrize("lengths", ["none", "equal"])
@pytest.mark.parametrize("num_directions", [1, 2])
def test_opcheck(backend: str, lengths: str, num_directions: int) -> None:
    args, grads = Case(5, 3, 4, 6, num_directions, lengths, states=True).build()
    args = detached(args)._replace(lengths=None if lengths == "none" else torch.tensor([5, 5, 5]))
    torch.library.opcheck(torch.ops.fastrnn.lstm_forward.default, (*args, backend, True))
    torch.library.opcheck(torch.ops.fastrnn.lstm_forward.default, (*args, backend, False))
    y, _, _, reserve = torch.ops.fastrnn.lstm_forward(*args, backend, True)
    wanted = [t is not None for t in args.differentiable]
    for mask in (wanted, [False] * len(wanted), [True, *[False] * (len(wanted) - 1)]):
        torch.library.opcheck(
            torch.ops.fastrnn.lstm_backward.default,
            (*grads, *args, y, reserve, backend, mask),
        )


def test_only_wanted_gradients_are_computed() -> None:
    args, grads = Case(5, 3, 4, 6).build()
    args = detached(args)
    y, _, _, reserve = torch.ops.fastrnn.lstm_forward(*args, "cpu", True)
    for wanted in (WantedGrads(*[False] * 8), WantedGrads(True, *[False] * 7)):
        found = torch.ops.fastrnn.lstm_backward(*grads, *args, y, reserve, "cpu", list(wanted))
        assert [g.numel() > 0 for g in found] == list(wanted)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"y": (4, 3, 6)}, ValueError, r"y has shape \[4, 3, 6\]; it should be \[5, 3, 6\]"),
        ({"reserve": (0,)}, ValueError, r"reserve has shape \[0\]; it should be \[5, 3, 1, 5, 6\]"),
        ({"y": torch.float64}, TypeError, r"y has dtype torch.float64, but x has torch.float32"),
        ({"reserve": torch.float64}, TypeError, r"reserve has dtype torch.float64"),
        ({"grad_y": (1,)}, ValueError, r"grad_y has shape \[1\]; it should be \[5, 3, 6\]"),
        (
            {"grad_h_n": (3, 6)},
            ValueError,
            r"grad_h_n has shape \[3, 6\]; it should be \[1, 3, 6\]",
        ),
        ({"grad_c_n": (1, 3, 5)}, ValueError, r"grad_c_n has shape \[1, 3, 5\]"),
    ],
)
def test_a_program_cannot_hand_less_to_backward_than_kernels_read(
    changed: dict[str, tuple[int, ...] | torch.dtype], error: type[Exception], message: str
) -> None:
    args, grads = Case(5, 3, 4, 6).build()
    args = detached(args)
    y, _, _, reserve = torch.ops.fastrnn.lstm_forward(*args, "cpu", True)
    given = dict(zip(("grad_y", "grad_h_n", "grad_c_n"), grads, strict=True))
    given |= {"y": y, "reserve": reserve}
    for name, change in changed.items():
        wrong = isinstance(change, torch.dtype)
        given[name] = given[name].to(change) if wrong else torch.zeros(change)
    y, reserve = given.pop("y"), given.pop("reserve")
    with pytest.raises(error, match=message):
        torch.ops.fastrnn.lstm_backward(
            *given.values(), *args, y, reserve, "cpu", list(WantedGrads())
        )


def test_the_reserve_may_be_strided() -> None:
    args, grads = Case(5, 3, 4, 6).build()
    args = detached(args)
    y, _, _, reserve = torch.ops.fastrnn.lstm_forward(*args, "cpu", True)
    strided = reserve.transpose(0, 1).contiguous().transpose(0, 1)
    runs = [
        torch.ops.fastrnn.lstm_backward(*grads, *args, y, kept, "cpu", list(WantedGrads()))
        for kept in (reserve, strided)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("backend", ["cpu", "eager"])
def test_gradients_of_gradients(backend: str) -> None:
    args, _ = Case(3, 2, 2, 3, 2, "random", states=True, dtype=torch.float64).build()

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        x, w_ih, w_hh, bias, h_0, c_0 = tensors
        layer = LayerArgs(x, w_ih, w_hh, bias, None, h_0, c_0, lengths=args.lengths)
        return lstm_layer(layer, backend)

    inputs = (args.x, args.w_ih, args.w_hh, args.bias, args.h_0, args.c_0)
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("create_graph", [False, True])
def test_autocast_takes_all_tensors_in_its_dtype(backend: str, create_graph: bool) -> None:
    assert_autocast_only_casts(backend, Case(4, 3, 2, 5, 2, "random", states=True), create_graph)


def test_autocast_leaves_float64_alone() -> None:
    args = detached(Case(4, 3, 2, 5, dtype=torch.float64).build()[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = lstm_layer(args)
    assert all(torch.equal(a, b) for a, b in zip(got, lstm_layer(args), strict=True))


def test_part_of_the_inputs_may_be_frozen() -> None:
    args, _ = Case(4, 2, 3, 5).build()
    args = detached(args)
    args.w_hh.requires_grad_()
    y, h_n, _ = lstm_layer(args)
    (grad,) = torch.autograd.grad(h_n.sum(), [args.w_hh])
    assert grad.shape == args.w_hh.shape
    assert y.requires_grad


def test_nothing_is_kept_for_backward_without_gradients() -> None:
    args, _ = Case(4, 2, 3, 5).build()
    with torch.no_grad():
        y, _, _ = lstm_layer(args)
    assert not y.requires_grad
    _, _, _, reserve = torch.ops.fastrnn.lstm_forward(*detached(args), "cpu", False)
    assert reserve.numel() == 0


# Raised by torch's own tracing of any autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_without_a_graph_break() -> None:
    args, _ = Case(6, 3, 4, 5, 2).build()
    compiled = torch.compile(lstm_layer, backend="aot_eager", fullgraph=True)
    for got, want in zip(compiled(args), lstm_layer(args), strict=True):
        assert torch.equal(got, want)
    inputs = [t for t in args if t is not None]
    got = torch.autograd.grad(compiled(args)[0].square().sum(), inputs, allow_unused=True)
    want = torch.autograd.grad(lstm_layer(args)[0].square().sum(), inputs, allow_unused=True)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)


# Of a trace torch warns itself; so it does of every number that Python sees in one.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*:DeprecationWarning")
def test_a_trace_keeps_lengths_that_were_full_in_its_example() -> None:
    args = detached(Case(10, 4, 3, 5).build()[0])

    def run(lengths: Tensor) -> Tensor:
        return lstm_layer(args._replace(lengths=lengths))[0]

    traced = torch.jit.trace(run, torch.tensor([10, 10, 10, 10]))
    short = torch.tensor([10, 3, 2, 1])
    assert torch.equal(traced(short), run(short))


def gradients_of(run: Callable[..., Tensor], *weights: Tensor) -> tuple[Tensor, ...]:
    leaves = [weight.detach().clone().requires_grad_() for weight in weights]
    return torch.autograd.grad(run(*leaves).square().sum(), leaves)


class Layer(torch.nn.Module):
    """A layer with weights of its own, as programs hold it."""

    def __init__(self, args: LayerArgs) -> None:
        super().__init__()
        self.args = detached(args)._replace(w_ih=None, w_hh=None)  # type: ignore[arg-type]
        self.w_ih, self.w_hh = torch.nn.Parameter(args.w_ih), torch.nn.Parameter(args.w_hh)

    def forward(self, x: Tensor) -> Tensor:
        return lstm_layer(self.args._replace(x=x, w_ih=self.w_ih, w_hh=self.w_hh))[0]


# Of a trace torch warns itself; so it does of every number that Python sees in one.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("made_with_gradients", [False, True])
@pytest.mark.parametrize("kind", ["exported", "traced"])
def test_a_saved_program_can_be_trained(kind: str, made_with_gradients: bool) -> None:
    args = detached(Case(6, 3, 4, 5, 2).build()[0])
    layer, buffer = Layer(args), io.BytesIO()
    with torch.set_grad_enabled(made_with_gradients):
        if kind == "exported":
            torch.export.save(torch.export.export(layer, (args.x,)), buffer)
            buffer.seek(0)
            program = torch.export.load(buffer).module()
        else:
            torch.jit.save(torch.jit.trace(layer, (args.x,)), buffer)
            buffer.seek(0)
            program = torch.jit.load(buffer)
    for module in (layer, program):
        module(args.x).square().sum().backward()
    loaded = dict(program.named_parameters())
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(loaded[name].grad, parameter.grad)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_the_bare_operator_checks_its_arguments(mode: Callable[[], Any]) -> None:
    """Kernels read as many bytes as the shapes promise."""
    args = detached(Case(6, 3, 4, 5, states=True).build()[0])
    wrong = [
        args._replace(w_ih=args.w_ih[..., :2]),
        args._replace(h_0=torch.zeros(1, 1, 5)),
        args._replace(c_0=torch.zeros(1, 3, 5).double()),
        args._replace(lengths=torch.tensor([7, 1, 1])),
    ]
    with mode():
        lstm_layer(args)  # what was checked here is not what comes next
        for bad in wrong:
            with pytest.raises((TypeError, ValueError), match=r"w_ih|h_0|c_0|lengths"):
                torch.ops.fastrnn.lstm_forward(*bad, "cpu", False)


def test_the_bare_operator_has_gradients(backend: str) -> None:
    args = detached(Case(6, 3, 4, 5, 2).build()[0])

    def by_operator(w_ih: Tensor, w_hh: Tensor) -> Tensor:
        inputs = args._replace(w_ih=w_ih, w_hh=w_hh)
        return torch.ops.fastrnn.lstm_forward(*inputs, backend, False)[0]  # type: ignore[no-any-return]

    def by_layer(w_ih: Tensor, w_hh: Tensor) -> Tensor:
        return lstm_layer(args._replace(w_ih=w_ih, w_hh=w_hh), backend)[0]

    want = gradients_of(by_layer, args.w_ih, args.w_hh)
    for got, expected in zip(gradients_of(by_operator, args.w_ih, args.w_hh), want, strict=True):
        assert torch.equal(got, expected)


def test_several_threads_may_call_at_once() -> None:
    args, _ = Case(60, 20, 8, 40, 2).build()
    args = detached(args)
    want = lstm_layer(args)[0]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: lstm_layer(args)[0], range(16)))
    assert all(torch.equal(result, want) for result in results)


def test_the_interpreter_is_free_while_the_kernel_runs() -> None:
    args = detached(Case(20_000, 8, 8, 64).build()[0])
    spans: list[float] = []

    def run() -> None:
        start = time.perf_counter()
        lstm_layer(args)
        spans.append(time.perf_counter() - start)

    thread = threading.Thread(target=run)
    longest, before = 0.0, time.perf_counter()
    thread.start()
    while thread.is_alive():
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
        time.sleep(0)
    thread.join()
    # With the GIL held, this loop would stand still for nearly the whole call.
    assert longest < 0.5 * spans[0]


FORK_SCRIPT = """
import os, sys, torch
from fastrnn import LSTM
torch.set_num_threads(2)
layer, x = LSTM(16, 64, bidirectional=True), torch.randn(100, 32, 16)
want = layer(x)[0].detach()
grad = torch.ones_like(want)
child = os.fork()
if child == 0:  # torch's own threads are gone here: nothing of torch that would use them
    y, _ = layer(x)
    y.backward(grad)
    same = (y.detach().numpy() == want.numpy()).all()
    os._exit(0 if same and layer.weight_hh_l0.grad is not None else 3)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
def test_a_forked_child_computes_without_its_parents_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK_SCRIPT], timeout=60, check=False
    )
    assert done.returncode == 0
