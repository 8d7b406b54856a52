"""The CUDA backend beside the common grid, its kernels emulated: sizes, precisions, launches."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastrnn.recurrence.backends import CudaBackend
from fastrnn.recurrence.backends import cuda as cuda_module
from fastrnn.recurrence.backends.base import WantedGrads
from fastrnn.recurrence.dispatch import backend_by_name
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.verification import OUTPUT_NAMES, expect

from .conftest import Case, detached
from .emulated import emulate_cuda, emulated_module
from .test_backends import assert_right

TF32_EPS = 2.0**-10
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
PROBLEM = Problem(8, 2, 3, 4, 1, 0, torch.float16, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    emulate_cuda(monkeypatch)


def cuda() -> CudaBackend:
    backend = backend_by_name("cuda")
    assert isinstance(backend, CudaBackend)
    return backend


def test_supports_ends_at_128_units() -> None:
    for dtype in DTYPES:
        assert cuda().supports(replace(PROBLEM, dtype=dtype, hidden_size=128)) == []
        (reason,) = cuda().supports(replace(PROBLEM, dtype=dtype, hidden_size=129))
        assert reason.startswith("hidden_size is 129; one block holds")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": torch.float64}, "float64 is not"),
        ({"proj_size": 2}, "proj_size"),
        ({"batch_size": 0}, "no elements"),
        ({"input_size": 0}, "no elements"),
        ({"seq_len": 2**30 + 1}, "at most 1073741824"),
        ({"device": torch.device("meta")}, "meta, not on a GPU"),
    ],
)
def test_supports_gives_reasons(change: dict[str, Any], reason: str) -> None:
    assert reason in "; ".join(cuda().supports(replace(PROBLEM, **change)))


def test_without_the_native_module_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_module, "find_spec", lambda _: None)
    backend = CudaBackend()
    (reason,) = backend.unavailable()
    assert reason.startswith("the package was built without CUDA")
    assert backend.supports(PROBLEM) == [reason]


def test_a_module_of_another_version_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastrnn._cuda", reason="the package was built without nvcc")
    monkeypatch.setattr("fastrnn.recurrence.backends.native.__version__", "9.9")
    (reason,) = CudaBackend().unavailable()
    assert "but this is 9.9: install the package again" in reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: launches do not fail")
def test_a_failed_launch_names_kernel_configuration_and_error() -> None:
    """The real module, without a driver."""
    native = pytest.importorskip("fastrnn._cuda", reason="the package was built without nvcc")
    problem = native.Problem(
        precision="float16", seq_len=5, batch_size=9, input_size=4, hidden_size=40,
        num_directions=2, training=False,
    )  # fmt: skip
    device = native.Device(major=9, minor=0, multiprocessors=132, shared_bytes=232_448)
    plan = native.make_plan(problem, device)
    with pytest.raises(RuntimeError) as caught:
        native.pack_forward(plan, w_ih=0, w_hh=0, words=0, device=0, stream=0)
    for part in ("lstm_pack, float16, H=40 padded to 64, I=4 fused", "256 threads", "cudaError"):
        assert part in str(caught.value)


def test_a_gpu_that_torch_cannot_see_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    native = cuda()._native()
    monkeypatch.setattr(native, "device_type", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda().unavailable() == ["torch sees no GPU"]
    monkeypatch.setattr(native, "driver_fault", lambda: "there is no CUDA driver")
    assert cuda().unavailable() == ["there is no CUDA driver"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cuda().unavailable() == ["there is no CUDA driver"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden_size", [31, 33, 63, 64, 65, 96, 127, 128])
def test_hidden_sizes_around_those_of_the_instances(hidden_size: int, dtype: torch.dtype) -> None:
    assert_right("cuda", Case(4, 9, 5, hidden_size, 2, "random", True, dtype=dtype))


# Widths of copies: 16, 4 and 2 bytes; the last fused one, and the first that is not.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("input_size", [1, 2, 3, 8, 31, 33, 84, 95, 96, 97, 200])
def test_input_sizes_around_the_limit_of_fusing(input_size: int, dtype: torch.dtype) -> None:
    for hidden_size in (20, 64) if input_size in (3, 96, 97) else (33,):
        for bias in (True, False):
            assert_right(
                "cuda", Case(7, 3, input_size, hidden_size, 2, "zeros", bias=bias, dtype=dtype)
            )


@pytest.mark.parametrize("schedule", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_warps_may_run_in_any_order(schedule: str, dtype: torch.dtype) -> None:
    """With a barrier too few, a warp that runs ahead would find or leave wrong numbers."""
    native = emulated_module()
    native.set_schedule(schedule)
    try:
        for hidden_size, input_size in ((64, 84), (64, 100), (128, 3), (32, 40)):
            assert_right("cuda", Case(9, 11, input_size, hidden_size, 2, "random", dtype=dtype))
    finally:
        native.set_schedule("ascending")


@settings(max_examples=max(50, settings.default.max_examples // 4))
@given(
    seq_len=st.integers(1, 12),
    batch_size=st.integers(1, 19),
    input_size=st.integers(1, 110),
    hidden_size=st.integers(1, 128),
    num_directions=st.sampled_from([1, 2]),
    lengths=st.sampled_from(["none", "random", "zeros", "equal"]),
    states=st.booleans(),
    bias=st.booleans(),
    contiguous=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1.0, 1e-3]),
    seed=st.integers(0, 2**31),
)
def test_random_problems(**options: Any) -> None:
    case = Case(**options)
    # Smaller numbers than that have no digits left in float16.
    assert_right("cuda", replace(case, scale=1.0) if case.dtype == torch.float16 else case)


def results_of(case: Case) -> dict[str, Tensor]:
    args, grads = case.build()
    outputs = lstm_layer(args, "cuda")
    inputs = {
        f"grad {name}": t for name, t in args._asdict().items() if t is not None and t.requires_grad
    }
    found = torch.autograd.grad(outputs, list(inputs.values()), grads)
    return dict(zip((*OUTPUT_NAMES, *inputs), (*outputs, *found), strict=True))


@pytest.mark.parametrize("hidden_size", [5, 32, 64, 70, 128])
@pytest.mark.parametrize("input_size", [3, 50, 120])
def test_tf32_is_as_exact_as_tf32(
    hidden_size: int, input_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU torch's setting decides; there is none for CPU tensors."""
    case = Case(6, 9, input_size, hidden_size, 2, "zeros", states=True)
    exact = results_of(case)
    expected = expect(*case.build())
    monkeypatch.setattr(cuda_module, "_precision", lambda _: "tf32")
    rounded = results_of(case)
    factor = cuda().tolerance[torch.float32] * TF32_EPS / torch.finfo(torch.float32).eps
    for name, truth in expected.truth.items():
        error = float((rounded[name].detach().double() - truth).abs().max())
        assert error <= min(factor * expected.own_error[name], 0.25 * float(truth.abs().max())), (
            name
        )
    assert not torch.equal(exact["y"], rounded["y"])


