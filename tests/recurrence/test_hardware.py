"""The GPU as `auto` sees it; most of this needs one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastrnn.recurrence.autoselect import AutoSelector
from fastrnn.recurrence.decisions import DecisionStore, read_decisions
from fastrnn.recurrence.dispatch import BACKENDS, select
from fastrnn.recurrence.hardware import Cuda, is_capturing, triton_version

from .stand_ins import PROBLEM

GPU = torch.device("cuda", 0)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
needs_none = pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU")


@pytest.fixture(autouse=True)
def _poisoned_memory() -> None:
    """Switch the poisoning off here: deterministic algorithms would make cuBLAS raise."""


@needs_none
def test_without_a_gpu_its_problems_fall_to_plain_torch() -> None:
    assert Cuda().describe(GPU) is None
    assert select(replace(PROBLEM, device=GPU), "auto").name == "eager"


def test_a_capture_is_looked_for_on_the_device_that_is_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current: list[torch.device] = []

    @contextmanager
    def on(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: current == [GPU])
    assert is_capturing(GPU)
    assert not is_capturing(torch.device("cuda", 1))
    assert not is_capturing(torch.device("cpu"))


def test_no_trial_is_held_while_cudnn_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What wins against its stand-in need not win against cuDNN."""
    monkeypatch.setattr("fastrnn.recurrence.hardware.is_capturing", lambda device: False)
    assert Cuda().may_time(GPU)
    with torch.backends.cudnn.flags(enabled=False):
        assert not Cuda().may_time(GPU)


def test_tritons_version_is_that_which_would_be_imported() -> None:
    triton = pytest.importorskip("triton")
    assert triton_version() == triton.__version__


@needs_gpu
def test_a_gpu_is_described_and_timed() -> None:
    gpu = Cuda()
    facts = gpu.describe(GPU)
    assert facts is not None
    assert facts.name == torch.cuda.get_device_name(0)
    with gpu.on(GPU):
        short, long = (gpu.time(lambda n=n: torch.cuda._sleep(n)) for n in (10**6, 10**7))
    assert 5 * short < long
    assert gpu.may_time(GPU)


@needs_gpu
def test_a_capture_is_not_disturbed(tmp_path: Path) -> None:
    selector = AutoSelector(BACKENDS, DecisionStore(tmp_path / "decisions.json"))
    problem = replace(PROBLEM, device=GPU, hidden_size=32)
    graph = torch.cuda.CUDAGraph()
    x = torch.zeros(1, device=GPU)
    with torch.cuda.graph(graph):
        assert not Cuda().may_time(GPU)
        assert selector.choose(problem).name in ("cudnn", "eager")
        x += 1
    graph.replay()
    assert x.item() == 1


@needs_gpu
@pytest.mark.parametrize("variable_length", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_a_trial_on_the_gpu_decides(
    tmp_path: Path, dtype: torch.dtype, variable_length: bool
) -> None:
    store = DecisionStore(tmp_path / "decisions.json")
    problem = replace(
        PROBLEM,
        device=GPU,
        seq_len=64,
        batch_size=32,
        hidden_size=64,
        dtype=dtype,
        training=True,
        variable_length=variable_length,
    )
    state = torch.cuda.get_rng_state(GPU)
    chosen = AutoSelector(BACKENDS, store).choose(problem)
    assert torch.equal(torch.cuda.get_rng_state(GPU), state)
    assert store.file is not None
    decisions = list(read_decisions(store.file).decisions.values())
    if not decisions:
        pytest.skip("there is one candidate only")
    assert [decision.winner for decision in decisions] == [chosen.name]
    assert decisions[0].dropped == {}
    assert decisions[0].ratio is not None
