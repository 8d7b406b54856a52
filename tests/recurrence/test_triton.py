"""The Triton backend beside the common grid: its limits, its launches, and very large batches."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastrnn.recurrence.backends import TritonBackend
from fastrnn.recurrence.backends.triton import _import, _lacking
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.triton_kernels import launch
from fastrnn.recurrence.triton_kernels.config import (
    MAX_FUSED_INPUT_SIZE,
    MAX_HIDDEN_SIZE,
    Pass,
    fuses_input,
    padded_size,
    shared_memory,
)
from fastrnn.recurrence.triton_kernels.padding import missing_units

from .conftest import Case, detached
from .test_backends import assert_right

interpreted_only = pytest.mark.skipif(
    not launch.INTERPRETED, reason="Triton's interpreter is off: a GPU is there"
)

PROBLEM = Problem(8, 2, 3, 4, 1, 0, torch.float16, torch.device("cpu"))


def test_supports_ends_where_the_weights_no_longer_fit_on_chip() -> None:
    backend = TritonBackend()
    for dtype, limit in MAX_HIDDEN_SIZE.items():
        assert backend.supports(replace(PROBLEM, dtype=dtype, hidden_size=limit)) == []
        (reason,) = backend.supports(replace(PROBLEM, dtype=dtype, hidden_size=limit + 1))
        assert f"hidden_size is {limit + 1}" in reason
        assert str(limit) in reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": torch.float64}, "float64 is not"),
        ({"proj_size": 2}, "proj_size"),
        ({"batch_size": 0}, "no elements"),
        ({"input_size": 0}, "no elements"),
        ({"device": torch.device("meta")}, "meta, not on a GPU"),
    ],
)
def test_supports_gives_reasons(change: dict[str, object], reason: str) -> None:
    assert reason in "; ".join(TritonBackend().supports(replace(PROBLEM, **change)))  # type: ignore[arg-type]


def on_gpu(monkeypatch: pytest.MonkeyPatch, **properties: object) -> list[str]:
    """Reasons against a large layer on a described GPU."""
    known = {"name": "a GPU", "major": 9, "minor": 0, "shared_memory_per_block_optin": 232_448}
    device = SimpleNamespace(**{**known, **properties})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(launch, "INTERPRETED", False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    _lacking.cache_clear()
    problem = replace(PROBLEM, device=torch.device("cuda", 0), hidden_size=128)
    reasons = TritonBackend().supports(problem)
    _lacking.cache_clear()
    return reasons


def test_supports_asks_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_gpu(monkeypatch) == []
    assert on_gpu(monkeypatch, major=8, shared_memory_per_block_optin=166_912) == []
    (reason,) = on_gpu(monkeypatch, major=8, minor=9, shared_memory_per_block_optin=101_376)
    assert "bytes of shared memory; a GPU has 101376" in reason
    (reason,) = on_gpu(monkeypatch, major=7, minor=5)
    assert "compute capability (7, 5)" in reason


@interpreted_only
def test_cpu_tensors_are_for_the_interpreter_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TritonBackend().supports(PROBLEM) == []
    (reason,) = TritonBackend().supports(replace(PROBLEM, device=torch.device("cuda", 0)))
    assert "TRITON_INTERPRET=1 is for CPU tensors" in reason
    monkeypatch.delenv("TRITON_INTERPRET")
    assert TritonBackend().supports(PROBLEM) == ["the tensors are on cpu, not on a GPU"]


def test_a_missing_triton_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastrnn.recurrence.backends.triton.find_spec", lambda _: None)
    _import.cache_clear()
    assert TritonBackend().unavailable() == ["Triton is not installed"]
    _import.cache_clear()


def test_sizes_are_padded_to_what_the_instructions_take() -> None:
    for size in range(1, 129):
        assert padded_size(size) >= max(16, size)
        assert padded_size(size) & (padded_size(size) - 1) == 0
        assert (size + missing_units(size)) % 8 == 0
        assert padded_size(size + missing_units(size)) == padded_size(size)


def test_weights_and_exchange_fit_into_shared_memory() -> None:
    for dtype, limit in MAX_HIDDEN_SIZE.items():
        assert shared_memory(dtype, limit) <= 163 * 1024
        assert shared_memory(dtype, 2 * limit) > 227 * 1024


def test_very_small_inputs_are_multiplied_by_the_kernel_in_16_bit_types() -> None:
    assert fuses_input(torch.float16, MAX_FUSED_INPUT_SIZE)
    assert not fuses_input(torch.bfloat16, MAX_FUSED_INPUT_SIZE + 1)
    assert not fuses_input(torch.float32, 1)


@pytest.mark.parametrize(
    ("input_size", "bias"), [(1, True), (1, False), (3, True), (3, False), (4, True)]
)
def test_inputs_around_the_limit_of_fusing(input_size: int, bias: bool) -> None:
    case = Case(3, 9, input_size, 20, 2, "random", True, bias, dtype=torch.float16)
    assert_right("triton", case)


@pytest.mark.parametrize("hidden_size", [63, 64, 65, 127, 128])
def test_hidden_sizes_up_to_the_limit(hidden_size: int) -> None:
    assert_right("triton", Case(3, 3, 5, hidden_size, 1, "random", dtype=torch.float16))
    if hidden_size <= 64:
        assert_right("triton", Case(3, 3, 5, hidden_size, 1, "random", dtype=torch.float32))


@settings(max_examples=settings.default.max_examples // 4)  # interpreted: slow
@given(
    seq_len=st.integers(1, 6),
    batch_size=st.integers(1, 19),
    input_size=st.integers(1, 9),
    hidden_size=st.integers(1, 40),
    num_directions=st.sampled_from([1, 2]),
    lengths=st.sampled_from(["none", "random", "zeros", "equal"]),
    states=st.booleans(),
    bias=st.booleans(),
    contiguous=st.booleans(),
    dtype=st.sampled_from(list(MAX_HIDDEN_SIZE)),
    scale=st.sampled_from([1.0, 1e-3]),
    seed=st.integers(0, 2**31),
)
def test_random_problems(**options: object) -> None:
    case = Case(**options)  # type: ignore[arg-type]
    # Smaller numbers than that have no digits left in float16.
    assert_right("triton", replace(case, scale=1.0) if case.dtype == torch.float16 else case)


def test_views_on_odd_addresses_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Triton would compile a kernel with narrower loads for them."""
    args = detached(Case(3, 2, 5, 8).build()[0])
    buffer = torch.zeros(args.w_hh.numel() + 1)
    shifted = buffer[1:].view_as(args.w_hh).copy_(args.w_hh)
    assert shifted.data_ptr() % 16 != 0
    launched: list[Tensor] = []
    plain = launch.launch

    def spy(kind: Pass, problem: Problem, tensors: dict[str, Tensor | None]) -> None:
        launched.extend(t for t in tensors.values() if t is not None)
        plain(kind, problem, tensors)

    monkeypatch.setattr(launch, "launch", spy)
    for got, want in zip(
        lstm_layer(args._replace(w_hh=shifted), "triton"), lstm_layer(args, "triton"), strict=True
    ):
        assert torch.equal(got, want)
    assert launched
    assert all(tensor.data_ptr() % 16 == 0 for tensor in launched)


