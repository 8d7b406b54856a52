"""What a run found is kept whole, merged, and told with the failures last."""

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu import results
from benchmarks.gpu.plan import Cell
from benchmarks.gpu.report import markdown
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


def test_clocks_do_not_make_another_environment() -> None:
    before, after = ({"device": "x", "sm_clock": clock} for clock in ("345 MHz", "1980 MHz"))
    assert results.environment_key(before) == results.environment_key(after)
    assert results.environment_key(before) != results.environment_key({"device": "y"})


def test_a_later_run_replaces_its_own_cells_and_keeps_the_others(tmp_path: Path) -> None:
    other = cell("another cell")
    results.store(results.collect([environment(), other, cell()]), tmp_path)
    path = results.store(results.collect([environment("def"), cell(us=1.25)]), tmp_path)
    assert path.name == "gpu_nvidia-h200.json"
    stored = json.loads(path.read_text())
    assert set(stored["cells"]) == {"another cell", CELL.name}
    assert stored["cells"][CELL.name]["peers"]["torch"]["us_per_step"] == 1.25
    commits = {found["commit"] for found in stored["environments"].values()}
    assert commits == {"abc", "def"}
    assert len(stored["failures"]) == 2  # that of the other cell is still known


def test_a_new_check_replaces_the_old_ones_failures(tmp_path: Path) -> None:
    results.store(results.collect(RECORDS), tmp_path)
    path = results.store(results.collect([environment(), case("triton, b", "ok")]), tmp_path)
    kinds = [found["kind"] for found in json.loads(path.read_text())["failures"]]
    assert kinds == ["cell"]


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


def test_decisions_of_several_runs_are_kept_together(tmp_path: Path) -> None:
    def run(size: int, winner: str) -> None:
        entry = {"problem": {"hidden_size": size}, "winner": winner}
        (tmp_path / "new.json").write_text(json.dumps({"schema": 1, "decisions": [entry]}))
        results.store_decisions(tmp_path / "new.json", "A GPU", tmp_path)

    assert results.store_decisions(tmp_path / "none.json", "A GPU", tmp_path) is None
    run(32, "cudnn")
    run(64, "triton")
    run(32, "triton")
    stored = json.loads((tmp_path / "gpu_a-gpu_decisions.json").read_text())
    assert stored["schema"] == 1
    assert [(e["problem"]["hidden_size"], e["winner"]) for e in stored["decisions"]] == [
        (32, "triton"),
        (64, "triton"),
    ]


def test_numbers_that_json_does_not_know_become_text() -> None:
    assert finite({"a": [float("nan"), 1.0], "b": float("inf")}) == {"a": ["nan", 1.0], "b": "inf"}
