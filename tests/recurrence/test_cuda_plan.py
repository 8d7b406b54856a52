"""Planning of CUDA launches, over described GPUs: none is needed."""

from types import ModuleType
from typing import Any

import pytest

from .emulated import emulated_module

# Compute capability, multiprocessors, and bytes of shared memory that a block may take (CUDA C++
# Programming Guide, table of technical specifications; numbers of multiprocessors: data sheets).
A100 = {"major": 8, "minor": 0, "multiprocessors": 108, "shared_bytes": 163 * 1024}
L4 = {"major": 8, "minor": 9, "multiprocessors": 58, "shared_bytes": 99 * 1024}
RTX_4090 = {"major": 8, "minor": 9, "multiprocessors": 128, "shared_bytes": 99 * 1024}
H200 = {"major": 9, "minor": 0, "multiprocessors": 132, "shared_bytes": 227 * 1024}
B200 = {"major": 10, "minor": 0, "multiprocessors": 148, "shared_bytes": 227 * 1024}
RTX_5090 = {"major": 12, "minor": 0, "multiprocessors": 170, "shared_bytes": 99 * 1024}
DEVICES = {
    "A100": A100,
    "L4": L4,
    "RTX 4090": RTX_4090,
    "H200": H200,
    "B200": B200,
    "RTX 5090": RTX_5090,
}
PRECISIONS = ("float16", "bfloat16", "tf32", "float32")
HALF = ("float16", "bfloat16")

on_every_device = pytest.mark.parametrize("device", DEVICES.values(), ids=list(DEVICES))
in_every_precision = pytest.mark.parametrize("precision", PRECISIONS)


@pytest.fixture(scope="module")
def native() -> ModuleType:
    return emulated_module()


def problem(native: ModuleType, **changes: Any) -> Any:
    sizes = {"seq_len": 1000, "batch_size": 37, "input_size": 84, "hidden_size": 64}
    options = {"precision": "float16", "num_directions": 2, "training": True}
    return native.Problem(**{**sizes, **options, **changes})


def reasons(native: ModuleType, device: dict[str, int], **changes: Any) -> list[str]:
    found: list[str] = native.reasons_against(problem(native, **changes), native.Device(**device))
    return found


def plan(native: ModuleType, device: dict[str, int], **changes: Any) -> Any:
    return native.make_plan(problem(native, **changes), native.Device(**device))


@on_every_device
@in_every_precision
@pytest.mark.parametrize("hidden_size", [1, 31, 32, 33, 64, 65, 100, 128])
def test_what_is_planned_fits_the_device(
    native: ModuleType, device: dict[str, int], precision: str, hidden_size: int
) -> None:
    changes = {"precision": precision, "hidden_size": hidden_size}
    for input_size in (1, 20, 84, 96, 97):
        if reasons(native, device, **changes, input_size=input_size):
            continue
        p = plan(native, device, **changes, input_size=input_size)
        assert p.hidden >= hidden_size
        assert p.tiles == 5
        for shared in (p.forward_shared, p.gates_shared, p.backward_shared):
            assert 0 < shared <= device["shared_bytes"]
            assert shared % 16 == 0
        for threads in (p.forward_threads, p.backward_threads):
            assert threads % 32 == 0
            assert threads <= 256  # with 255 registers each, all that there are
        assert not p.fuses_input or input_size <= 96


@on_every_device
@pytest.mark.parametrize("training", [False, True])
def test_16_bit_types_run_on_every_device(
    native: ModuleType, device: dict[str, int], training: bool
) -> None:
    for precision in HALF:
        for hidden_size in (1, 64, 128):
            changes = {"precision": precision, "hidden_size": hidden_size, "training": training}
            assert reasons(native, device, **changes) == []
            for input_size in (1, 96):
                assert plan(native, device, **changes, input_size=input_size).fuses_input


@on_every_device
def test_float32_up_to_64_units_runs_on_every_device(
    native: ModuleType, device: dict[str, int]
) -> None:
    for precision in ("tf32", "float32"):
        changes = {"precision": precision, "hidden_size": 64}
        assert reasons(native, device, **changes) == []
        assert plan(native, device, **changes, input_size=96).fuses_input


