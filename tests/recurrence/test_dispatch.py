"""Who runs a problem, who is forced, and why not."""

import threading
from dataclasses import replace

import pytest
import torch

import fastrnn
from fastrnn.recurrence.dispatch import (
    BACKENDS,
    BackendError,
    explain,
    forced_backend,
    merges_projection,
    select,
)
from fastrnn.recurrence.problem import Problem

PROBLEM = Problem(8, 2, 3, 4, 1, 0, torch.float32, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTRNN_BACKEND", raising=False)


def test_auto_takes_the_native_kernels_where_it_can() -> None:
    assert select(PROBLEM).name == "cpu"
    assert select(replace(PROBLEM, dtype=torch.float16)).name == "cpu"
    assert select(replace(PROBLEM, variants=("coupled_gates", "reset"))).name == "cpu"
    assert select(replace(PROBLEM, proj_size=2)).name == "eager"
    assert select(replace(PROBLEM, variants=("reset", "layer_norm"))).name == "eager"
    assert select(replace(PROBLEM, device=torch.device("meta"))).name == "eager"


def test_the_last_backend_takes_everything() -> None:
    for change in ({"dtype": torch.bfloat16}, {"batch_size": 0}, {"input_size": 0}):
        assert BACKENDS[-1].supports(replace(PROBLEM, **change)) == []


def test_use_backend_nests_and_is_undone() -> None:
    with fastrnn.use_backend("eager"):
        assert select(PROBLEM).name == "eager"
        with fastrnn.use_backend("cpu"):
            assert select(PROBLEM).name == "cpu"
            with fastrnn.use_backend("auto"):
                assert forced_backend() is None
        assert select(PROBLEM).name == "eager"
    assert forced_backend() is None


def test_use_backend_holds_in_its_own_thread_only() -> None:
    seen: list[str | None] = []
    with fastrnn.use_backend("eager"):
        thread = threading.Thread(target=lambda: seen.append(forced_backend()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_environment_forces_and_the_context_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRNN_BACKEND", "eager")
    assert select(PROBLEM).name == "eager"
    with fastrnn.use_backend("cpu"):
        assert select(PROBLEM).name == "cpu"
    assert select(PROBLEM, "cpu").name == "cpu"


def test_projections_are_merged_for_the_cpus_kernels_alone() -> None:
    problem = replace(PROBLEM, proj_size=2)
    assert merges_projection(problem)
    assert merges_projection(problem, "cpu")
    assert not merges_projection(problem, "eager")
    assert not merges_projection(PROBLEM)
    assert not merges_projection(replace(problem, variants=("zoneout",)))
    assert not merges_projection(replace(problem, device=torch.device("cuda")))


def test_a_forced_backend_never_falls_back() -> None:
    with fastrnn.use_backend("cpu"), pytest.raises(BackendError, match=r"cpu.*layer_norm"):
        fastrnn.LSTM(3, 4, layer_norm=True)(torch.zeros(5, 2, 3))


def test_an_unknown_backend_is_named_with_the_known_ones() -> None:
    with (
        pytest.raises(BackendError, match=r"'cuddn'.*'cpu', .*'eager'"),
        fastrnn.use_backend("cuddn"),
    ):
        pass
    with pytest.raises(BackendError, match="should be 'auto' or one of"):
        select(PROBLEM, "nope")


def test_explain_gives_reasons() -> None:
    reasons = explain(replace(PROBLEM, proj_size=2, variants=("reset", "zoneout")))
    assert reasons["eager"] == []
    assert any("proj_size" in reason for reason in reasons["cpu"])
    assert any("zoneout" in reason for reason in reasons["cpu"])
    assert not any("reset" in reason for reason in reasons["cpu"])


def test_a_missing_native_module_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = BACKENDS[0]
    monkeypatch.setitem(cpu.__dict__, "_import", (None, ["the native module is missing"]))
    assert select(PROBLEM).name == "eager"
    assert explain(PROBLEM)["cpu"] == ["the native module is missing"]
