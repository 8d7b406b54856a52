"""What several runs found stands together, and each says what it has seen."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import stored
from benchmarks.gpu.report import markdown
from benchmarks.gpu.results import Document, collect
from benchmarks.gpu.settings import Settings

Record = dict[str, Any]


def record(kind: str, name: str, status: str = "ok", **content: Any) -> Record:
    return {"kind": kind, "name": name, "params": {}, "status": status, **content}


def case(name: str, status: str = "ok", backend: str = "triton") -> Record:
    params = {"backend": backend, "case": {"precision": "fp16"}}
    return record("case", f"{backend}, {name}", status) | {"params": params}


def cell(name: str, status: str = "ok", us: float = 1.5) -> Record:
    peers = {"torch": {"status": "ok", "us_per_step": us}}
    return record("cell", name, status, peers=peers, cell={})


CHECKED = record("stage", "check", seconds=1.0)


def run(folder: Path, *records: Record, commit: str = "abc", **asked: Any) -> Document:
    """The stored document after a run."""
    machine = {"device": "NVIDIA H200", "commit": commit, "date": "2026-01-02"}
    found = [
        record("options", "options", options=Settings(**asked).options),
        record("environment", "environment", environment=machine),
        *records,
    ]
    path, merged = stored.store(collect(found), found, folder, lambda text: None)
    assert path.name == "gpu_nvidia-h200.json"
    assert json.loads(path.read_text()) == merged
    assert merged["failures_in_all"] == len(merged["failures"])
    return merged


def failed(document: Document) -> list[str]:
    return [found["name"] for found in document["failures"]]


def test_a_later_run_replaces_its_own_cells_and_keeps_the_others(tmp_path: Path) -> None:
    run(tmp_path, cell("other", "wrong"), cell("one", "wrong"))
    merged = run(tmp_path, cell("one", us=1.25), commit="def")
    assert set(merged["cells"]) == {"other", "one"}
    assert merged["cells"]["one"]["peers"]["torch"]["us_per_step"] == 1.25
    assert {found["commit"] for found in merged["environments"].values()} == {"abc", "def"}
    assert failed(merged) == ["other"]


def test_a_check_of_one_case_leaves_the_proof_of_all_others(tmp_path: Path) -> None:
    run(tmp_path, case("a"), case("b", "wrong"), case("c", "wrong"), CHECKED)
    merged = run(tmp_path, case("b"), CHECKED, commit="def", pattern="b")
    whole, part = merged["check"]["rows"]
    assert (whole["whole"], whole["cases"], whole["statuses"]["wrong"]) == (True, 3, 2)
    assert (part["whole"], part["cases"], part["filter"]) == (False, 1, "b")
    assert whole["environment"] != part["environment"]
    assert failed(merged) == ["triton, c"]  # b is right now
    assert "some cases b" in markdown(merged)


def test_a_check_of_all_cases_replaces_that_of_some(tmp_path: Path) -> None:
    run(tmp_path, case("a", "wrong"), CHECKED, pattern="a")
    merged = run(tmp_path, case("b"), CHECKED)
    assert [row["whole"] for row in merged["check"]["rows"]] == [True]
    assert failed(merged) == []  # a is in the grid no longer


def test_a_check_speaks_for_its_own_backends_and_seed_only(tmp_path: Path) -> None:
    run(tmp_path, case("a", "wrong"), case("a", "wrong", "cudnn"), CHECKED)
    merged = run(tmp_path, case("b", backend="cudnn"), CHECKED)
    assert failed(merged) == ["triton, a"]
    assert len(merged["check"]["rows"]) == 2
    merged = run(tmp_path, case("b"), CHECKED, seed=1)
    assert failed(merged) == ["triton, a"]


def test_a_stopped_check_replaces_nothing(tmp_path: Path) -> None:
    run(tmp_path, case("a"), case("b", "wrong"), CHECKED)
    merged = run(tmp_path, case("a"))
    assert [row["whole"] for row in merged["check"]["rows"]] == [True, False]
    assert failed(merged) == ["triton, b"]


@pytest.mark.parametrize("kind", ["overhead", "kernels", "environment", "stage", "build"])
def test_a_failure_is_over_when_the_same_ran_well(tmp_path: Path, kind: str) -> None:
    content: Record = {"seconds": 1.0, "modules": [], "environment": {}}
    assert failed(run(tmp_path, record(kind, "x", "error", **content))) == ["x"]
    assert failed(run(tmp_path, record(kind, "another", **content))) == ["x"]
    unfinished = record(kind, "x", "not finished", **content)
    assert failed(run(tmp_path, unfinished)) == ["x"]
    assert failed(run(tmp_path, record(kind, "x", **content), commit="def")) == []


def test_a_backend_is_missing_until_it_is_found(tmp_path: Path) -> None:
    def answer(reason: str) -> Record:
        return record("backends", "backends", backends={"triton": reason})

    run(tmp_path, answer("no triton"), record("missing", "triton", "error"))
    assert failed(run(tmp_path, answer("no triton"), backends=("cudnn",))) == ["triton"]
    assert failed(run(tmp_path, answer(""))) == []


def test_a_cut_off_check_is_a_failure_until_a_whole_one(tmp_path: Path) -> None:
    run(tmp_path, case("a"), record("incomplete", "triton", "error", error="crashed"), CHECKED)
    assert failed(run(tmp_path, case("a"), CHECKED, pattern="a")) == ["triton"]
    assert failed(run(tmp_path, case("a"), CHECKED)) == []


def test_a_slip_of_the_command_line_is_not_stored(tmp_path: Path) -> None:
    assert failed(run(tmp_path, record("filter", "check", "error", error="no match"))) == []


@pytest.mark.parametrize("damaged", ['{"cells": ', "[1]", '{"failures": [{}]}'])
def test_an_unreadable_file_is_kept_aside(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "gpu_nvidia-h200.json"
    for number in (1, 2):
        path.write_text(damaged)
        assert set(run(tmp_path, cell("one"))["cells"]) == {"one"}
        aside = tmp_path / f"gpu_nvidia-h200.json.unreadable{number}"
        assert aside.read_text() == damaged
