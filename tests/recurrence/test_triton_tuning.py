"""Configurations of the Triton kernels: tried once per layer shape, chosen by arithmetic."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.triton_kernels import launch, tuning
from fastrnn.recurrence.triton_kernels.config import (
    MAX_HIDDEN_SIZE,
    KernelConfig,
    Multiprocessors,
    Pass,
    candidates,
    resident_programs,
)

from .conftest import Case, detached
from .test_backends import assert_right

interpreted_only = pytest.mark.skipif(
    not launch.INTERPRETED, reason="Triton's interpreter is off: a GPU is there"
)

GPU = torch.device("cuda", 1)
SMALL_GPU = Multiprocessors(number=2, shared_memory=1 << 16, threads=64, registers=1 << 16)
PROBLEM = Problem(4, 3, 20, 16, 1, 0, torch.float16, torch.device("cpu"))
NARROW, WIDE = KernelConfig(tile=8, num_warps=2), KernelConfig(tile=16, num_warps=2)


def test_candidates_depend_on_the_layer_only() -> None:
    for dtype in MAX_HIDDEN_SIZE:
        for size in (1, 16, 40, MAX_HIDDEN_SIZE[dtype]):
            for allow_tf32 in (False, True):
                forward = candidates("forward", dtype, size, 84, allow_tf32=allow_tf32)
                backward = candidates("backward", dtype, size, 84, allow_tf32=allow_tf32)
                assert len(forward) <= 2  # so that a first call takes seconds at most
                assert len(backward) <= 2
                for config in (*forward, *backward):
                    assert config.num_warps & (config.num_warps - 1) == 0
                    assert config.num_warps * 32 <= 1024


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 2 * 8),  # by threads: a program has two warps
        ({"shared_memory": 3 * 4096}, 2 * 3),
        ({"registers": 5120 * 2 + 1}, 2 * 2),
        ({"shared_memory": 1}, 2),  # whatever the estimate says, one program runs
    ],
)
def test_programs_at_once_end_where_something_is_used_up(
    change: dict[str, int], expected: int
) -> None:
    gpu = SMALL_GPU._replace(threads=8 * 64, **change)
    assert resident_programs(NARROW, torch.float16, 16, gpu) == expected


@pytest.fixture
def tunable(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let the interpreted kernels be tuned, as on a GPU that runs two programs at once."""
    monkeypatch.setattr(tuning, "_ROOMY_STEPS", 2)
    monkeypatch.setattr(tuning, "_CROWDED_STEPS", 1)
    monkeypatch.setattr(tuning, "may_tune", lambda device: True)
    monkeypatch.setattr(tuning, "multiprocessors", lambda device: SMALL_GPU)
    monkeypatch.setattr(tuning, "_known", {})
    tuning._tuner.cache_clear()
    return monkeypatch


def clock(*seconds: float) -> Callable[[Callable[[], object], object], list[float]]:
    """Stand in for Triton's clock: run, and answer the next of some times."""
    answers = iter(seconds)

    def time(call: Callable[[], object], quantiles: object) -> list[float]:
        call()
        return [next(answers)] * 3

    return time


@interpreted_only
@pytest.mark.parametrize(
    ("times", "roomy", "crowded"),
    [((1, 2, 1, 2), NARROW, NARROW), ((1, 2, 2, 1), NARROW, WIDE), ((2, 1, 1, 2), WIDE, NARROW)],
)
def test_the_fastest_are_found_once_and_used_by_how_full_the_gpu_is(
    times: tuple[float, ...],
    roomy: KernelConfig,
    crowded: KernelConfig,
    tunable: pytest.MonkeyPatch,
) -> None:
    tunable.setattr(tuning, "_time", clock(*times))  # a fifth trial would fail
    args = detached(Case(4, 17, 20, 16, dtype=torch.float16).build()[0])
    want = lstm_layer(args, "eager")[0]
    for seq_len, batch_size in ((4, 3), (3, 17), (2, 1)):  # another length or batch: no new trial
        part = args._replace(x=args.x[:seq_len, :batch_size])
        got = lstm_layer(part, "triton")[0]
        torch.testing.assert_close(got, want[:seq_len, :batch_size], atol=2e-3, rtol=0)
    assert len(tuning._known) == 1
    assert tuning.choose("forward", PROBLEM) == roomy
    assert tuning.choose("forward", replace(PROBLEM, batch_size=16)) == roomy
    assert tuning.choose("forward", replace(PROBLEM, batch_size=17)) == crowded


@interpreted_only
@pytest.mark.parametrize(
    "change",
    [
        {"dtype": torch.bfloat16},
        {"hidden_size": 24},
        {"num_directions": 2},
        {"training": True},
        {"device": torch.device("cpu", 0)},  # the same memory by another name
    ],
    ids=lambda change: str(*change),
)
def test_other_layers_and_devices_get_their_own_configuration(
    change: dict[str, object], tunable: pytest.MonkeyPatch
) -> None:
    other = replace(PROBLEM, **change)  # type: ignore[arg-type]
    warps = {"num_warps": 4} if other.hidden_size > 16 else {}
    tunable.setattr(tuning, "_time", clock(1, 2, 1, 2, 2, 1, 2, 1))
    assert tuning.choose("forward", PROBLEM) == NARROW
    assert tuning.choose("forward", other) == replace(WIDE, **warps)
    assert tuning.choose("forward", PROBLEM) == NARROW


