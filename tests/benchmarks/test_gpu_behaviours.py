"""Each behaviour is seen where a backend lacks it, and the right one passes them all."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu import behaviours, check, subject, verdict, worker
from benchmarks.gpu.devices import CpuDevice
from benchmarks.gpu.grid import AUTO_BEHAVIOURS, BEHAVIOURS, PRECISIONS
from benchmarks.gpu.results import failed
from fastrnn.recurrence import autoselect, dispatch
from fastrnn.recurrence.backends import EagerBackend
from fastrnn.recurrence.backends.base import (
    ForwardResult,
    InputGrads,
    OutputGrads,
    WantedGrads,
)
from fastrnn.recurrence.decisions import alone
from fastrnn.recurrence.problem import LayerArgs, Problem

from ..recurrence.stand_ins import Bench

# Torch's compiler warns of its own code.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Spoil = Callable[[Problem, LayerArgs, ForwardResult], ForwardResult]


class StandIn(EagerBackend):
    """The reference under another name, spoiled as a test likes."""

    def __init__(self, name: str = "stand-in") -> None:
        self.name = name
        self.spoil: Spoil = lambda problem, args, result: result
        self.spoil_grads: Callable[[InputGrads], InputGrads] = lambda grads: grads

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        return self.spoil(problem, args, super().forward(problem, args))

    def backward(
        self,
        problem: Problem,
        args: LayerArgs,
        y: Tensor,
        reserve: Tensor,
        grads: OutputGrads,
        wanted: WantedGrads,
    ) -> InputGrads:
        return self.spoil_grads(super().backward(problem, args, y, reserve, grads, wanted))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    # First, so that `auto` takes it on the CPU.
    monkeypatch.setattr(dispatch, "BACKENDS", (stand_in, *dispatch.BACKENDS))
    return stand_in


def run(behaviour: str, precision: str = "fp32", backend: str = "stand-in") -> dict[str, Any]:
    params = {"behaviour": behaviour, "backend": backend, "precision": precision}
    job = {"name": behaviour, "kind": "behaviour", "params": params}
    return worker.run(job, worker.Context(CpuDevice(), lambda message: None))


def of_y(change: Callable[[Tensor, LayerArgs], Tensor]) -> Spoil:
    return lambda problem, args, result: result._replace(y=change(result.y, args))


def noisy(y: Tensor, args: LayerArgs) -> Tensor:
    return torch.nextafter(y, torch.rand_like(y) - 0.5)


def reads_padding(y: Tensor, args: LayerArgs) -> Tensor:
    return y + 0.0 * args.x.sum()


def leaves_padding(y: Tensor, args: LayerArgs) -> Tensor:
    return y.where(y != 0.0, 1e-20)


def leaks(y: Tensor, args: LayerArgs) -> Tensor:
    return y + 0.0 * args.x.sum((1, 2))[:, None, None]


def hides_nan(y: Tensor, args: LayerArgs) -> Tensor:
    return y.nan_to_num()


def overflows(y: Tensor, args: LayerArgs) -> Tensor:
    return y + 0.0 * args.x.abs().amax().double().mul(0.1).exp().float().exp()


def wrong_last_state(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
    return result._replace(h_n=result.h_n * 1.5) if problem.last_state_only else result


def returns_y(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
    return result._replace(y=result.h_n[:1]) if problem.last_state_only else result


def wrong_if_compiled(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
    return result._replace(c_n=result.c_n * 1.01)


WRONG = [
    ("bit-identical from run to run", of_y(noisy), "y differs by"),
    ("bit-identical, padded", of_y(noisy), "y differs by"),
    ("padding is never read", of_y(reads_padding), "y is not finite"),
    ("padding is never read", of_y(leaves_padding), "y is not zero in the padding"),
    ("a NaN stays in its sequence", of_y(leaks), "it reaches other sequences"),
    ("a NaN stays in its sequence", of_y(hides_nan), "a NaN in x does not reach y"),
    ("extreme inputs stay finite", of_y(overflows), "y is not finite"),
    ("last state alone", wrong_last_state, "h_n differs by"),
    ("compiled without a graph break", wrong_if_compiled, "c_n: error"),
    ("compiled with lengths", wrong_if_compiled, "c_n: error"),
]


@pytest.mark.parametrize(
    ("behaviour", "spoil", "told"), WRONG, ids=[f"{b}: {t}" for b, _, t in WRONG]
)
def test_a_backend_that_lacks_a_behaviour_is_wrong(
    behaviour: str, spoil: Spoil, told: str, backend: StandIn
) -> None:
    backend.spoil = spoil
    record = run(behaviour)
    assert record["status"] == "wrong", record
    assert any(told in text for text in record["errors"])


@pytest.mark.parametrize("behaviour", [b for b in BEHAVIOURS if "every configuration" not in b])
def test_a_right_backend_has_them_all(behaviour: str, backend: StandIn) -> None:
    expected = "skipped" if behaviours.CHECKS[behaviour][2] else "ok"
    assert run(behaviour)["status"] == expected


def test_gradients_are_looked_at_too(backend: StandIn) -> None:
    backend.spoil_grads = lambda grads: grads._replace(w_hh=_noisy(grads.w_hh))
    record = run("bit-identical from run to run")
    assert record["status"] == "wrong"
    assert all("grad w_hh" in text for text in record["errors"])


def _noisy(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor + torch.rand_like(tensor) * 1e-6


def test_a_graph_break_is_wrong(backend: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(problem: Problem) -> list[str]:
        torch._dynamo.graph_break()
        return []

    monkeypatch.setattr(backend, "supports", refuses)
    for name, who in (("compiled without a graph break", "stand-in"), (AUTO_BEHAVIOURS[3], "auto")):
        record = run(name, backend=who)
        assert record["status"] == "wrong"
        assert "breaks the graph" in record["errors"][0]


def rounds_cells(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
    """Run again, step by step, with the state in the input's dtype between the steps."""
    steps = EagerBackend()
    h, c = args.h_0, args.c_0
    for x in args.x:
        at = args._replace(x=x[None], h_0=h, c_0=c)
        _, h, c, _ = steps.forward(Problem.from_args(at, training=False), at)
    assert h is not None
    assert c is not None
    return result._replace(h_n=h, c_n=c)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_cell_state_that_is_rounded_at_each_step_stagnates(
    precision: str, backend: StandIn
) -> None:
    small_steps = "small steps of the cell state add up"
    assert run(small_steps, precision)["status"] == "ok"
    backend.spoil = rounds_cells
    rounded = run(small_steps, precision)
    assert rounded["status"] == ("wrong" if precision in ("fp16", "bf16") else "ok")
    if rounded["status"] == "wrong":
        assert "c went from 1 to 1.0000 instead of 1.05" in rounded["errors"][0]


