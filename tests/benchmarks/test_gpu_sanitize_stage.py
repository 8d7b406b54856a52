"""The stage `sanitize` with a stand-in for compute-sanitizer: nothing is green by default."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import auto_decisions, results, sanitize_stage, sanitizer, stages, stored
from benchmarks.gpu.clock import Deadline
from benchmarks.gpu.commands import Program, side_by_side
from benchmarks.gpu.report import markdown
from benchmarks.gpu.run import Run
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.summary import summary

from .test_gpu_sanitizer import CLEAN, MEMCHECK, REFUSED

PLANTED = MEMCHECK.replace("lstm_forward", "lstm_planted")
NVCC = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
touch "$2"
"""
# Prints what the test says, by tool and whether the fault is planted.
TOOL = """#!{python}
import pathlib, sys, time
tool = sys.argv[sys.argv.index("--tool") + 1]
planted = sys.argv[-1] == tool
name = "planted" if planted else tool + "_" + sys.argv[-1]
folder = pathlib.Path(__file__).parent
found = [folder / name, folder / ("planted_" + tool if planted else "runs")]
text = next((path.read_text() for path in found if path.exists()), "")
print(text, flush=True)
time.sleep(60 if "hangs" in text else 0)
sys.exit("ERROR SUMMARY: 1" in text)
"""


class Machine:
    """A folder of tools, and a run that finds them."""

    def __init__(self, folder: Path) -> None:
        self.tools = folder / "tools"
        self.tools.mkdir()
        self.program("nvcc", NVCC)
        self.program("compute-sanitizer", TOOL.format(python=sys.executable))
        (self.tools / "planted").write_text(PLANTED)
        (self.tools / "runs").write_text(CLEAN)
        self.output = folder / "output"
        self.shown: list[str] = []

    def program(self, name: str, text: str) -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def sanitize(self, found: str = "", **settings: Any) -> results.Document:
        """Run the stage, with a reason against the backend if there is one."""
        options = {"stages": ("sanitize",), "minutes": 1.0, "workers": 2, **settings}
        run = Run(Settings(output=self.output, **options), self.shown.append)
        run.found.asked, run.found.backends = True, {"cuda": found, "triton": ""}
        run.add({"kind": "environment", "name": "environment", "environment": {"device": "a"}})
        stages.run_stages(run)
        run.close()
        self.records = run.records
        return results.collect(run.records)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(made.tools), prepend=os.pathsep)
    return made


def names(document: results.Document, status: str) -> set[str]:
    return {n for n, found in document["sanitize"].items() if found["status"] == status}


def test_every_tool_looks_at_every_precision(machine: Machine) -> None:
    document = machine.sanitize()
    expected = {f"{tool}, {p}" for tool in sanitizer.TOOLS for p in stages.PRECISIONS}
    assert names(document, "ok") == expected == set(document["sanitize"])
    assert document["failures"] == []
    assert document["incomplete"] == {}
    assert "sanitize ok: memcheck, fp32; " in summary(document)


def test_a_finding_makes_the_run_fail_and_is_told_with_its_kernel(machine: Machine) -> None:
    (machine.tools / "memcheck_fp16").write_text(MEMCHECK)
    document = machine.sanitize()
    (failure,) = document["failures"]
    assert (failure["name"], failure["status"]) == ("memcheck, fp16", "wrong")
    assert names(document, "wrong") == {"memcheck, fp16"}
    text = markdown(document)
    assert "## Compute-sanitizer" in text
    assert "`lstm_forward<Arithmetic<(Precision)0>, 32, false>`, memcheck, fp16, I=97" in text
    assert "    Address 0x7f6fa0801001 is out of bounds" in text
    assert "lstm_forward" in summary(document)
    assert auto_decisions.distrusted(document["failures"]) == {"cuda"}


def test_a_finding_is_known_until_the_same_run_is_clean(machine: Machine) -> None:
    (machine.tools / "memcheck_fp16").write_text(MEMCHECK)
    old = machine.sanitize()
    (machine.tools / "memcheck_fp16").unlink()
    (machine.tools / "compute-sanitizer").rename(machine.tools / "gone")
    skipped = machine.sanitize()
    merged = stored.merge(old, skipped, machine.records)
    assert [found["name"] for found in merged["failures"]] == ["memcheck, fp16"]
    assert merged["sanitize"]["memcheck, fp16"]["status"] == "wrong"
    (machine.tools / "gone").rename(machine.tools / "compute-sanitizer")
    clean = machine.sanitize()
    assert stored.merge(merged, clean, machine.records)["failures"] == []


def test_without_the_tool_the_stage_is_skipped_and_incomplete(machine: Machine) -> None:
    (machine.tools / "compute-sanitizer").unlink()
    document = machine.sanitize()
    assert names(document, "skipped") == {"sanitize"}
    assert "neither on the PATH nor beside nvcc" in document["incomplete"]["sanitize"][0]
    assert "sanitize skipped (compute-sanitizer is neither" in summary(document)
    assert "sanitize: sanitize skipped: " in machine.shown[-1]