def test_what_backward_does_not_see_is_no_reason_for_a_trial() -> None:
    sizes = {"dtype": torch.float16, "hidden_size": 128, "allow_tf32": False}
    few, many = (candidates("backward", input_size=i, **sizes) for i in (1, 84))  # type: ignore[arg-type]
    assert few == many
    assert len(few) == 2
    layers = {tuning._layer("backward", replace(PROBLEM, input_size=i)) for i in (1, 2, 84)}
    assert len(layers) == 1


def test_a_trial_leaves_room_on_the_gpu_and_another_fills_it_twice(
    tunable: pytest.MonkeyPatch,
) -> None:
    gpu = SMALL_GPU._replace(number=10)
    sizes: list[tuple[int, int]] = []

    def fastest(kind: Pass, trial: Problem, configs: tuple[KernelConfig, ...]) -> KernelConfig:
        sizes.append((trial.seq_len, trial.batch_size))
        return configs[0]

    tunable.setattr(tuning, "_fastest", fastest)
    tunable.setattr(tuning, "multiprocessors", lambda device: gpu)
    tuning.choose("forward", replace(PROBLEM, num_directions=2))
    programs = [batch_size // NARROW.tile * 2 for _, batch_size in sizes]
    assert programs == [4, 2 * resident_programs(NARROW, torch.float16, 16, gpu)]
    assert [steps for steps, _ in sizes] == [tuning._ROOMY_STEPS, tuning._CROWDED_STEPS]


@interpreted_only
@pytest.mark.parametrize("kind", ["forward", "backward"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("lengths", ["none", "random"])
def test_a_trial_runs_what_calls_run(
    kind: Pass, training: bool, lengths: str, tunable: pytest.MonkeyPatch
) -> None:
    """The same tensors are left out, so that a trial compiles no kernel that no call takes."""
    seen: list[set[str]] = []
    plain = tuning.KERNELS[kind]

    class Spy:
        arg_names = plain.arg_names

        def __getitem__(self, grid: object) -> Callable[..., None]:
            def run(**arguments: object) -> None:
                seen.append({name for name, value in arguments.items() if value is None})
                plain[grid](**arguments)

            return run

    spies = {**tuning.KERNELS, kind: Spy()}
    tunable.setattr(launch, "KERNELS", spies)
    tunable.setattr(tuning, "candidates", lambda *_, **__: (NARROW, WIDE))

    def fastest(which: Pass, trial: Problem, configs: tuple[KernelConfig, ...]) -> KernelConfig:
        tensors = tuning._trial_tensors(which, trial)
        spies[which][(1, 1)](
            **tuning.arguments(which, trial, tensors), TILE=8, num_warps=2, num_stages=1
        )
        return configs[0]

    tunable.setattr(tuning, "_fastest", fastest)
    args, _ = Case(2, 2, 20, 16, lengths=lengths, dtype=torch.float16).build()
    outputs = lstm_layer(args if training else detached(args), "triton")
    if training:
        outputs[0].sum().backward()
    if kind == "backward" and not training:
        assert seen == []
        return
    *trials, call = seen
    assert len(trials) == 2
    assert all(trial == call for trial in trials)


@interpreted_only
def test_a_trial_leaves_the_random_numbers_alone(tunable: pytest.MonkeyPatch) -> None:
    tunable.setattr(tuning, "_time", clock(1, 1, 1, 1))
    args = detached(Case(2, 2, 20, 16, dtype=torch.float16).build()[0])
    state = torch.get_rng_state()
    lstm_layer(args, "triton")
    assert len(tuning._known) == 1
    assert torch.equal(torch.get_rng_state(), state)


@interpreted_only
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), ValueError("Triton's cache is damaged")],
)
def test_a_trial_that_fails_fails_no_call(error: Exception, tunable: pytest.MonkeyPatch) -> None:
    def fail(call: object, quantiles: object) -> list[float]:
        raise error

    tunable.setattr(tuning, "_time", fail)
    assert tuning.choose("forward", PROBLEM) == NARROW


@interpreted_only
@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_a_forced_configuration_is_launched(kind: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[object] = []
    plain = launch.KERNELS[kind]

    class Spy:
        def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
            def run(**arguments: object) -> None:
                launched.append((grid, arguments["TILE"], arguments["num_warps"]))
                plain[grid](**arguments)

            return run

    monkeypatch.setitem(launch.KERNELS, kind, Spy())
    with tuning.forced(**{kind: KernelConfig(tile=4, num_warps=1)}):
        assert_right("triton", Case(3, 9, 20, 16, dtype=torch.float16))
    assert set(launched) == {((3, 1), 4, 1)}
    assert tuning.choose(kind, PROBLEM) == NARROW


def test_nothing_is_tuned_while_interpreted_captured_or_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if launch.INTERPRETED:
        assert not tuning.may_tune(GPU)
    monkeypatch.setattr(tuning, "INTERPRETED", False)
    captured = torch.device("cuda", 0)
    monkeypatch.setattr(tuning, "is_capturing", lambda device: device == captured)
    assert tuning.may_tune(GPU)
    captured = GPU
    assert not tuning.may_tune(GPU)
    captured = torch.device("cuda", 0)
    monkeypatch.setenv("FASTRNN_AUTOTUNE", "0")
    assert not tuning.may_tune(GPU)


def test_a_gpu_says_what_its_multiprocessors_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(
        multi_processor_count=132,
        max_threads_per_multi_processor=2048,
        shared_memory_per_block=49_152,
        shared_memory_per_multiprocessor=233_472,
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert tuning.multiprocessors(GPU) == Multiprocessors(132, 233_472, 2048, 65_536)