def test_every_configuration_is_held_to_the_same(
    backend: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def forced_wrong() -> Any:
        backend.spoil = of_y(lambda y, args: y * 1.01)
        yield

    def of(problem: Problem) -> list[tuple[str, AbstractContextManager[None]]]:
        return [("first", nullcontext()), ("second", forced_wrong())]

    monkeypatch.setitem(behaviours.CONFIGURATIONS, "stand-in", of)
    record = run("every configuration, H=16")
    assert record["status"] == "wrong"
    assert {text.split(":")[0] for text in record["errors"]} == {"second"}
    assert any("inference" in text for text in record["errors"])


def test_auto_is_held_to_float64_eagerly_and_compiled(backend: StandIn) -> None:
    choice, compiled = AUTO_BEHAVIOURS[0], AUTO_BEHAVIOURS[3]
    right = run(compiled, backend="auto")
    assert right["status"] == "ok"
    assert right["chosen"] == {"outside": "stand-in"}
    assert run(choice, backend="auto")["decisions"]["H=64"] == "stand-in"
    backend.spoil = wrong_if_compiled
    for name in (choice, compiled):
        assert run(name, backend="auto")["status"] == "wrong"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", AUTO_BEHAVIOURS[1:3])
def test_auto_in_a_graph_needs_a_gpu_and_is_held_to_float64(
    name: str, precision: str, backend: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(name, backend="auto")["status"] == "skipped"

    def replayed(s: subject.Subject) -> tuple[list[Tensor], Any]:
        return s.results(), s.case

    monkeypatch.setattr("benchmarks.gpu.auto_behaviours.replayed", replayed)
    monkeypatch.setattr(CpuDevice, "type", "cuda")
    assert run(name, precision, "auto")["status"] == "ok"
    backend.spoil = of_y(lambda y, args: y + 4.0)
    assert run(name, precision, "auto")["status"] == "wrong"


def test_a_graph_that_forgets_what_was_found_faster_is_wrong(
    backend: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replayed(s: subject.Subject) -> tuple[list[Tensor], Any]:
        results, s.chosen = s.results(), "eager"
        return results, s.case

    monkeypatch.setattr("benchmarks.gpu.auto_behaviours.replayed", replayed)
    monkeypatch.setattr(CpuDevice, "type", "cuda")
    record = run(AUTO_BEHAVIOURS[2], backend="auto")
    assert record["errors"] == ["a graph gets eager, though stand-in was found faster"]


def test_auto_without_a_trial_is_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path / "decisions.json")
    monkeypatch.setattr(dispatch, "_selector", bench.selector)
    monkeypatch.setattr(dispatch, "_DEVICES_WITH_TRIALS", frozenset({"cpu"}))
    monkeypatch.setattr(dispatch, "BACKENDS", bench.backends)
    monkeypatch.setattr(autoselect, "_RETRY_SECONDS", 0.0)
    with alone("trial on first", bench.file):
        for name in (AUTO_BEHAVIOURS[0], AUTO_BEHAVIOURS[3]):
            record = run(name, backend="auto")
            assert record["status"] == "skipped"
            assert "no trial was held" in record["reason"]
            assert not record.get("decisions")
    assert run(AUTO_BEHAVIOURS[0], backend="auto")["decisions"]["H=64"] == "fast"
    record = run(AUTO_BEHAVIOURS[3], backend="auto")
    assert record["chosen"] == {"outside": "fast"}
    assert record.get("status", "ok") == "ok"


def test_what_torchs_own_library_does_is_no_failure_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = StandIn("cudnn")
    others = tuple(b for b in dispatch.BACKENDS if b.name != "cudnn")
    monkeypatch.setattr(dispatch, "BACKENDS", (library, *others))
    library.spoil = of_y(noisy)
    noise = run("bit-identical from run to run", backend="cudnn")
    assert (noise["status"], failed(noise)) == (verdict.BASELINE_FAILED, False)
    assert "y differs by" in noise["errors"][0]
    library.spoil = wrong_last_state  # what our code around it does is ours
    assert failed(run("last state alone", backend="cudnn"))

    def raises(*_: object) -> ForwardResult:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    library.spoil = raises
    error = run("extreme inputs stay finite", backend="cudnn")
    assert error["status"] == verdict.BASELINE_FAILED
    assert "EXECUTION_FAILED" in error["error"]


def test_a_warning_is_told_also_of_what_was_skipped() -> None:
    def skipped() -> dict[str, Any]:
        warnings.warn("in a trial of backends some failed", RuntimeWarning, stacklevel=1)
        return {"status": "skipped", "reason": "no trial was held"}

    record = check.with_warnings(skipped)
    assert record["status"] == "warned"
    assert failed(record)
