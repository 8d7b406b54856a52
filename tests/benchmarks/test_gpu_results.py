"""What a run found is kept whole, and told with the failures last."""

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu import results
from benchmarks.gpu.plan import Cell
from benchmarks.gpu.report import MAX_KERNELS, markdown
from benchmarks.gpu.results import failed
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.summary import summary
from benchmarks.gpu.worker import finite

CELL = Cell(84, 64, 32, 1024, "fp16", packed=False, training=True)
SPREAD = {"p20": 1.0, "p50": 2.0, "p80": 3.0}


def record(kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, "params": {}, **content}


def environment(commit: str = "abc") -> dict[str, Any]:
    found = {"device": "NVIDIA H200", "commit": commit, "date": "2026-01-02", "sm_clock": "345 MHz"}
    return record("environment", "environment", status="ok", environment=found)


def cell(name: str = CELL.name, us: float = 1.5) -> dict[str, Any]:
    peers = {
        "torch": {"status": "ok", "us_per_step": us, "ms": SPREAD, "peak_mb": 12.5},
        "triton": {"status": "ok", "us_per_step": 0.75, "ratio": SPREAD, "peak_mb": 3.0},
        "cuda": {"status": "wrong", "errors": ["y: error 1"]},
    }
    return record("cell", name, status="wrong", errors=["cuda: y"], peers=peers, cell=vars(CELL))


def case(name: str, status: str, **content: Any) -> dict[str, Any]:
    params = {"backend": "triton", "case": {"precision": "fp16"}}
    return record("case", name, status=status, **content) | {"params": params}


def kernels() -> dict[str, Any]:
    longest = {"kernel": "RNN_blockPersist<a|b>", "share": 0.9, "us_per_step": 1.0}
    found = {"torch": {"status": "ok", "kernels": [longest]}}
    return record("kernels", CELL.kernel_class, status="ok", peers=found)


RECORDS = [
    environment(),
    case("triton, a", "ok", worst=0.4),
    case("triton, b", "wrong", worst="inf", errors=["y: error nan, allowed 0.1"]),
    case("triton, c", "skipped", reason="H is too large"),
    case("triton, d", "crashed", error="ended by SIGABRT", subject="triton", step="run", tail="x"),
    cell(),
    kernels(),
]


def test_a_stream_that_was_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    lines = [json.dumps(found) for found in RECORDS]
    path.write_text("\n".join(lines) + "\n" + lines[0][:20])
    assert results.read_lines(path) == RECORDS
    assert results.read_lines(tmp_path / "none.jsonl") == []


def test_the_document_counts_and_names_what_failed() -> None:
    document = results.collect(RECORDS)
    (row,) = document["check"]["rows"]
    assert row["statuses"] == {"ok": 1, "wrong": 1, "skipped": 1, "crashed": 1}
    assert row["skipped"] == {"H is too large": 1}
    assert (row["worst"], row["worst_case"]) == ("inf", "triton, b")
    assert [found["name"] for found in document["failures"]] == [
        "triton, b",
        "triton, d",
        CELL.name,
    ]
    assert document["cells"][CELL.name]["environment"] in document["environments"]


def test_clocks_and_measured_rates_do_not_make_another_environment() -> None:
    before = {"device": "x", "sm_clock": "345 MHz"}
    after = {"device": "x", "sm_clock": "1980 MHz", "copy_gb_per_s": 2011.5, "matmul_tflops": 700}
    assert results.environment_key(before) == results.environment_key(after)
    assert results.environment_key(before) != results.environment_key({"device": "y"})


def test_the_markdown_shows_times_ratios_kernels_and_failures() -> None:
    text = markdown(results.collect(RECORDS))
    assert "| I=84, H=64, B=32, T=1024 | 1.5 | 0.75 **2.00x** (1.00 to 3.00) | wrong |" in text
    assert "`RNN_blockPersist<a\\|b>` (90%)" in text
    assert "torch 12.5, triton 3" in text
    assert "y: error nan, allowed 0.1" in text
    assert "**crashed** in triton, run: triton, d" in text


def test_the_summary_is_short_and_ends_with_the_failures() -> None:
    many = [
        case(f"triton, fp16, T={n}", "wrong", worst=2.0, errors=[f"y: error {n}, allowed 0"])
        for n in range(500)
    ]
    cells = [cell(f"cell {n}") for n in range(300)]
    text = summary(results.collect([environment(), *many, *cells]))
    assert len(text) < 12_000
    assert "800 failures" in text
    last = text.splitlines()[-6:]
    assert any("WRONG" in line for line in last)
    assert "triton    2.00 (2.00 to 2.00, 300)" in text