def test_lengths_out_of_range_reach_no_other_memory() -> None:
    """On a GPU nobody reads lengths before the launch, so the launch must bound them."""
    from fastrnn.recurrence.gpu_tensors import by_falling_length

    problem = replace(PROBLEM, batch_size=4, seq_len=8)
    order, lengths = by_falling_length(torch.tensor([3, 1 << 40, -5, 9]), problem)
    assert lengths is not None
    assert order is not None
    assert lengths.tolist() == [8, 8, 3, 0]
    assert sorted(order.tolist()) == [0, 1, 2, 3]


SPECIALIZATIONS = """
import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import make_backend
from triton.runtime.jit import create_function_from_signature
from fastrnn.recurrence.triton_kernels.kernels import KERNELS

backend = make_backend(GPUTarget("cuda", 90, 32))
for kernel in KERNELS.values():
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    seen = set()
    for seq_len, batch_size, given in [(1, 1, 0), (16, 16, 1), (7, 3, 3), (8192, 1024, 2)]:
        values = {
            p.name: 1 if p.is_constexpr else torch.empty(1 << 10, dtype=torch.float16)
            for p in kernel.params
        }
        values |= {"seq_len": seq_len, "batch_size": batch_size, "given": given}
        _, specialization, _ = bind(**values)
        seen.add(str(specialization))
    assert len(seen) == 1, seen
"""


def test_another_length_or_batch_compiles_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SPECIALIZATIONS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


FIRST_CALL = """
import torch
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs

args = LayerArgs(torch.randn(4, 2, 3), torch.randn(1, 32, 3), torch.randn(1, 32, 8))
run = torch.compile(lambda: lstm_layer(args, {backend!r})[0], backend="aot_eager", fullgraph=True)
assert torch.equal(run(), lstm_layer(args, {backend!r})[0])
"""


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_a_compiled_call_may_be_the_first_of_its_process(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has been imported or asked then, and the compiler cannot trace an import."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST_CALL.format(backend=backend)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
