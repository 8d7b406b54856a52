"""The stages of a run on the CPU: what is asked for, what is left out, and what breaks."""

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import peers, speed_stage, stages, supervisor
from benchmarks.gpu.grid import AUTO_BEHAVIOURS, BEHAVIOURS, PRECISIONS, all_cases
from benchmarks.gpu.plan import Cell, self_test_cells
from benchmarks.gpu.results import Record
from benchmarks.gpu.run import Run
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.supervisor import Job


def on_the_cpu(folder: Path, *options: str) -> int:
    usual = ("--device=cpu", "--self-test", f"--output={folder}", "--workers=1", "--minutes=2")
    return command.main([*usual, *options])


def found_in(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("gpu_cpu*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


UNUSABLE = """
from fastrnn.recurrence import dispatch
from fastrnn.recurrence.backends import EagerBackend

class Unusable(EagerBackend):
    name = "unusable"

    def unavailable(self):
        return ["its compiler is gone"]

dispatch.BACKENDS = (Unusable(), *dispatch.BACKENDS)
"""


Answers = dict[str, Record]


def ask(settings: Settings) -> Answers:
    """What a worker says of this machine and its backends, by the question."""
    run = Run(settings, lambda text: None)
    records = run.alone([stages._describe(run), Job("backends", "backends")])
    run.close()
    return {record["name"]: record for record in records}


def repeat(answers: Answers, patch: pytest.MonkeyPatch) -> None:
    """Give answers that are known to every run that asks, without a start of a worker."""

    def alone(run: Run, jobs: list[Job], seconds: float = 0.0) -> list[Record]:
        records = [dict(answers[job.name]) for job in jobs]
        for record in records:
            run.add(record)
        return records

    patch.setattr(Run, "alone", alone)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return ask(Settings(output=tmp_path_factory.mktemp("asked"), device="cpu"))


@pytest.fixture
def known_machine(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    repeat(answers, monkeypatch)


@pytest.fixture(scope="module")
def with_unusable(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Answers]:
    """A plugin's backend that cannot run, and what a worker with it answers."""
    folder = tmp_path_factory.mktemp("unusable")
    plugin = folder / "unusable.py"
    plugin.write_text(UNUSABLE)
    return str(plugin), ask(Settings(output=folder, device="cpu", plugin=str(plugin)))


@pytest.mark.parametrize(("backends", "code"), [("", 1), ("cpu", 0), ("cpu,unusable", 1)])
def test_a_backend_that_cannot_run_is_a_failure_unless_it_is_not_wanted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_unusable: tuple[str, Answers],
    backends: str,
    code: int,
) -> None:
    plugin, answers = with_unusable
    repeat(answers, monkeypatch)
    options = ["--stages=check", "--filter=^cpu, fp32: last state alone$", f"--plugin={plugin}"]
    assert on_the_cpu(tmp_path, *options, f"--backends={backends}") == code
    failures = found_in(tmp_path)["failures"]
    assert [found["name"] for found in failures] == ["unusable"] * code
    assert all("its compiler is gone" in found["errors"][0] for found in failures)


@pytest.mark.usefixtures("known_machine")
def test_a_filter_that_matches_nothing_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert on_the_cpu(tmp_path, "--stages=check,speed", "--filter=nothing") == 1
    text = capsys.readouterr().out
    assert "--filter is 'nothing'; it should match a name of a case" in text
    assert "--filter is 'nothing'; it should match a name of a cell" in text


@pytest.mark.usefixtures("known_machine")
def test_cells_without_room_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned: list[Cell] = []
    monkeypatch.setattr(stages, "fitting", lambda cells, memory: cells[:1])
    monkeypatch.setattr(speed_stage, "speed", lambda run, cells: planned.extend(cells) or (1, 0))
    assert on_the_cpu(tmp_path, "--stages=speed") == 0
    assert "3 cells do not fit into this device's memory" in capsys.readouterr().out
    assert planned == self_test_cells()[:1]
    assert list(found_in(tmp_path)["left_out"].values()) == [3]


@pytest.mark.usefixtures("known_machine")
@pytest.mark.parametrize(
    ("measured", "left", "pattern", "code"),
    [(1, 3, "", 0), (1, 0, "I=3", 0), (0, 4, "", 3), (1, 1, "I=3", 3)],
    ids=["some of all", "all that were asked for", "none", "not all that were asked for"],
)
def test_speed_that_measured_less_than_was_asked_for_is_incomplete(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: int,
    left: int,
    pattern: str,
    code: int,
) -> None:
    monkeypatch.setattr(speed_stage, "speed", lambda run, cells: (measured, left))
    assert on_the_cpu(tmp_path, "--stages=speed", f"--filter={pattern}") == code
    assert bool(found_in(tmp_path)["incomplete"]) == bool(code)


def test_a_device_without_an_answer_is_told_with_the_place_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "_describe", lambda run: Job("environment", "nosuch"))
    on_the_cpu(tmp_path, "--stages=env")
    text = capsys.readouterr().out
    assert "nothing is stored: nobody answered which device this is" in text
    assert str(tmp_path / "gpu_run" / "lines.jsonl") in text
    assert str(tmp_path / "gpu_run" / "workers.log") in text


def test_a_full_disk_ends_the_run_with_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = Run.add

    def full(run: Run, record: dict[str, Any]) -> None:
        add(run, record)
        if record["kind"] != "options":
            raise OSError("no space left on device")

    monkeypatch.setattr(Run, "add", full)
    assert on_the_cpu(tmp_path, "--stages=env") == 1
    text = capsys.readouterr().out
    assert "stopped by OSError('no space left on device')" in text
    assert "the stage ended half-way: OSError: no space left on device" in text


@pytest.mark.usefixtures("known_machine")
def test_a_stage_that_breaks_is_told_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: Run) -> None:
        raise KeyError("no such thing")

    monkeypatch.setitem(stages.FUNCTIONS, "check", broken)
    monkeypatch.setattr(speed_stage, "speed", lambda run, cells: (1, 0))
    assert on_the_cpu(tmp_path, "--stages=check,speed") == 1
    document = found_in(tmp_path)
    (failure,) = document["failures"]
    assert (failure["kind"], failure["name"]) == ("stage", "check")
    assert "KeyError: 'no such thing'" in failure["tail"]
    assert "KeyError: 'no such thing'" in (tmp_path / "gpu_cpu.md").read_text()


