"""One cell of the comparison: checked, timed in turns, and what becomes of a library that fails."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cases import LayerCase
from benchmarks.peers import session
from benchmarks.peers.__main__ import arguments, summary
from benchmarks.peers.cases import Cell, Selection
from benchmarks.peers.check import expected, what_is_wrong
from benchmarks.peers.client import PeerError, Threads, WorkerDied, WorkerProcess
from benchmarks.peers.results import Results
from benchmarks.peers.runner import Budget, CellRun, Workers, as_stored
from benchmarks.peers.session import Session
from benchmarks.peers.work import CHECK_STEPS, draw_lengths

LAYER = LayerCase(3, 8, 4, 66)
SHORT = LayerCase(3, 8, 4, CHECK_STEPS)
QUICK = Budget(seconds=0.0)


class FakeWorkers:
    """Workers without processes: right results, and times as they are told."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], None] = lambda op, peer: None
        self.spoil = ""

    def of(self, peer: str, threads: int) -> "FakeWorkers":
        return self

    def drop(self) -> None:
        pass

    close = drop

    def ask(self, op: str, *, peer: str, timeout: float, **fields: Any) -> dict[str, Any]:
        self.asked.append((op, peer))
        self.fail(op, peer)
        if op == "check":
            truth = expected(SHORT, training=False).truth["y"].numpy()
            np.savez(fields["path"], y=truth + (0.01 if peer == self.spoil else 0))
        return {"seconds": self.seconds[peer], "peak_bytes": 3_000_000}


def run(workers: Any, peers: tuple[str, ...], budget: Budget = QUICK) -> dict[str, Any]:
    cell = Cell(LAYER, False, 1)
    return as_stored(CellRun(cell, peers, workers, budget).run(), cell)


def test_times_and_ratios_are_stored() -> None:
    stored = run(FakeWorkers(fastrnn=0.01, torch=0.03), ("fastrnn", "torch"))
    assert stored["fastrnn"]["ms"]["p50"] == pytest.approx(10)
    assert stored["fastrnn"]["calls_per_turn"] == 2  # turns of 20 ms
    assert stored["fastrnn"]["peak_mb"] == 3.0
    assert "ratio" not in stored["fastrnn"]
    assert stored["torch"]["ratio"]["p50"] == pytest.approx(3)
    assert stored["torch"]["rounds"] == 3
    flops = 2 * 4 * 8 * (3 + 8) * 4 * 66
    assert stored["torch"]["gflops"] == round(flops / 0.03 / 1e9, 1)


def test_who_goes_first_changes() -> None:
    workers = FakeWorkers(fastrnn=0.5, torch=0.5, jax=0.5)
    run(workers, ("fastrnn", "torch", "jax"), Budget(seconds=1.5))
    turns = [peer for op, peer in workers.asked if op == "time"][3:]  # after the warm-up
    assert turns[:3] == ["fastrnn", "torch", "jax"]
    assert turns[3:6] == ["torch", "jax", "fastrnn"]
    assert turns[6:] == ["jax", "fastrnn", "torch"]


def test_slow_libraries_take_part_in_fewer_rounds() -> None:
    workers = FakeWorkers(fastrnn=0.02, torch=0.02, jax=0.4)
    stored = run(workers, ("fastrnn", "torch", "jax"), Budget(seconds=0.2))
    assert [stored[peer]["rounds"] for peer in stored] == [10, 10, 1]
    assert stored["jax"]["ratio"]["p50"] == pytest.approx(20)


def test_a_long_first_call_is_a_round() -> None:
    workers = FakeWorkers(fastrnn=2.0, torch=4.0)
    stored = run(workers, ("fastrnn", "torch"))
    assert [stored[peer]["rounds"] for peer in stored] == [3, 3]
    assert [op for op, peer in workers.asked if peer == "torch"].count("time") == 2


def test_wrong_results_have_no_speed() -> None:
    workers = FakeWorkers(fastrnn=0.01, torch=0.03)
    workers.spoil = "torch"
    stored = run(workers, ("fastrnn", "torch"))
    assert stored["torch"]["error"].startswith("wrong results, so no speed: y: error 0.01, allowed")
    assert "ms" not in stored["torch"]
    assert "ms" in stored["fastrnn"]
    assert ("time", "torch") not in workers.asked
    assert "[red]torch: wrong results" in summary("cell", stored)


def test_what_would_take_too_long_is_not_run_and_says_how_long() -> None:
    workers = FakeWorkers(fastrnn=0.01, torch=50.0)
    stored = run(workers, ("fastrnn", "torch"))
    assert stored["torch"] == {"reason": "not run: needs about 100 s a call", "estimate_s": 100.0}
    assert ("first", "torch") not in workers.asked


def test_a_library_that_raises_is_out_and_the_others_go_on() -> None:
    def fail(op: str, peer: str) -> None:
        if (op, peer) == ("first", "jax"):
            raise PeerError("NotImplementedError: no such shape")

    workers = FakeWorkers(fastrnn=0.01, torch=0.03, jax=0.01)
    workers.fail = fail
    stored = run(workers, ("fastrnn", "torch", "jax"))
    assert stored["jax"] == {"reason": "NotImplementedError: no such shape"}
    assert stored["torch"]["rounds"] == 3


