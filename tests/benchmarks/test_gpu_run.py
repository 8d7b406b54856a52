"""The whole command on the CPU, with stand-in backends that are wrong or crash."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import results, speed, stored, worker
from benchmarks.gpu.devices import CpuDevice
from benchmarks.gpu.plan import self_test_cells
from benchmarks.gpu.settings import ROOT, Settings

STAND_INS = """
import os
from fastrnn.recurrence import dispatch
from fastrnn.recurrence.backends import EagerBackend
import torch

class Wrong(EagerBackend):
    name = "wrong"
    tolerance = {torch.float32: 4.0}

    def supports(self, problem):
        return [] if problem.dtype in self.tolerance else ["it is for float32"]

    def forward(self, problem, args):
        result = super().forward(problem, args)
        return result._replace(y=result.y * 1.01)

class Crashing(Wrong):
    name = "crashing"

    def forward(self, problem, args):
        os.abort()

*others, last = dispatch.BACKENDS
dispatch.BACKENDS = (*others, Wrong(), Crashing(), last)
"""
CASES = r"^(cpu|wrong|crashing), I=3, .*B=11, T=40(, D=2)?, fp32"
FILTER = CASES + "|padded, inference|auto|^cpu.*last state"
# Of a run with this plugin.
EXPERIMENT = "gpu_cpu_with_stand-ins-py.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Exit code and results of one run over check and speed."""
    folder = tmp_path_factory.mktemp("gpu")
    plugin = folder / "stand_ins.py"
    plugin.write_text(STAND_INS)
    options = ["--device=cpu", "--self-test", f"--output={folder}", f"--plugin={plugin}"]
    options += ["--stages=check,speed", "--minutes=3", f"--filter={FILTER}", "--workers=1"]
    return command.main(options), folder


