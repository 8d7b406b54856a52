"""Cells are measured in both directions; failures are told apart; nothing is left out silently."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from benchmarks.gpu import peers, profile, speed, speed_stage, stages, verdict, worker
from benchmarks.gpu.clock import Deadline
from benchmarks.gpu.devices import CpuDevice
from benchmarks.gpu.peers import Peer, Workload
from benchmarks.gpu.plan import Cell, all_cells
from benchmarks.gpu.results import failed
from benchmarks.gpu.run import Run
from benchmarks.gpu.settings import Found, Settings
from benchmarks.gpu.supervisor import Job
from fastrnn.recurrence.problem import LayerArgs

CELL = Cell(3, 8, 4, 24, "fp32", packed=False, training=True)
ORDINARY = peers.peer


def context() -> worker.Context:
    return worker.Context(CpuDevice(), lambda message: None)


def measured(cell: Cell = CELL, **params: Any) -> dict[str, Any]:
    return speed.run_cell({"cell": cell.as_params(), "backends": ["cpu"], **params}, context())


def failing(*names: str) -> Callable[[str, Workload], Peer]:
    def run() -> list[torch.Tensor]:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")

    return lambda name, work: Peer(name, run) if name in names else ORDINARY(name, work)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_layer_of_two_directions_is_measured(packed: bool, training: bool) -> None:
    cell = replace(CELL, num_directions=2, packed=packed, training=training)
    record = measured(cell)
    assert record["status"] == "ok", record
    assert "ms" in record["peers"]["cpu"]
    work = Workload.of(cell, torch.device("cpu"))
    assert peers.peer("cpu", work).run()[0].shape == (24, 4, 16)


def test_the_gate_sees_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def faults(name: str, args: LayerArgs, *rest: Any) -> list[str]:
        seen.append(args.w_ih.shape[0])
        return []

    monkeypatch.setattr(speed, "faults", faults)
    for directions in (1, 2):
        measured(replace(CELL, num_directions=directions))
    assert seen == [1, 2]


def test_a_cell_names_the_class_whose_kernels_it_shares() -> None:
    assert measured()["kernel_class"] == CELL.kernel_class


def test_a_failure_of_torch_is_shown_but_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "peer", failing("torch"))
    record = measured()
    assert (record["status"], failed(record)) == (verdict.BASELINE_FAILED, False)
    assert record["errors"] == ["torch: RuntimeError: cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"]
    assert "ms" in record["peers"]["cpu"]
    monkeypatch.setattr(peers, "peer", failing("torch", "cpu"))
    both = measured()
    assert (both["status"], failed(both)) == ("error", True)
    assert both["errors"][0].startswith("cpu: ")


def test_auto_fails_as_the_baseline_that_it_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cell, "measures_auto", True)
    monkeypatch.setattr(peers, "peer", failing("auto"))
    record = measured()
    assert (record["status"], record["peers"]["auto"]["chosen"]) == ("error", "cpu")
    found = {**record["peers"], "auto": {**record["peers"]["auto"], "chosen": "cudnn"}}
    assert verdict.of_peers(found)["status"] == verdict.BASELINE_FAILED


def test_a_crash_of_torch_is_shown_but_does_not_make_the_cell_fail() -> None:
    crash = {"status": "crashed", "error": "timeout in timing"}
    record = measured(skip={"torch": crash})
    assert record["status"] == verdict.BASELINE_FAILED
    assert measured(skip={"cpu": crash})["status"] == "error"


def test_kernels_that_the_profiler_sees_of_torch_alone_are_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = {"cell": CELL.as_params(), "backends": ["cpu"]}
    assert profile.run_kernels(params, context())["status"] == "ok"
    found = iter([{"aten::lstm": (1.0, 1)}, {}])
    monkeypatch.setattr(profile, "_totals", lambda events, on_gpu: next(found))
    record = profile.run_kernels(params, context())
    assert (record["status"], failed({"kind": "kernels", **record})) == ("error", True)
    assert record["errors"] == ["cpu: the profiler saw no kernel"]


def test_a_profiler_that_cannot_reach_the_device_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(profile, "_totals", lambda events, on_gpu: {})
    record = profile.run_kernels({"cell": CELL.as_params(), "backends": ["cpu"]}, context())
    assert record["status"] == "skipped"
    assert record["reason"] == "the profiler sees no kernel, of torch neither"


def test_an_error_in_the_forward_pass_is_not_hidden_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(profile, "OVERHEAD_CALLS", 1)
    broken = failing("cpu")

    def peer(name: str, work: Workload) -> Peer:
        return ORDINARY(name, work) if work.cell.training else broken(name, work)

    monkeypatch.setattr(peers, "peer", peer)
    record = profile.run_overhead({"precision": "fp32", "backends": ["cpu"]}, context())
    assert record["status"] == "error"
    assert record["peers"]["cpu"]["status"] == "error"


class StubRun:
    """What the stage asks of a run, whose supervisor leaves everything out."""

    def __init__(self, memory: int | None) -> None:
        self.settings = Settings(pattern="H=1024, B=1024, T=8192|H=64, B=32, T=256")
        self.found = Found(memory=memory)
        self.noted: dict[str, list[Job]] = {}

    def left_out(self, stage: str, jobs: list[Job]) -> int:
        if jobs:
            assert stage not in self.noted
            self.noted[stage] = list(jobs)
        return len(jobs)

    def show(self, text: str) -> None:
        pass

    def supervisor(self, stage: str, threads: int, **hooks: Any) -> Any:
        class Supervisor:
            left_out: list[Job] = []  # noqa: RUF012

            def run(self, bundles: list[list[Job]], deadline: Deadline) -> None:
                self.left_out = [job for bundle in bundles for job in bundle]

        return Supervisor()


def test_cells_that_do_not_fit_into_memory_are_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = StubRun(80 * 2**30)
    planned: list[Cell] = []
    monkeypatch.setattr(speed_stage, "speed", lambda run, cells: planned.extend(cells) or (1, 0))
    stages.speed(cast(Run, run))
    (noted,) = run.noted.values()
    names = {cell.name for cell in noted}
    assert names
    assert all("H=1024, B=1024" in name for name in names)
    assert names.isdisjoint(cell.name for cell in planned)
    matching = run.settings.chosen([cell.name for cell in all_cells()])
    assert len(names) + len(planned) == len(matching)


def test_kernels_that_there_was_no_time_to_name_are_noted() -> None:
    run = StubRun(None)
    speed_stage.profile_kernels(cast(Run, run), [CELL], Deadline.after(0))
    (noted,) = run.noted.items()
    assert (noted[0], [job.name for job in noted[1]]) == ("speed, kernels", [CELL.kernel_class])


class ProfiledRun(StubRun):
    """A run whose workers answer nothing, with some time left."""

    def __init__(self, seconds: float) -> None:
        super().__init__(None)
        self.settings = Settings(stages=("profile",))
        self.found = Found(backends={"triton": ""})
        self.deadline = Deadline.after(seconds)
        self.records: list[dict[str, Any]] = []
        self.bundles: list[list[str]] = []
        self.asked: list[float] = []

    def supervisor(self, stage: str, threads: int, **hooks: Any) -> Any:
        outer = self

        class Supervisor:
            left_out: list[Job] = []  # noqa: RUF012

            def run(self, bundles: list[list[Job]], deadline: Deadline) -> None:
                outer.bundles += [[job.kind for job in bundle] for bundle in bundles]

        return Supervisor()

    def alone(self, jobs: list[Job], seconds: float) -> None:
        self.asked.append(seconds)


def test_profile_starts_one_worker_and_the_compiler_gets_what_is_left() -> None:
    run = ProfiledRun(200.0)
    stages.profile(cast(Run, run))
    assert run.bundles == [["overhead"] * 2 + ["kernels"] * 5]
    assert run.asked == [stages.MAX_RESOURCE_SECONDS]
    late = ProfiledRun(stages.MIN_RESOURCE_SECONDS)
    stages.profile(cast(Run, late))
    assert late.asked == []
    assert [job.name for job in late.noted["profile"]] == ["resources"]


def test_counters_are_not_begun_without_the_time_for_them() -> None:
    run = ProfiledRun(100.0)
    peers_found = {"triton": {"status": "ok", "kernels": [{"kernel": "forward"}]}}
    record = {"kind": "kernels", "name": "profile: x", "cell": {}, "peers": peers_found}
    run.records.append(record)
    run.add = run.records.append  # type: ignore[attr-defined]
    stages._counters(cast(Run, run), Deadline.after(stages.MIN_NCU_SECONDS - 1))
    assert run.records[-1]["reason"] == "less than 25 s were left"
