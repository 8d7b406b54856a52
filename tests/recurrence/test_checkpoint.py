"""States at every K-th step instead of all: the numbers of the whole layer, in less memory."""

import functools
import math
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastrnn.recurrence import verification
from fastrnn.recurrence.backends import CpuBackend, CudnnBackend, EagerBackend
from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import VARIANTS, LayerArgs, Problem

from .conftest import Case, assert_autocast_only_casts, detached
from .emulated import emulate_cuda

ON_CPU_KERNELS = {"coupled_gates", "reset", "recurrent_dropout"}


@pytest.fixture(params=["cpu", "eager", "triton", "cuda", "cudnn"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of them; those for a GPU interpreted, emulated, or on what torch has for the CPU."""
    if request.param == "cuda":
        emulate_cuda(monkeypatch)
    if request.param == "cudnn":
        monkeypatch.setattr(CudnnBackend, "supports", lambda self, problem: [])
    name: str = request.param
    return name


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the kernels on the CPU ran: forward alone, forward for backward, backward."""
    counts: Counter[str] = Counter()
    forward, backward = CpuBackend.forward, CpuBackend.backward

    def counted_forward(self: CpuBackend, problem: Any, args: LayerArgs) -> Any:
        counts["for backward" if problem.training else "alone"] += 1
        return forward(self, problem, args)

    def counted_backward(self: CpuBackend, *args: Any) -> Any:
        counts["backward"] += 1
        return backward(self, *args)

    monkeypatch.setattr(CpuBackend, "forward", counted_forward)
    monkeypatch.setattr(CpuBackend, "backward", counted_backward)
    return counts


def results(
    args: LayerArgs, grads: OutputGrads, backend: str | None = None, **options: Any
) -> list[Tensor]:
    """Outputs, and the gradient of each input that asks for one."""
    outputs = lstm_layer(args, backend, **options)
    inputs = [t for t in args.differentiable if t is not None and t.requires_grad]
    pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
    found = torch.autograd.grad([o for o, _ in pairs], inputs, [g for _, g in pairs])
    return [*outputs, *found]


def assert_close(got: list[Tensor], want: list[Tensor]) -> None:
    """Equal up to rounding in float64, in units of the largest value of a tensor."""
    for a, b in zip(got, want, strict=True):
        largest = max(1.0, float(b.detach().abs().max())) if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * largest)


@given(
    seq_len=st.integers(1, 12),
    every=st.integers(1, 13),
    batch_size=st.integers(1, 6),
    input_size=st.integers(1, 20),
    hidden_size=st.integers(1, 20),
    num_directions=st.integers(1, 2),
    lengths=st.sampled_from(["none", "random", "zeros", "equal"]),
    states=st.booleans(),
    bias=st.booleans(),
    contiguous=st.booleans(),
    variants=st.sets(st.sampled_from(VARIANTS)).map(tuple),
    seed=st.integers(0, 2**31),
)
def test_random_layers_are_as_without(every: int, **options: Any) -> None:
    case = Case(**options, dtype=torch.float64)
    backend = "cpu" if set(case.variants) <= ON_CPU_KERNELS else "eager"
    built = case.build()
    got = results(*built, backend, checkpoint_every=every)
    assert_close(got, results(*built, backend))


@functools.cache
def expected(dtype: torch.dtype) -> tuple[LayerArgs, OutputGrads, verification.Expectation]:
    args, grads = Case(7, 5, 4, 6, 2, "zeros", states=True, dtype=dtype).build()
    return args, grads, verification.expect(args, grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_backend_is_right(
    backend: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the bound that holds without: rounding at the segments' ends must not add up."""
    checkpointed = functools.partial(lstm_layer, checkpoint_every=3)
    monkeypatch.setattr(verification, "lstm_layer", checkpointed)
    checks = verification.verify(backend, *expected(dtype))
    assert not [str(check) for check in checks if not check.ok]


def test_sums_over_segments_do_not_come_to_a_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they would in bfloat16, after 256 equal terms; with a backend that computes in it."""
    monkeypatch.setattr(CudnnBackend, "supports", lambda self, problem: [])
    bias = torch.zeros(1, 4, requires_grad=True)
    args = LayerArgs(torch.zeros(600, 1, 1), torch.zeros(1, 4, 1), torch.zeros(1, 4, 1), bias)
    (want,) = torch.autograd.grad(lstm_layer(args, "eager")[0].sum(), bias)
    y, _, _ = lstm_layer(args.map(Tensor.bfloat16), "cudnn", checkpoint_every=1)
    (got,) = torch.autograd.grad(y.sum(), bias)
    torch.testing.assert_close(got, want, rtol=0.01, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_outputs_are_the_same_bits(dtype: torch.dtype) -> None:
    """With lengths too, forwards; backwards rows then meet others in the kernels' tiles.

    Segments of few steps, over all rows, read the weights in place: they add up in another order.
    """
    for case in (
        Case(12, 5, 4, 9, 2, states=True, dtype=dtype),
        Case(12, 5, 4, 9, 1, "zeros", dtype=dtype, variants=("reset",)),
    ):
        args, grads = case.build()
        got, want = results(args, grads, "cpu", checkpoint_every=4), results(args, grads, "cpu")
        assert all(torch.equal(a, b) for a, b in zip(got[:3], want[:3], strict=True))


def test_padding_is_never_read() -> None:
    args, grads = Case(8, 5, 3, 6, 2, "zeros", dtype=torch.float64).build()
    assert args.lengths is not None
    assert grads.y is not None
    outside = torch.arange(8)[:, None] >= args.lengths[None, :]
    want = results(args, grads)
    with torch.no_grad():
        args.x[outside] = torch.nan
        grads.y[outside] = torch.nan
    assert_close(results(args, grads, checkpoint_every=3), want)


def test_both_directions_are_cut_where_two_segments_meet() -> None:
    args, grads = Case(9, 3, 2, 4, 2, states=True, dtype=torch.float64).build()
    reset = torch.zeros(9, 3, dtype=torch.bool)
    reset[[3, 6], [0, 1]] = True
    for lengths in (None, torch.tensor([9, 6, 2])):  # 6: a reset right after the end cuts nothing
        args = args._replace(reset=reset, lengths=lengths)
        assert_close(results(args, grads, checkpoint_every=3), results(args, grads, "eager"))


@pytest.mark.parametrize("given_grads", [(0,), (1,), (2,), (0, 2)], ids=str)
def test_outputs_without_a_gradient(given_grads: tuple[int, ...]) -> None:
    args, grads = Case(7, 3, 2, 4, 2, "random", states=True, dtype=torch.float64).build()
    grads = OutputGrads(*(g if i in given_grads else None for i, g in enumerate(grads)))
    assert_close(results(args, grads, checkpoint_every=2), results(args, grads))


@pytest.mark.parametrize("wanted", [("x",), ("w_hh",), ("bias", "h_0"), ("norm", "c_0")], ids=str)
def test_part_of_the_inputs_may_be_frozen(wanted: tuple[str, ...]) -> None:
    variants = ("layer_norm",) if "norm" in wanted else ()
    case = Case(7, 3, 2, 4, 2, "zeros", states=True, dtype=torch.float64, variants=variants)
    args, grads = case.build()
    args = detached(args)
    for name in wanted:
        getattr(args, name).requires_grad_()
    got, want = results(args, grads, checkpoint_every=2), results(args, grads)
    assert len(got) == 3 + len(wanted)
    assert_close(got, want)


def test_nothing_is_cut_where_no_gradients_are_asked_for(passes: Counter[str]) -> None:
    args, _ = Case(9, 2, 3, 4, 2).build()
    with torch.no_grad():
        lstm_layer(args, checkpoint_every=2)
    lstm_layer(detached(args), checkpoint_every=2)
    assert passes == {"alone": 2}


def test_a_layer_of_one_segment_is_not_run_again(passes: Counter[str]) -> None:
    args, grads = Case(9, 2, 3, 4, 2).build()
    results(args, grads, checkpoint_every=9)
    assert passes == {"for backward": 1, "backward": 1}


def test_each_segment_runs_forward_twice_and_backward_once(passes: Counter[str]) -> None:
    args, grads = Case(9, 2, 3, 4, 2).build()
    results(args, grads, checkpoint_every=4)  # of 3 segments, in 2 directions
    assert passes == {"alone": 6, "for backward": 6, "backward": 6}


def test_a_backend_that_runs_forward_in_backward_is_not_run_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []
    forward = EagerBackend.forward

    def counted(self: EagerBackend, problem: Any, args: LayerArgs) -> Any:
        runs.append(problem.seq_len)
        return forward(self, problem, args)

    monkeypatch.setattr(EagerBackend, "forward", counted)
    args, grads = Case(9, 2, 3, 4).build()
    results(args, grads, "eager", checkpoint_every=4)
    assert runs == [4, 4, 1]


def test_the_last_state_alone_needs_no_output() -> None:
    args, grads = Case(9, 3, 2, 4, 2, "zeros", dtype=torch.float64).build()
    grads = grads._replace(y=None)
    got = results(args, grads, checkpoint_every=4, last_state_only=True)
    assert got[0].shape == (0, 3, 8)
    assert got[0].untyped_storage().nbytes() == 0
    assert_close(got[1:], results(args, grads)[1:])
    # A program may add up all that it gets.
    y, h_n, _ = lstm_layer(args, checkpoint_every=4, last_state_only=True)
    assert torch.autograd.grad(h_n.sum() + y.sum(), args.x)[0].any()


def test_the_output_may_be_changed_before_backward() -> None:
    args, grads = Case(9, 3, 2, 4, dtype=torch.float64).build()
    want = torch.autograd.grad(lstm_layer(args)[0].square(), args.x, grads.y)[0]
    y = lstm_layer(args, checkpoint_every=4)[0]
    assert_close([torch.autograd.grad(y.square_(), args.x, grads.y)[0]], [want])


@pytest.mark.parametrize(("batch_size", "input_size"), [(0, 2), (3, 0)])
def test_nothing_to_run(batch_size: int, input_size: int) -> None:
    case = Case(9, batch_size, max(input_size, 1), 4, 2, states=True, dtype=torch.float64)
    args, grads = case.build()
    args = args._replace(x=args.x[..., :input_size], w_ih=args.w_ih[..., :input_size])
    assert_close(results(args, grads, checkpoint_every=4), results(args, grads))


def test_backward_again() -> None:
    args, grads = Case(9, 3, 2, 4, 2, dtype=torch.float64).build()
    outputs = lstm_layer(args, checkpoint_every=4)
    once, again = (torch.autograd.grad(outputs, args.x, grads, retain_graph=True) for _ in "12")
    assert torch.equal(once[0], again[0])


def test_gradients_of_gradients() -> None:
    args, _ = Case(5, 2, 2, 3, 2, "random", states=True, dtype=torch.float64).build()

    def run(x: Tensor, w_hh: Tensor, c_0: Tensor) -> tuple[Tensor, ...]:
        return lstm_layer(args._replace(x=x, w_hh=w_hh, c_0=c_0), checkpoint_every=2)

    inputs = (args.x, args.w_hh, args.c_0)
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_autocast_takes_all_tensors_in_its_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointed = functools.partial(lstm_layer, checkpoint_every=2)
    monkeypatch.setitem(assert_autocast_only_casts.__globals__, "lstm_layer", checkpointed)
    assert_autocast_only_casts("cpu", Case(5, 3, 2, 5, 2, "random", states=True))


def test_operators_are_registered_as_torch_wants_them() -> None:
    torch.utils.deterministic.fill_uninitialized_memory = False  # opcheck compares all elements
    args, grads = Case(7, 3, 4, 6, 2, "equal", states=True, dtype=torch.bfloat16).build()
    args, operators = detached(args), torch.ops.fastrnn
    for last_state_only in (False, True):
        options = ("cpu", True, last_state_only, 3)
        torch.library.opcheck(operators.lstm_forward.default, (*args, *options))
        y, _, _, reserve = operators.lstm_forward(*args, *options)
        assert y.shape[0] == (0 if last_state_only else 7)
        wanted = [t is not None for t in args.differentiable]
        inputs = (*grads, *args, y.new_empty(0), reserve, "cpu", wanted, 3)
        torch.library.opcheck(operators.lstm_backward.default, inputs)


_TRAINING_STEP = """
import sys, torch, fastrnn
T, B, H = 20_000, 8, 64

def peak():  # in bytes
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

layer = fastrnn.LSTM(3, H, checkpoint_every=eval(sys.argv[1]))
last_state_only = sys.argv[2] == "last"

def step(seq_len):
    y, (h_n, _) = layer(torch.randn(seq_len, B, 3), last_state_only=last_state_only)
    (h_n if last_state_only else y).mean().backward()

step(256)  # whatever torch allocates once
before = peak()
step(T)
print((peak() - before) / (4 * T * B * H))
"""


def memory_of_a_training_step(checkpoint_every: int | None, kind: str) -> float:
    """Growth of a process's peak memory in one step, in units of the output's size."""
    command = [sys.executable, "-W", "ignore", "-c", _TRAINING_STEP, str(checkpoint_every), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's memory from /proc")
def test_memory_of_a_training_step() -> None:
    """A segment of 500 steps, of 20,000, on top of the output and its gradient."""
    assert memory_of_a_training_step(500, "all") < 3
    assert memory_of_a_training_step(500, "last") < 1  # without output and gradient
    # The test can see what is saved: the reserve, in units of the output.
    args = detached(Case(100, 8, 3, 64).build()[0])
    reserve = CpuBackend().reserve_shape(Problem.from_args(args, training=True))
    kept = math.prod(reserve) / (100 * 8 * 64)
    assert memory_of_a_training_step(None, "all") > 1.5 + kept > 2.5