@pytest.fixture(scope="module")
def document(finished: tuple[int, Path]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((finished[1] / EXPERIMENT).read_text())
    return found


def test_a_failure_gives_exit_code_1(finished: tuple[int, Path]) -> None:
    assert finished[0] == 1


def test_the_grid_tells_right_wrong_and_crashed_apart(document: dict[str, Any]) -> None:
    rows = {
        (row["backend"], row["precision"]): row["statuses"] for row in document["check"]["rows"]
    }
    assert set(rows["cpu", "fp32"]) == {"ok"}
    assert rows["wrong", "fp32"]["wrong"] >= 1
    assert rows["crashing", "fp32"]["crashed"] >= 1
    assert document["check"]["decisions"]["fp32"]["H=64"] == "cpu"


def test_a_wrong_result_is_told_with_its_place(document: dict[str, Any]) -> None:
    wrong = [f for f in document["failures"] if f["status"] == "wrong" and f["kind"] == "case"]
    assert any("elements, the first at [" in text for found in wrong for text in found["errors"])


def test_a_crash_is_told_with_its_last_words(document: dict[str, Any]) -> None:
    crash = next(found for found in document["failures"] if found["status"] == "crashed")
    assert crash["subject"] == "crashing"
    assert "SIGABRT" in crash["errors"][0]
    assert "Fatal Python error: Aborted" in crash["tail"]


def test_no_time_is_given_for_what_is_wrong_and_the_others_have_theirs(
    document: dict[str, Any],
) -> None:
    (cell,) = document["cells"].values()
    peers = cell["peers"]
    assert peers["wrong"]["status"] == "wrong"
    assert "ms" not in peers["wrong"]
    assert peers["crashing"]["status"] == "crashed"
    assert set(peers["cpu"]["ms"]) == set(peers["cpu"]["ratio"]) == {"p20", "p50", "p80"}
    assert peers["torch"]["us_per_step"] > 0
    assert cell["environment"] in document["environments"]
    (kernels,) = document["kernels"].values()
    assert kernels["peers"]["torch"]["kernels"][0]["share"] > 0


def test_the_markdown_says_so_too(finished: tuple[int, Path]) -> None:
    text = (finished[1] / EXPERIMENT).with_suffix(".md").read_text()
    assert "## Correctness" in text
    assert "### fp32, padded, inference" in text
    assert "| wrong | crashed |" in text


def test_results_of_a_killed_run_are_reported_later(
    finished: tuple[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (finished[1] / "gpu_run" / "lines.jsonl").read_text()
    work = tmp_path / "gpu_run"
    work.mkdir()
    (work / "lines.jsonl").write_text(lines[:-30])
    assert command.main(["--stages=report", f"--output={tmp_path}"]) == 1
    assert json.loads((tmp_path / EXPERIMENT).read_text())["check"]
    assert "CRASHED" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([f"--output={tmp_path}"]) == 2
    assert capsys.readouterr().out.startswith("no CUDA device: ")
    assert not list(tmp_path.iterdir())


def test_the_plan_is_printed_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--dry-run", "--minutes=1"]) == 0
    text = capsys.readouterr().out
    assert "I=84, H=64, B=32, T=1024, fp16, padded, forward+backward" in text
    assert "4612 cells" in text


@pytest.mark.parametrize("text", ["", '{"kind": "cut o'], ids=["missing", "empty"])
def test_a_report_of_nothing_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    if text:
        (tmp_path / "gpu_run").mkdir()
        (tmp_path / "gpu_run" / "lines.jsonl").write_text(text)
    assert command.main(["--stages=report", f"--output={tmp_path}"]) == 1
    assert "there is nothing to report: " in capsys.readouterr().out


def test_the_command_itself_needs_neither_torch_nor_the_package() -> None:
    script = (
        "import sys, benchmarks.gpu.__main__; "
        "sys.exit(bool({'torch', 'fastrnn', 'triton'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_a_reader_that_goes_away_stops_nothing() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command_line = [sys.executable, "-m", "benchmarks.gpu", "--dry-run"]
    with os.fdopen(theirs, "w") as stdout:
        done = subprocess.run(
            command_line, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_nothing_is_forced_on_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRNN_BACKEND", "eager")
    env = Settings().launch_env("check", Path("/scratch"))
    assert "FASTRNN_BACKEND" not in env
    assert env["CUBLAS_WORKSPACE_CONFIG"]
    assert env["FASTRNN_CACHE_DIR"].startswith("/scratch")
    decisions = Settings().launch_env("speed", Path("/scratch"))["FASTRNN_CACHE_DIR"]
    assert Path(decisions) == Settings().decisions


def test_memory_that_runs_out_for_one_peer_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(speed, "gate", full)
    context = worker.Context(CpuDevice(), lambda message: None)
    cell = self_test_cells()[1].as_params()
    record = speed.run_cell({"cell": cell, "backends": ["cpu"]}, context)
    assert record["status"] == "ok"
    assert record["peers"]["cpu"]["status"] == "out of memory"
    assert "ms" in record["peers"]["torch"]


def test_results_of_several_machines_are_put_together(
    finished: tuple[int, Path], tmp_path: Path
) -> None:
    records = results.read_lines(finished[1] / "gpu_run" / "lines.jsonl")
    (one,) = (r for r in records if r["kind"] == "cell" and r["status"] != "crashed")
    for name in ("cell of one", "cell of another"):
        shutil.rmtree(tmp_path / "gpu_run", ignore_errors=True)
        (tmp_path / "gpu_run").mkdir()
        lines = [*(r for r in records if r["kind"] != "cell"), {**one, "name": name}]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "gpu_run" / "lines.jsonl").write_text(text)
        command.main(["--stages=report", f"--output={tmp_path}"])
    stored_cells = json.loads((tmp_path / EXPERIMENT).read_text())["cells"]
    assert set(stored_cells) == {"cell of one", "cell of another"}


def test_no_cache_is_left_in_the_results(finished: tuple[int, Path]) -> None:
    left = {path.name for path in (finished[1] / "gpu_run").rglob("*")}
    assert left <= {"lines.jsonl", "workers.log", "build.log", "decisions", "decisions.json"}


def test_the_summary_is_printed_even_if_nothing_can_be_stored(
    finished: tuple[int, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(stored, "write", full)
    lines = results.read_lines(finished[1] / "gpu_run" / "lines.jsonl")
    good = [found for found in lines if not results.failed(found)]
    assert command.report(good, Settings(output=tmp_path)) == 1
    text = capsys.readouterr().out
    assert text.index("no failures") < text.index("no space left on device")


@pytest.mark.parametrize(
    ("options", "kept"),
    [([], False), (["--plugin=x.py"], False), (["--commit=abc"], True)],
    ids=["unknown commit", "plugin", "known commit"],
)
def test_decisions_are_stored_if_they_can_be_had_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], kept: bool
) -> None:
    plugin = "x.py" if "--plugin=x.py" in options else ""
    commit = "abc" if "--commit=abc" in options else "unknown"
    settings = Settings(output=tmp_path, plugin=plugin, stages=())
    folder = settings.decisions
    folder.mkdir(parents=True)
    (folder / "decisions.json").write_text('{"schema": 1, "decisions": []}')
    machine = {"device": "A GPU", "commit": commit}
    records = [
        {"kind": "options", "name": "options", "options": settings.options},
        {"kind": "environment", "name": "environment", "environment": machine},
    ]
    assert command.report(records, settings) == 0
    assert (tmp_path / "gpu_a-gpu_decisions.json").exists() == kept
    assert ("decisions of this run are not stored" in capsys.readouterr().out) != kept
