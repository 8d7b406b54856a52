"""Torch's LSTM as a backend, on the CPU: all but the device is as on a GPU."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence import dispatch
from fastrnn.recurrence.backends import cudnn
from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.backends.cudnn import CudnnBackend
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.reference import lstm_reference
from fastrnn.recurrence.verification import verify

from .conftest import Case, assert_autocast_only_casts

BACKEND = "cudnn"
CAPTURING = "fastrnn.recurrence.backends.cudnn.is_capturing"
# Torch says once that oneDNN, which it uses on the CPU, has no projections.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")


@pytest.fixture
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the backend, for every device."""
    others = [backend for backend in dispatch.BACKENDS if backend.name != BACKEND]
    monkeypatch.setattr(dispatch, "BACKENDS", (CudnnBackend(), *others))
    monkeypatch.setattr(CudnnBackend, "supports", lambda self, problem: [])


on_cpu = pytest.mark.usefixtures("_on_cpu")


def with_projection(args: LayerArgs, grads: OutputGrads) -> tuple[LayerArgs, OutputGrads]:
    """The same call with a recurrent state half as wide."""
    rng = torch.Generator().manual_seed(1)

    def cut(tensor: Tensor) -> Tensor:
        return tensor.detach()[..., :size].clone()

    num_directions, _, hidden_size = args.w_hh.shape
    size = (hidden_size + 1) // 2
    w_hr = torch.randn(num_directions, size, hidden_size, generator=rng, dtype=args.x.dtype)
    assert grads.y is not None
    assert grads.h_n is not None
    return args._replace(
        w_hh=cut(args.w_hh).requires_grad_(),
        w_hr=(w_hr * hidden_size**-0.5).requires_grad_(),
        h_0=None if args.h_0 is None else cut(args.h_0).requires_grad_(),
    ), grads._replace(y=grads.y[..., : num_directions * size], h_n=cut(grads.h_n))


def assert_right(args: LayerArgs, grads: OutputGrads) -> None:
    bad = [str(check) for check in verify(BACKEND, args, grads) if not check.ok]
    assert not bad, "; ".join(bad)


def inputs_of(args: LayerArgs) -> list[Tensor]:
    return [t for t in args.differentiable if t is not None and t.requires_grad]


def gpu_problem(**changes: Any) -> Problem:
    args, _ = Case(3, 2, 4, 6).build()
    problem = Problem.from_args(args, training=False)
    return replace(problem, device=torch.device("cuda"), **changes)


@on_cpu
@pytest.mark.parametrize("projection", [False, True], ids=["plain", "projected"])
@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("lengths", ["none", "random", "zeros", "equal"])
def test_every_option(lengths: str, num_directions: int, projection: bool) -> None:
    cases = [
        (torch.float32, False, True),
        (torch.float64, True, False),
        (torch.float32, True, True),
    ]
    for seed, (dtype, states, bias) in enumerate(cases):
        case = Case(
            5, 4, 3, 7, num_directions, lengths, states, bias,
            contiguous=seed != 2, dtype=dtype, seed=seed,
        )  # fmt: skip
        built = case.build()
        assert_right(*(with_projection(*built) if projection else built))