def test_when_a_process_ends_the_others_begin_again() -> None:
    def fail(op: str, peer: str) -> None:
        if (op, peer) == ("first", "torch"):
            raise WorkerDied("the process was killed: most likely out of memory")

    workers = FakeWorkers(fastrnn=0.01, torch=0.03)
    workers.fail = fail
    stored = run(workers, ("fastrnn", "torch"))
    assert stored["torch"] == {"reason": "the process was killed: most likely out of memory"}
    assert stored["fastrnn"]["rounds"] == 3


def test_inference_only_is_a_reason() -> None:
    workers: Any = FakeWorkers()
    found = CellRun(Cell(LAYER, True, 1), ("onnxruntime",), workers, QUICK).run()
    assert found["onnxruntime"].outcome == {"reason": "inference only"}
    assert workers.asked == []


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """A real process with torch and fastrnn, of this environment."""
    made = Workers(["fastrnn", "torch"], lambda environment: Path(sys.executable))
    yield made
    made.close()


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_torch_and_fastrnn_run_in_a_process_of_their_own(workers: Workers, training: bool) -> None:
    layer = LayerCase(3, 8, 4, 40, bidirectional=True, variable=True)
    cell = Cell(layer, training, 1)
    stored = as_stored(CellRun(cell, ("fastrnn", "torch"), workers, QUICK).run(), cell)
    assert all(stored[peer]["ms"]["p50"] > 0 for peer in ("fastrnn", "torch")), stored
    assert stored["torch"]["rounds"] == 3
    assert {"torch", "fastrnn"} <= set(workers.versions["torch"])


def test_what_a_library_raises_comes_back(workers: Workers) -> None:
    worker = workers.of("torch", 1)
    worker.ask("drop")
    with pytest.raises(PeerError, match="KeyError: 'torch'"):
        worker.ask("time", peer="torch", repeats=1)


def test_a_process_that_is_gone_or_silent_is_told() -> None:
    silent = WorkerProcess(Path(sys.executable), ["torch"], Threads(1))
    with pytest.raises(WorkerDied, match="no answer to 'describe' within 0 s"):
        silent.ask("describe", timeout=0.01)
    refused = WorkerProcess(Path(sys.executable), ["nobody"], Threads(1))
    with refused, pytest.raises(WorkerDied, match="exit code 2"):
        refused.ask("describe")


def test_the_check_finds_what_is_wrong() -> None:
    truth = {name: t.numpy() for name, t in expected(SHORT, training=True).truth.items()}
    found = {name: truth[name] for name in ("y", "grad w_ih", "grad w_hh", "grad bias")}
    assert what_is_wrong(SHORT, True, found) == ""
    spoiled = found["grad w_hh"].copy()
    spoiled[0, 3, 2] = np.nan
    assert "grad w_hh: error nan" in what_is_wrong(SHORT, True, {**found, "grad w_hh": spoiled})
    assert "bias: shape" in what_is_wrong(SHORT, True, {**found, "grad bias": spoiled})
    del found["grad bias"]
    assert what_is_wrong(SHORT, True, found) == "grad bias: missing"


def test_what_is_past_a_length_does_not_count() -> None:
    case = LayerCase(3, 8, 4, CHECK_STEPS, variable=True)
    y = expected(case, training=False).truth["y"].numpy().copy()
    drawn = draw_lengths(case)
    assert drawn is not None
    lengths = drawn.tolist()
    assert min(lengths) < CHECK_STEPS
    for row, length in enumerate(lengths):
        y[length:, row] = 7
    assert what_is_wrong(case, False, {"y": y}) == ""
    y[lengths[0] - 1, 0] = 7
    assert what_is_wrong(case, False, {"y": y}) != ""


def test_a_session_stores_each_cell_with_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {
        "sgemm_gflops": {"square": 100.0},
        "activation_ns": {"tanh": 1.0},
        "bandwidth_gb_s": {"L2": 200.0, "L3": 40.0, "DRAM": 10.0},
        "cache_bytes": {"L1": 2**15, "L2": 2**20, "L3": 2**25},
    }
    monkeypatch.setattr(session, "_measure_machine", lambda threads: machine)
    results = Results(tmp_path / "peers.json")
    fakes: Any = FakeWorkers(fastrnn=0.01, torch=0.03)
    fakes.versions = {"torch": {"torch": "2.13"}}
    runs = Session(results, QUICK, "avx2", start=lambda peers: fakes)
    cells = [Cell(LAYER, False, 1), Cell(LAYER, False, 2)]
    steps = list(runs.run([Selection(cell, ("fastrnn", "torch")) for cell in cells]))
    assert [cell for cell, _ in steps] == [cells[0], cells[0], cells[1], cells[1]]
    stored = Results(results.path).cells
    assert list(stored) == [cell.name for cell in cells]
    ours = stored[cells[0].name]["peers"]["fastrnn"]
    assert ours["gap"] == pytest.approx(10 / stored[cells[0].name]["limit"]["ms"], rel=1e-2)
    assert ours["environment"] in results.environments
    assert stored[cells[0].name]["layer"] == asdict(LAYER)
    assert 0 <= stored[cells[0].name]["busy"] <= 1
    assert not runs.left(
        [Selection(cell, ("torch",)) for cell in cells], again=False, any_commit=True
    )
    # No cell is begun after the time is up.
    assert list(runs.run([Selection(cells[0], ("fastrnn",))], minutes=0)) == []


def test_arguments_choose() -> None:
    chosen = arguments(["--preset", "short", "--peers", "jax", "torch", "--threads", "1"])
    assert (chosen.preset, chosen.peers, chosen.threads) == ("short", ["jax", "torch"], [1])
    with pytest.raises(SystemExit):
        arguments(["--peers", "theano"])