@pytest.mark.parametrize(
    ("precision", "devices"),
    [("tf32", ("A100", "H200", "B200")), ("float32", ("H200", "B200"))],
)
def test_float32_with_more_units_runs_where_shared_memory_is_large(
    native: ModuleType, precision: str, devices: tuple[str, ...]
) -> None:
    changes = {"precision": precision, "hidden_size": 65}
    for name, device in DEVICES.items():
        found = reasons(native, device, **changes)
        assert (not found) == (name in devices), name
        if found:
            assert "the kernels for hidden_size up to 128 take" in found[0]
            assert f"a block may have {device['shared_bytes']}" in found[0]
            with pytest.raises(ValueError, match="bytes of shared memory"):
                plan(native, device, **changes)


def test_more_units_than_a_block_holds_are_refused(native: ModuleType) -> None:
    (reason,) = reasons(native, H200, hidden_size=129)
    assert reason.startswith("hidden_size is 129; one block holds the recurrent weights of at most")


@pytest.mark.parametrize(
    ("major", "minor", "runs"),
    [
        *((7, 5, False), (8, 0, True), (8, 7, True), (9, 0, True)),
        *((10, 3, True), (11, 0, False), (12, 1, True), (13, 0, True)),
    ],
)
def test_there_is_code_for_each_capability_or_a_reason(
    native: ModuleType, major: int, minor: int, runs: bool
) -> None:
    found = reasons(native, {**H200, "major": major, "minor": minor})
    assert (not found) == runs
    if not runs:
        assert f"not for {major}.{minor}" in found[0]


def test_sizes_beyond_32_bits_are_refused(native: ModuleType) -> None:
    for name in ("seq_len", "batch_size", "input_size"):
        (reason,) = reasons(native, H200, **{name: 2**31})
        assert "T, B and I may be at most" in reason
        assert reasons(native, H200, **{name: 2**30 - 1}) == []


@on_every_device
@pytest.mark.parametrize("seq_len", [1, 31, 32, 33, 1000, 100_000])
@pytest.mark.parametrize("batch_size", [1, 8, 9, 1000, 100_000])
def test_slices_cover_all_steps_and_fill_the_gpu(
    native: ModuleType, device: dict[str, int], seq_len: int, batch_size: int
) -> None:
    """Of the kernel that computes the gates again, whose steps need no order."""
    p = plan(native, device, seq_len=seq_len, batch_size=batch_size)
    assert (p.slices - 1) * p.steps_per_slice < seq_len <= p.slices * p.steps_per_slice
    assert p.slices <= 65_535
    assert p.steps_per_slice >= 32
    blocks = p.slices * p.tiles * 2
    enough = 2 * device["multiprocessors"]
    assert blocks >= enough or p.steps_per_slice == 32 or seq_len < 64


@in_every_precision
@pytest.mark.parametrize("hidden_size", [32, 64, 128])
def test_packed_weights_take_what_the_weights_take(
    native: ModuleType, precision: str, hidden_size: int
) -> None:
    """Where nothing is padded they are the same elements, in another order."""
    size = 2 if precision in HALF else 4
    changes = {"precision": precision, "hidden_size": hidden_size, "num_directions": 2}
    fused = plan(native, H200, **changes, input_size=32 if hidden_size < 128 else 16)
    unfused = plan(native, H200, **changes, input_size=500)
    recurrent = 2 * 4 * hidden_size * hidden_size * size
    assert unfused.forward_weight_bytes == recurrent
    assert unfused.backward_weight_bytes == recurrent
    columns = 32 if hidden_size < 128 or size == 2 else 16  # padded to 64 bytes
    assert fused.forward_weight_bytes == recurrent + 2 * 4 * hidden_size * columns * size


def test_unknown_precisions_are_named(native: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"precision is 'float64'; it should be 'float16'"):
        problem(native, precision="float64")