def rounded_to_tf32(tensor: Tensor | None) -> Tensor | None:
    """To the nearest, away from zero where two are equally near: ten bits of mantissa are left."""
    if tensor is None:
        return None
    return ((tensor.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("hidden_size", [20, 128])
@pytest.mark.parametrize("input_size", [7, 90, 120])
def test_tf32_rounds_what_it_multiplies_to_the_nearest(
    hidden_size: int, input_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it makes no difference whether that was done before; cut off, it would."""
    monkeypatch.setattr(cuda_module, "_precision", lambda _: "tf32")
    args, grads = Case(5, 9, input_size, hidden_size, 2, "random", True).build()
    args, grads = detached(args), grads_of(grads)
    fused = input_size <= 32 or (hidden_size < 128 and input_size <= 96)
    assert cuda()._prepare(Problem.from_args(args, training=True), args).plan.fuses_input == fused
    weights = {"w_hh": rounded_to_tf32(args.w_hh), "h_0": rounded_to_tf32(args.h_0)}
    if fused:  # torch multiplies other inputs, here without TF32
        weights |= {"x": rounded_to_tf32(args.x), "w_ih": rounded_to_tf32(args.w_ih)}
    runs = []
    for inputs in (args, args._replace(**weights)):
        problem = Problem.from_args(inputs, training=True)
        result = cuda().forward(problem, inputs)
        found = cuda().backward(
            problem, inputs, result.y, result.reserve, grads, WantedGrads(w_hr=False)
        )
        runs.append((result.y, result.h_n, result.c_n, found.bias, found.h_0, found.c_0))
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "tf32", "float32"])
@pytest.mark.parametrize("input_size", [7, 120])
@pytest.mark.parametrize("hidden_size", [30, 64, 100])
def test_gates_computed_again_are_those_of_forward(
    precision: str, input_size: int, hidden_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From them comes the cell state that forward stored: to the bit where gates are float32."""
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    monkeypatch.setattr(cuda_module, "_precision", lambda _: precision)
    args = detached(Case(5, 10, input_size, hidden_size, 2, "none", True, dtype=dtype).build()[0])
    problem = Problem.from_args(args, training=True)
    y, _, _, reserve = cuda().forward(problem, args)
    gates = cuda()._gates(problem, cuda()._prepare(problem, args), y)
    i, f, g, o = gates.view(5, 10, 2, hidden_size, 4).float().unbind(-1)
    cells = reserve.view(torch.float32).view(5, 10, 2, hidden_size)
    c_0 = args.c_0
    assert c_0 is not None
    before = torch.stack(
        [
            torch.cat([c_0[None, 0].float(), cells[:-1, :, 0]]),
            torch.cat([cells[1:, :, 1], c_0[None, 1].float()]),
        ],
        dim=2,
    )
    again = f * before + i * g
    if dtype == torch.float32:
        assert torch.equal(again, cells)
    else:  # the gates were rounded when they were stored
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(again, cells, rtol=2 * eps, atol=2 * eps)
    h = (o * torch.tanh(cells)).flatten(2)
    torch.testing.assert_close(h.to(dtype), y, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_are_shared_out_in_several_slices(dtype: torch.dtype) -> None:
    for input_size, hidden_size, lengths in (
        (120, 20, "none"),
        (5, 41, "random"),
        (9, 128, "zeros"),
    ):
        case = Case(75, 3, input_size, hidden_size, 2, lengths, states=True, dtype=dtype)
        args = detached(case.build()[0])
        plan = cuda()._prepare(Problem.from_args(args, training=True), args).plan
        assert plan.slices > 1
        assert_right("cuda", case)


@pytest.mark.parametrize("wanted", ["x", "w_ih", "w_hh", "bias", "h_0", "c_0"])
def test_only_wanted_gradients_are_computed(wanted: str) -> None:
    args, grads = Case(4, 5, 6, 9, 2, "random", states=True).build()
    args = detached(args)
    problem = Problem.from_args(args, training=True)
    result = cuda().forward(problem, args)
    asked = WantedGrads(**{name: name == wanted for name in WantedGrads._fields})
    found = cuda().backward(problem, args, result.y, result.reserve, grads_of(grads), asked)
    assert [name for name, grad in found._asdict().items() if grad is not None] == [wanted]


def grads_of(grads: Any) -> Any:
    return type(grads)(*(None if g is None else g.detach() for g in grads))


@pytest.mark.parametrize("missing", ["y", "h_n", "c_n"])
def test_missing_gradients_of_outputs_stand_for_zeros(missing: str) -> None:
    args, grads = Case(4, 5, 6, 9, 2, "random", states=True).build()
    args = detached(args)
    problem = Problem.from_args(args, training=True)
    result = cuda().forward(problem, args)
    zeros = grads._replace(**{missing: torch.zeros_like(getattr(grads, missing))})
    without = grads._replace(**{missing: None})
    runs = [
        cuda().backward(problem, args, result.y, result.reserve, g, WantedGrads(w_hr=False))
        for g in (zeros, without)
    ]
    for a, b in zip(*runs, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)  # type: ignore[arg-type]


def test_all_that_is_kept_for_backward_are_cell_states() -> None:
    problem = replace(PROBLEM, seq_len=7, hidden_size=20, num_directions=2, training=True)
    assert cuda().reserve_shape(problem) == (7 * 2 * 2 * 20 * 2,)  # float32 in pairs of float16
    assert cuda().reserve_shape(replace(problem, dtype=torch.float32)) == (7 * 2 * 2 * 20,)
    assert cuda().reserve_shape(replace(problem, training=False)) == (0,)


def test_views_on_odd_addresses_are_copied() -> None:
    args = detached(Case(3, 2, 5, 8).build()[0])
    buffer = torch.zeros(args.w_hh.numel() + 1)
    shifted = buffer[1:].view_as(args.w_hh).copy_(args.w_hh)
    assert shifted.data_ptr() % 16 != 0
    for got, want in zip(
        lstm_layer(args._replace(w_hh=shifted), "cuda"), lstm_layer(args, "cuda"), strict=True
    ):
        assert torch.equal(got, want)