@pytest.mark.usefixtures("known_machine")
def test_time_that_was_over_has_an_exit_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "CHECK_SHARE", 0.0)
    monkeypatch.setattr(speed_stage, "speed", lambda run, cells: (1, 0))
    options = ["--stages=check,speed", "--filter=last state alone$|^I=3", "--backends=cpu"]
    assert on_the_cpu(tmp_path, *options) == 3
    text = capsys.readouterr().out
    assert "no failures" in text
    assert "INCOMPLETE: 2 cases of cpu were not checked: the time was over" in text
    assert found_in(tmp_path)["incomplete"]
    assert "incomplete: 2 cases of cpu" in (tmp_path / "gpu_cpu.md").read_text()


def test_questions_that_there_was_no_time_for_are_no_success(tmp_path: Path) -> None:
    assert on_the_cpu(tmp_path, "--stages=env", "--minutes=0.0001") == 3


def test_all_of_auto_is_checked_by_one_worker(tmp_path: Path) -> None:
    run = Run(Settings(output=tmp_path), lambda text: None)
    run.found.backends = {"triton": ""}
    bundles = list(stages.check_bundles(run))
    run.close()
    of_auto = [b for b in bundles if any(job.params["backend"] == "auto" for job in b)]
    assert [len(bundle) for bundle in of_auto] == [len(AUTO_BEHAVIOURS) * len(PRECISIONS)]


def test_all_cases_and_behaviours_are_checked_on_the_cuda_kernels(tmp_path: Path) -> None:
    run = Run(Settings(output=tmp_path), lambda text: None)
    run.found.backends = {"cuda": "", "triton": ""}
    jobs = [job for bundle in stages.check_bundles(run) for job in bundle]
    run.close()
    of_cuda = [job for job in jobs if job.params["backend"] == "cuda"]
    cases = [job.params["case"] for job in of_cuda if job.kind == "case"]
    assert cases == [asdict(case) for case in all_cases()]
    behaviours = {
        (job.params["behaviour"], job.params["precision"])
        for job in of_cuda
        if job.kind == "behaviour"
    }
    assert behaviours == set(itertools.product(BEHAVIOURS, PRECISIONS))


def test_the_cuda_kernels_are_measured_with_all_others() -> None:
    assert peers.names("cuda") == ["torch", "cuda", "triton", "cudnn", "auto"]


@pytest.mark.parametrize(
    ("backend", "stage_list", "asked"),
    [("triton", "check", 1), ("cpu", "check", 0), ("triton", "check,speed", 0)],
    ids=["triton's failure", "another's", "time that speed needs"],
)
def test_the_compiler_is_asked_only_about_tritons_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, stage_list: str, asked: int
) -> None:
    calls: list[Run] = []
    monkeypatch.setattr(stages, "kernel_resources", lambda run, deadline: calls.append(run))
    run = Run(Settings(output=tmp_path, stages=tuple(stage_list.split(","))), lambda text: None)
    params = {"backend": backend}
    run.add({"kind": "case", "name": "x", "status": "wrong", "params": params})
    monkeypatch.setattr(stages, "check_bundles", lambda run: [[Job("y", "nosuch", params)]])
    monkeypatch.setattr(supervisor.Supervisor, "run", lambda *_: None)
    stages.check(run)
    run.close()
    assert len(calls) == asked