def test_a_worker_that_never_started_is_a_failure_without_a_culprit() -> None:
    step = {"step": "start of the worker", "tail": "ImportError: no triton"}
    broken = record("backends", "backends", status="crashed", error="exit code 1", **step)
    document = results.collect([broken])
    assert document["device"] == results.UNKNOWN_DEVICE
    for text in (summary(document), markdown(document)):
        assert "in start of the worker: backends" in text
        assert "ImportError: no triton" in text


def test_a_run_says_what_it_was_asked_for() -> None:
    asked = Settings(pattern="x", plugin="/somewhere/mine.py", defines=("A=1",), seed=3).options
    options = record("options", "options", options=asked)
    document = results.collect([options, *RECORDS])
    assert document["options"]["filter"] == "x"
    assert document["options"]["seed"] == 3
    (found,) = document["environments"].values()
    assert (found["plugin"], found["defines"]) == ("mine.py", ["A=1"])
    assert "/somewhere" not in json.dumps(document)
    text = markdown(document)
    assert "filter x" in text
    assert "plugin mine.py" in text


def test_only_a_check_that_ended_and_left_nothing_out_is_whole() -> None:
    def whole(*records: dict[str, Any], **asked: Any) -> bool:
        options = record("options", "options", options=Settings(**asked).options)
        document = results.collect([options, environment(), case("triton, a", "ok"), *records])
        (row,) = document["check"]["rows"]
        return bool(row["whole"])

    ended = record("stage", "check", status="ok", seconds=1.0)
    cut_off = record("incomplete", "triton", stage="check", status="incomplete", error="3 cases")
    assert whole(ended)
    assert not whole()
    assert not whole({**ended, "status": "error"})
    assert not whole(ended, pattern="a")
    assert not whole(ended, cut_off)


def test_a_killed_run_is_incomplete() -> None:
    options = record("options", "options", options=Settings(stages=("env", "check")).options)
    ended = record("stage", "env", status="ok", seconds=1.0)
    assert results.collect([options, ended])["incomplete"] == {"check": ["check did not end"]}


def test_every_failure_is_named_and_the_first_ones_told_in_full() -> None:
    errors = ["e" * 1000] * 3
    many = [case(f"triton, {n}", "wrong", errors=errors, tail="t" * 1000) for n in range(400)]
    document = results.collect([environment(), *many])
    assert document["failures_in_all"] == len(document["failures"]) == 400
    first, *_, last = document["failures"]
    assert first["errors"] == errors
    assert sum(map(len, last["errors"])) <= 200


def test_numbers_that_json_does_not_know_become_text() -> None:
    assert finite({"a": [float("nan"), 1.0], "b": float("inf")}) == {"a": ["nan", 1.0], "b": "inf"}


def test_a_worker_that_torchs_own_library_ends_is_no_failure_of_ours() -> None:
    crashed = {"kind": "cell", "name": "a cell", "status": "crashed"}
    assert not failed({**crashed, "subject": "cudnn"})
    assert failed({**crashed, "subject": "triton"})
    assert failed(crashed)
    # In the check the baseline's numbers are held to their bound like all others.
    assert failed({**crashed, "kind": "case", "subject": "cudnn"})


def test_what_auto_chose_in_a_graph_is_told() -> None:
    params = {"backend": "auto", "precision": "fp16", "behaviour": "auto in a CUDA graph"}
    chosen = {"outside": "triton", "captured": "eager"}
    graph = record("behaviour", "auto, fp16: auto in a CUDA graph", status="ok", chosen=chosen)
    text = markdown(results.collect([environment(), graph | {"params": params}]))
    assert "auto in fp16, in a CUDA graph: outside: triton, captured: eager" in text


def test_kernels_that_the_markdown_has_no_room_for_are_counted() -> None:
    found = [{"kernel": "forward", "registers": n} for n in range(MAX_KERNELS + 7)]
    compiled = record("resources", "resources", status="ok", kernels=found)
    document = results.collect([environment(), compiled])
    assert len(document["resources"]["resources"]["kernels"]) == MAX_KERNELS + 7
    assert "\n7 more in the JSON file\n" in markdown(document)