@on_cpu
@pytest.mark.parametrize("lengths", ["none", "random"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_16_bits(dtype: torch.dtype, lengths: str) -> None:
    assert_right(*Case(9, 5, 6, 12, 2, lengths, states=True, dtype=dtype).build())


@on_cpu
def test_one_unit_one_sequence_and_one_step() -> None:
    assert_right(*Case(1, 1, 1, 1, 1, "random").build())
    assert_right(*Case(1, 3, 1, 1, 2, "zeros", states=True).build())


@on_cpu
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=["int32", "int64"])
@pytest.mark.parametrize("values", [(6, 6, 6), (0, 6, 6), (6, 2, 0)], ids=str)
def test_chosen_lengths(values: tuple[int, ...], dtype: torch.dtype) -> None:
    args, grads = Case(6, 3, 4, 5, 2, states=True).build()
    assert_right(args._replace(lengths=torch.tensor(values, dtype=dtype)), grads)


@on_cpu
@pytest.mark.parametrize("states", [False, True])
def test_a_batch_without_any_step_is_differentiable(states: bool) -> None:
    args, grads = Case(4, 3, 2, 5, 2, states=states).build()
    args = args._replace(lengths=torch.zeros(3, dtype=torch.int64))
    y, h_n, c_n = lstm_layer(args, BACKEND)
    assert (y == 0).all()
    if args.h_0 is not None and args.c_0 is not None:
        assert torch.equal(h_n, args.h_0)
        assert torch.equal(c_n, args.c_0)
    weights = [args.x, args.w_ih, args.w_hh, args.bias]
    found = torch.autograd.grad([y, h_n, c_n], weights, grads)
    assert all((grad == 0).all() for grad in found)


@on_cpu
def test_padding_is_never_read() -> None:
    args, grads = Case(8, 5, 3, 6, 2, "zeros").build()
    assert args.lengths is not None
    assert grads.y is not None
    outside = torch.arange(8)[:, None] >= args.lengths[None, :]
    with torch.no_grad():
        args.x[outside] = torch.nan
        grads.y[outside] = torch.nan
    outputs = lstm_layer(args, BACKEND)
    found = torch.autograd.grad(outputs, inputs_of(args), grads)
    assert all(t.isfinite().all() for t in (*outputs, *found))
    assert (outputs[0][outside] == 0).all()
    assert (found[0][outside] == 0).all()


def test_lengths_that_nobody_checked_count_as_in_the_reference() -> None:
    args, _ = Case(5, 3, 4, 6, 2).build()
    args = args.map(Tensor.detach)
    problem = Problem.from_args(args, training=False)
    args = args._replace(lengths=torch.tensor([9, -1, 2]))
    got = CudnnBackend().forward(problem, args)[:3]
    for a, b in zip(got, lstm_reference(args), strict=True):
        torch.testing.assert_close(a, b)


@on_cpu
@pytest.mark.parametrize("name", ["x", "w_hh", "bias", "c_0"])
@pytest.mark.parametrize("lengths", ["none", "zeros"])
def test_part_of_the_inputs_may_be_frozen(name: str, lengths: str) -> None:
    args, grads = Case(4, 3, 2, 5, 2, lengths, states=True).build()
    frozen = args.map(Tensor.detach)
    assert_right(frozen._replace(**{name: getattr(args, name)}), grads)


@on_cpu
@pytest.mark.parametrize("lengths", ["none", "random"])
def test_a_second_backward_runs_forward_again(lengths: str) -> None:
    args, grads = Case(5, 3, 4, 6, 2, lengths, states=True).build()
    outputs = lstm_layer(args, BACKEND)
    first = torch.autograd.grad(outputs, inputs_of(args), grads, retain_graph=True)
    second = torch.autograd.grad(outputs, inputs_of(args), grads)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@on_cpu
def test_gradients_of_gradients() -> None:
    args, _ = Case(2, 2, 1, 2, 1, "random", states=True, dtype=torch.float64).build()

    def run(x: Tensor, w_hh: Tensor, c_0: Tensor) -> tuple[Tensor, ...]:
        return lstm_layer(args._replace(x=x, w_hh=w_hh, c_0=c_0), BACKEND)

    inputs = (args.x, args.w_hh, args.c_0)
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@on_cpu
# Raised by torch's own tracing of any autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("lengths", ["none", "zeros"])
def test_compiles_without_a_graph_break(lengths: str) -> None:
    torch._dynamo.reset()
    args, grads = Case(5, 3, 4, 6, 2, lengths, states=True).build()
    compiled = torch.compile(lstm_layer, backend="aot_eager", fullgraph=True)
    got, want = compiled(args, BACKEND), lstm_layer(args, BACKEND)
    got_grads = torch.autograd.grad(got, inputs_of(args), grads)
    want_grads = torch.autograd.grad(want, inputs_of(args), grads)
    for a, b in zip((*got, *got_grads), (*want, *want_grads), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("available", [None, True], ids=["as here", "available"])
def test_the_choice_can_be_traced(available: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if available:
        monkeypatch.setattr(CudnnBackend, "unavailable", lambda self: [])
    monkeypatch.setattr(
        "torch.cuda.is_current_stream_capturing", lambda: pytest.fail("asked while tracing")
    )
    problem = gpu_problem(variable_length=True)

    def count_reasons(x: Tensor) -> Tensor:
        return x + len(CudnnBackend().supports(problem))

    torch._dynamo.reset()
    traced = torch.compile(count_reasons, backend="eager", fullgraph=True)
    assert traced(torch.zeros(())) == len(CudnnBackend().unavailable())


@on_cpu
@pytest.mark.parametrize("lengths", ["none", "zeros"])
def test_opcheck(lengths: str) -> None:
    torch.use_deterministic_algorithms(False)  # it compares whole tensors, unset reserves included
    args, grads = Case(4, 3, 2, 5, 2, lengths, states=True).build()
    args = args.map(Tensor.detach)
    operators = torch.ops.fastrnn
    torch.library.opcheck(operators.lstm_forward.default, (*args, BACKEND, True))
    torch.library.opcheck(operators.lstm_forward.default, (*args, BACKEND, False, True))
    y, _, _, reserve = operators.lstm_forward(*args, BACKEND, True)
    wanted = [t is not None for t in args.differentiable]
    torch.library.opcheck(
        operators.lstm_backward.default, (*grads, *args, y, reserve, BACKEND, wanted)
    )


@on_cpu
@pytest.mark.parametrize("lengths", ["none", "random"])
def test_autocast_takes_all_tensors_in_its_dtype(lengths: str) -> None:
    assert_autocast_only_casts(BACKEND, Case(4, 3, 2, 5, 2, lengths))


@on_cpu
@pytest.mark.parametrize("lengths", ["none", "random"])
def test_y_is_left_out_where_nobody_wants_it(lengths: str) -> None:
    args, _ = Case(4, 3, 2, 5, 2, lengths).build()
    args = args.map(Tensor.detach)
    _, *want = lstm_layer(args, BACKEND)
    y, *got = lstm_layer(args, BACKEND, last_state_only=True)
    assert y.shape == (0, 3, 10)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


class Recorder:
    """Keeps the arguments of torch's LSTM and calls it."""

    def __init__(self, lstm: Callable[..., Any]) -> None:
        self.lstm = lstm
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls.append(arguments)
        return self.lstm(*arguments, **options)


@pytest.mark.parametrize("lengths", ["none", "zeros"])
@pytest.mark.parametrize("projection", [False, True], ids=["plain", "projected"])
@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "biased"])
@pytest.mark.parametrize("num_directions", [1, 2])
def test_torch_gets_what_cudnn_takes_without_copying(
    num_directions: int, bias: bool, projection: bool, lengths: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = Case(4, 3, 2, 5, num_directions, lengths, True, bias, contiguous=False).build()
    args, _ = with_projection(*built) if projection else built
    recorder = Recorder(torch._VF.lstm)
    monkeypatch.setattr(torch._VF, "lstm", recorder)
    CudnnBackend().forward(Problem.from_args(args, training=True), args)
    ((*sequence, states, params, has_biases, _, _, train, bidirectional),) = recorder.calls
    assert (has_biases, train, bidirectional) == (True, True, num_directions == 2)
    assert len(sequence) == (1 if args.lengths is None else 2)
    assert all(state.is_contiguous() for state in states)
    if args.lengths is not None:
        assert sequence[1].sum() == args.lengths.sum()
        assert sequence[1].device.type == "cpu"
        assert sequence[1].dtype == torch.int64

    size = 5 if projection else 4
    zeros = torch.zeros(20)
    matrices, biases = [], []
    for d in range(num_directions):
        w_ih, w_hh, b_ih, b_hh, *w_hr = params[d * size : (d + 1) * size]
        assert torch.equal(w_ih, args.w_ih[d])
        assert torch.equal(w_hh, args.w_hh[d])
        assert torch.equal(b_ih, zeros if args.bias is None else args.bias[d])
        assert torch.equal(b_hh, zeros)
        assert [w.tolist() for w in w_hr] == ([] if args.w_hr is None else [args.w_hr[d].tolist()])
        matrices += [w_ih, w_hh, *w_hr]
        biases += [b_ih, b_hh]
    offset = 0
    for param in matrices + biases:
        assert param.is_contiguous()
        assert param.untyped_storage().data_ptr() == params[0].untyped_storage().data_ptr()
        assert param.storage_offset() == offset
        offset += param.numel()
    assert params[0].untyped_storage().nbytes() == offset * 4


def test_a_batch_without_padding_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    args, _ = Case(4, 3, 2, 5).build()
    args = args._replace(lengths=torch.full((3,), 4))
    recorder = Recorder(torch._VF.lstm)
    monkeypatch.setattr(torch._VF, "lstm", recorder)
    CudnnBackend().forward(Problem.from_args(args, training=True), args)
    assert recorder.calls[0][0] is args.x


def test_tensors_elsewhere_are_refused() -> None:
    args, _ = Case(3, 2, 4, 6, lengths="random").build()
    reasons = CudnnBackend().supports(Problem.from_args(args, training=False))
    assert "the tensors are on cpu, not on a CUDA device" in reasons


def test_a_machine_without_gpu_or_cudnn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = CudnnBackend()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert backend.unavailable() == ["torch finds no CUDA device"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(cudnn, "_HAS_LIBRARY", False)
    assert backend.unavailable() == backend.supports(gpu_problem()) == ["this torch has no cuDNN"]
    monkeypatch.setattr(cudnn, "_HAS_LIBRARY", True)
    assert backend.unavailable() == []


@pytest.mark.parametrize("cudnn_there", [False, True])
@pytest.mark.parametrize("hip", [None, "6.0"])
def test_miopen_stands_in_for_cudnn(
    hip: str | None, cudnn_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.version.hip", hip)
    monkeypatch.setattr("torch.backends.cudnn.is_available", lambda: cudnn_there)
    assert cudnn._has_library() == (cudnn_there or hip is not None)


def test_only_what_torch_can_run_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = CudnnBackend()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(cudnn, "_HAS_LIBRARY", True)
    assert backend.supports(gpu_problem()) == []
    assert backend.supports(gpu_problem(proj_size=5)) == []
    for changes in ({"batch_size": 0}, {"input_size": 0}):
        (reason,) = backend.supports(gpu_problem(**changes))
        assert "no elements" in reason
    (reason,) = backend.supports(gpu_problem(proj_size=6))
    assert "proj_size is not smaller" in reason


def test_lengths_are_refused_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = CudnnBackend()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(cudnn, "_HAS_LIBRARY", True)
    monkeypatch.setattr(CAPTURING, lambda device: device.type == "cuda")
    (reason,) = backend.supports(gpu_problem(variable_length=True))
    assert "CUDA graph" in reason
    assert backend.supports(gpu_problem()) == []
    monkeypatch.setattr(CAPTURING, lambda device: False)
    assert backend.supports(gpu_problem(variable_length=True)) == []