@pytest.mark.parametrize(
    ("found", "settings", "told"),
    [
        ("no driver", {}, "cuda cannot run: no driver"),
        ("", {"backends": ("triton",)}, "--backends leaves cuda out"),
        ("", {"device": "cpu"}, "it needs a GPU"),
    ],
)
def test_where_there_is_nothing_to_watch_nothing_is_incomplete(
    machine: Machine, found: str, settings: dict[str, Any], told: str
) -> None:
    document = machine.sanitize(found, **settings)
    assert document["sanitize"]["sanitize"]["reason"] == told
    assert document["failures"] == []
    assert document["incomplete"] == {}


def test_a_tool_that_finds_no_planted_fault_proves_nothing(machine: Machine) -> None:
    (machine.tools / "planted").unlink()
    for tool in sanitizer.TOOLS:
        (machine.tools / f"planted_{tool}").write_text(REFUSED if tool == "racecheck" else PLANTED)
    document = machine.sanitize()
    assert names(document, "skipped") == {"racecheck"}
    assert {name.split(",")[0] for name in names(document, "ok")} == {*sanitizer.TOOLS} - {
        "racecheck"
    }
    (text,) = document["incomplete"]["sanitize"]
    assert "racecheck skipped: it does not find a planted fault: Device not supported" in text


def test_where_no_fault_can_be_planted_the_rest_is_done(machine: Machine) -> None:
    machine.program("nvcc", "#!/bin/sh\nexit 1\n")
    document = machine.sanitize()
    assert len(names(document, "ok")) == 16
    assert "nobody knows whether the tool sees faults" in document["incomplete"]["sanitize"][0]


def test_a_program_that_crashes_is_a_failure(machine: Machine) -> None:
    (machine.tools / "racecheck_bf16").write_text("========= COMPUTE-SANITIZER\nSegmentation fault")
    document = machine.sanitize(pattern="racecheck")
    (failure,) = document["failures"]
    assert failure["status"] == "error"
    assert "Segmentation fault" in failure["errors"][0]
    assert failure["subject"] == "cuda"


def test_what_takes_too_long_is_ended_and_incomplete(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sanitize_stage, "RUN_SECONDS", 1.0)
    (machine.tools / "initcheck_fp32").write_text("hangs")
    begin = time.monotonic()
    document = machine.sanitize(pattern="initcheck, (fp32|tf32)")
    assert time.monotonic() - begin < 20
    assert document["sanitize"]["initcheck, fp32"]["status"] == "not finished"
    assert names(document, "ok") == {"initcheck, tf32"}
    assert document["failures"] == []
    assert "initcheck, fp32: not ready" in document["incomplete"]["sanitize"][0]


def test_the_stage_ends_in_time_and_tells_what_it_left_out(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sanitize_stage, "SANITIZE_SECONDS", 3.0)
    monkeypatch.setattr(sanitize_stage, "MAX_AT_ONCE", 1)
    monkeypatch.setattr(sanitize_stage, "_blind", lambda *_: set())
    (machine.tools / "runs").write_text("hangs")
    monkeypatch.setitem(stages.FUNCTIONS, "speed", lambda run: None)
    begin = time.monotonic()
    document = machine.sanitize(stages=("sanitize", "speed"))
    assert time.monotonic() - begin < 20
    assert document["left_out"]["sanitize"] == 15
    assert "there was no time for memcheck, tf32" in document["incomplete"]["sanitize"][1]


def test_the_check_leaves_time_for_it(machine: Machine) -> None:
    run = Run(Settings(output=machine.output), machine.shown.append)
    run.found.backends = {"cuda": ""}
    assert sanitize_stage.seconds_kept(run) == sanitize_stage.SANITIZE_SECONDS
    run.found.backends = {"cuda": "no driver"}
    assert sanitize_stage.seconds_kept(run) == 0.0
    run.close()


def test_no_program_outlives_whoever_waits_for_it(tmp_path: Path) -> None:
    def ended(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    script = "import os, time; print(os.getpid(), flush=True); time.sleep({})"
    programs = [
        Program(str(n), [sys.executable, "-c", script.format(n)], tmp_path / f"{n}.log", 30)
        for n in (0, 60)
    ]
    limit = Deadline.after(30)
    running = side_by_side(programs, env=os.environ, folder=tmp_path, workers=2, deadline=limit)
    program, code = next(running)
    assert (program.name, code) == ("0", 0)
    _wait_for(lambda: bool((tmp_path / "60.log").read_text()))
    running.close()  # type: ignore[attr-defined]
    pid = int((tmp_path / "60.log").read_text())
    _wait_for(lambda: ended(pid))


def _wait_for(what: Callable[[], bool]) -> None:
    deadline = Deadline.after(20)
    while not what():
        assert deadline.left()
        time.sleep(0.05)
