"""Compute-sanitizer's reports are read so that no fault and no broken run looks like none."""

from typing import Any

import pytest

from benchmarks.gpu import sanitized, sanitizer
from benchmarks.gpu.devices import CpuDevice
from benchmarks.gpu.grid import PRECISIONS
from benchmarks.gpu.sanitizer import TOOLS

MEMCHECK = """\
========= COMPUTE-SANITIZER
problem: I=28, H=32, B=11, T=6, fp16, seed 0
problem: I=97, H=17, B=11, T=6, D=2, fp16, lengths zeros, seed 0
========= Invalid __global__ write of size 4 bytes
=========     at void fastrnn::cuda::lstm_forward<fastrnn::cuda::Arithmetic<(fastrnn::cuda::Precision)0>, 32, false>(fastrnn::cuda::ForwardArguments)+0x160 in forward.h:61
=========     by thread (0,0,0) in block (0,0,0)
=========     Address 0x7f6fa0801001 is out of bounds
=========     Saved host backtrace up to driver entry point at kernel launch time
=========         Host Frame: [0x20d6f5] in libcuda.so.1
=========
========= ERROR SUMMARY: 1 error
done, problems: 10
"""  # noqa: E501
RACECHECK = """\
========= COMPUTE-SANITIZER
problem: a
========= Error: Race reported between Write access at void lstm_backward<A, 64>(Arguments)+0x5a0
=========     and Read access at void lstm_backward<A, 64>(Arguments)+0x7b0 [64 hazards]
=========
done, problems: 10
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
CLEAN = """\
========= COMPUTE-SANITIZER
problem: a
done, problems: 10
========= ERROR SUMMARY: 0 errors
"""
# The kinds of reports that have nothing to do with the package's kernels.
OF_TORCH = """\
========= COMPUTE-SANITIZER
problem: a
========= Uninitialized __global__ memory read of size 4 bytes
=========     at void cutlass::gemm(Params)+0x5a0
=========     by thread (0,0,0) in block (0,0,0)
=========
========= Program hit named symbol not found (error 500) on CUDA API call to cuGetProcAddress.
=========     Saved host backtrace up to driver entry point at error
=========
done, problems: 10
========= ERROR SUMMARY: 2 errors
"""
REFUSED = """\
========= COMPUTE-SANITIZER
========= Device not supported. Please refer to the "Supported Devices" section of the manual
========= Target application returned an error
RuntimeError: CUDA error: unknown error
"""


def outcome(text: str, tool: str = "memcheck", code: int | None = 0) -> dict[str, Any]:
    return sanitizer.outcome(tool, text, code)


def test_a_finding_has_its_kernel_its_problem_and_its_first_lines() -> None:
    record = outcome(MEMCHECK, code=1)
    assert record["status"] == "wrong"
    (finding,) = record["findings"]
    assert finding["kernel"] == "lstm_forward<Arithmetic<(Precision)0>, 32, false>"
    assert finding["error"] == "Invalid __global__ write of size 4 bytes"
    assert finding["problem"].startswith("I=97, H=17")
    assert finding["lines"][3] == "Address 0x7f6fa0801001 is out of bounds"
    assert finding["kernel"] in record["errors"][0]
    assert record["problems"] == 10


def test_a_race_is_found_where_the_report_names_both_sides() -> None:
    record = outcome(RACECHECK, "racecheck")
    assert record["status"] == "wrong"
    assert record["findings"][0]["kernel"] == "lstm_backward<A, 64>"


@pytest.mark.parametrize("tool", ["memcheck", "synccheck", "initcheck"])
def test_only_a_whole_report_without_a_finding_is_right(tool: str) -> None:
    assert outcome(CLEAN, tool) == {"status": "ok", "findings": [], "problems": 10}
    assert outcome(CLEAN, tool, code=1)["status"] == "error"
    for part in ("ERROR SUMMARY", "done, "):
        cut = "\n".join(line for line in CLEAN.splitlines() if part not in line)
        record = outcome(cut, tool)
        assert record["status"] == "error"
        assert "findings" not in record
    assert outcome("", tool)["error"].endswith("it printed nothing")


def test_errors_that_the_report_counts_but_does_not_tell_are_findings() -> None:
    record = outcome(CLEAN.replace(": 0 errors", ": 3 errors"))
    assert record["status"] == "wrong"
    assert "3 errors" in record["errors"][0]
    unplaced = CLEAN.replace("done", "========= Stack overflow\n=========\ndone").replace(
        ": 0", ": 1"
    )
    assert outcome(unplaced)["findings"][0]["error"] == "Stack overflow"


def test_faults_of_other_kernels_and_of_cudas_calls_are_counted_only() -> None:
    record = outcome(OF_TORCH, "initcheck")
    assert (record["status"], record["in_other_kernels"]) == ("ok", 2)


def test_a_device_that_the_tool_refuses_is_told() -> None:
    record = outcome(REFUSED, code=255)
    assert record["status"] == "error"
    assert "Device not supported" in record["error"]
    assert "unknown error" in record["error"]
    assert not sanitizer.sees(REFUSED)


def test_a_planted_fault_is_seen_by_the_name_of_its_kernel() -> None:
    assert not sanitizer.sees(MEMCHECK)
    assert sanitizer.sees(MEMCHECK.replace("lstm_forward", "lstm_planted_memcheck"))


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_watches_the_packages_kernels(tool: str) -> None:
    command = sanitizer.command(tool, ["program", "x"], "/bin/sanitizer")
    assert command[0] == "/bin/sanitizer"
    assert command[command.index("--tool") + 1] == tool
    assert command[-2:] == ["program", "x"]
    # What torch's kernels write is initialised too.
    assert ("kns=lstm_" in command) == (tool != "initcheck")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_problems_are_short_and_of_every_kind(precision: str) -> None:
    cases = sanitized.cases(precision)
    assert {case.precision for case in cases} == {precision}
    for low, high in ((1, 32), (33, 64), (65, 128)):
        met = [case for case in cases if low <= case.hidden_size <= high]
        assert any(case.input_size <= 96 for case in met)
        assert any(case.input_size > 96 for case in met)
        assert any(case.lengths == "zeros" for case in met)
        assert {case.num_directions for case in met} == {1, 2}
    assert max(case.seq_len * case.batch_size for case in cases) <= 120
    assert any(case.wanted == "none" for case in cases)


def test_the_program_says_what_it_does_and_how_much(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sanitized.main(["cpu", "eager", "fp32"]) == 0
    text = capsys.readouterr().out
    count = len(sanitized.cases("fp32"))
    assert text.count("problem: I=") == count
    assert text.endswith(f"done, problems: {count}\n")
    monkeypatch.setattr(sanitized, "why_not", lambda *_: ["it does not want to"])
    assert sanitized.main(["cpu", "eager", "fp32"]) == 1
    assert sanitized.run_all(CpuDevice(), "eager", "fp32") == 0
