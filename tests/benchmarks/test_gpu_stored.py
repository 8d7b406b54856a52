"""What several runs found stands together, and each says what it has seen."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import stored
from benchmarks.gpu.plan import Cell
from benchmarks.gpu.report import OLDER, markdown
from benchmarks.gpu.results import Document, collect
from benchmarks.gpu.settings import Settings

Record = dict[str, Any]


def record(kind: str, name: str, status: str = "ok", **content: Any) -> Record:
    return {"kind": kind, "name": name, "params": {}, "status": status, **content}


def case(name: str, status: str = "ok", backend: str = "triton") -> Record:
    params = {"backend": backend, "case": {"precision": "fp16"}}
    return record("case", f"{backend}, {name}", status) | {"params": params}


CELL = vars(Cell(84, 64, 32, 1024, "fp16", packed=False, training=True))


def cell(name: str, us: float = 1.5, **statuses: str) -> Record:
    """A cell's record; torch was right, and how the others ended is told by name."""
    peers: Record = {"torch": {"status": "ok", "us_per_step": us}}
    peers |= {peer: {"status": status} for peer, status in statuses.items()}
    bad = {peer: status for peer, status in statuses.items() if status in ("wrong", "crashed")}
    errors = [f"{peer}: {status}" for peer, status in bad.items()]
    return record("cell", name, "error" if bad else "ok", peers=peers, cell=CELL, errors=errors)


CHECKED = record("stage", "check", seconds=1.0)


def run(
    folder: Path,
    *records: Record,
    commit: str = "abc",
    name: str = "gpu_nvidia-h200.json",
    **asked: Any,
) -> Document:
    """The stored document after a run."""
    machine = {"device": "NVIDIA H200", "commit": commit, "date": "2026-01-02"}
    found = [
        record("options", "options", options=Settings(**asked).options),
        record("environment", "environment", environment=machine),
        *records,
    ]
    path, merged = stored.store(collect(found), found, folder, lambda text: None)
    assert path.name == name or not name
    assert json.loads(path.read_text()) == merged
    assert merged["failures_in_all"] == len(merged["failures"])
    return merged


def failed(document: Document) -> list[str]:
    return [found["name"] for found in document["failures"]]


def test_a_later_run_replaces_its_own_cells_and_keeps_the_others(tmp_path: Path) -> None:
    run(tmp_path, cell("other", triton="wrong"), cell("one", triton="wrong"))
    merged = run(tmp_path, cell("one", us=1.25, triton="ok"), commit="def")
    assert set(merged["cells"]) == {"other", "one"}
    assert merged["cells"]["one"]["peers"]["torch"]["us_per_step"] == 1.25
    assert {found["commit"] for found in merged["environments"].values()} == {"abc", "def"}
    assert failed(merged) == ["other"]


def test_a_run_of_some_backends_leaves_what_is_known_of_the_others(tmp_path: Path) -> None:
    run(tmp_path, cell("one", triton="wrong", cuda="ok"))
    merged = run(tmp_path, cell("one", us=1.25, cuda="ok"), commit="def", backends=("cuda",))
    peers = merged["cells"]["one"]["peers"]
    assert {name: peer["status"] for name, peer in peers.items()} == {
        "torch": "ok", "triton": "wrong", "cuda": "ok",
    }  # fmt: skip
    commits = {n: merged["environments"][p["environment"]]["commit"] for n, p in peers.items()}
    assert commits == {"torch": "def", "triton": "abc", "cuda": "def"}
    assert failed(merged) == ["one"]
    banned = run(tmp_path, cell("one", triton="not run"))
    assert banned["cells"]["one"]["peers"]["triton"]["status"] == "wrong"
    assert failed(banned) == ["one"]
    assert failed(run(tmp_path, cell("one", triton="ok"))) == []


def test_a_failure_of_two_ends_when_both_were_right_be_it_in_two_runs(tmp_path: Path) -> None:
    run(tmp_path, cell("one", triton="wrong", cuda="crashed"))
    (left,) = run(tmp_path, cell("one", triton="ok"), backends=("triton",))["failures"]
    assert (left["peers"], left["errors"]) == (["cuda"], ["cuda: crashed"])
    assert failed(run(tmp_path, cell("one", cuda="ok"), backends=("cuda",))) == []


@pytest.mark.parametrize("kind", ["kernels", "overhead"])
def test_peers_of_other_measurements_are_kept_too(tmp_path: Path, kind: str) -> None:
    for peer in ("triton", "cuda"):
        found: Record = {peer: {"status": "ok", "kernels": [1], "forward_us": 1.0}}
        merged = run(tmp_path, record(kind, "x", peers=found, precision="fp16"))
    assert set(merged[kind]["x"]["peers"]) == {"triton", "cuda"}
    crashed = run(tmp_path, record(kind, "x", "crashed", subject="cuda"))
    assert set(crashed[kind]["x"]["peers"]) == {"triton", "cuda"}
    assert failed(crashed) == ["x"]


@pytest.mark.parametrize("asked", [{"plugin": "mine.py"}, {"defines": ("A=1",)}], ids=str)
def test_an_experiment_has_a_file_of_its_own(tmp_path: Path, asked: dict[str, Any]) -> None:
    run(tmp_path, cell("one", us=1.25))
    run(tmp_path, cell("one", us=99.0), name="", **asked)
    official = json.loads((tmp_path / "gpu_nvidia-h200.json").read_text())
    assert official["cells"]["one"]["peers"]["torch"]["us_per_step"] == 1.25
    assert len(list(tmp_path.glob("gpu_nvidia-h200_with_*.json"))) == 1


def test_results_of_another_environment_bear_a_sign_and_meet_no_target(tmp_path: Path) -> None:
    old = cell("old", triton="ok")
    old["peers"]["triton"]["ratio"] = {"p20": 9.0, "p50": 9.0, "p80": 9.0}
    assert OLDER not in markdown(run(tmp_path, old)).split("## Speed")[1]
    text = markdown(run(tmp_path, cell("new", triton="ok"), commit="def"))
    rows = [line for line in text.splitlines() if line.startswith("| I=84")]
    assert sorted(OLDER in row for row in rows) == [False, True]
    assert "Targets, from the measured cells alone, at commit def" in text
    targets = text.split("## Targets")[1].split("\n## ")[0]
    assert "in the mean of" not in targets
    # Of a commit that measured nothing, nothing is claimed.
    text = markdown(run(tmp_path, commit="ghi"))
    assert "## Targets, at commit ghi\n- no cell was measured" in text


def test_what_was_incomplete_stays_so_until_its_stage_ends(tmp_path: Path) -> None:
    late = record("incomplete", "triton", "incomplete", stage="check", error="3 cases left")
    run(tmp_path, case("a"), late, CHECKED, stages=("check",))
    profiled = record("stage", "profile", seconds=1.0)
    assert run(tmp_path, profiled, stages=("profile",))["incomplete"] == {"check": ["3 cases left"]}
    some = run(tmp_path, case("a"), CHECKED, stages=("check",), pattern="a")
    assert some["incomplete"] == {"check": ["3 cases left"]}
    assert run(tmp_path, case("a"), CHECKED, stages=("check",))["incomplete"] == {}


def test_checks_of_some_cases_and_of_other_seeds_stand_side_by_side(tmp_path: Path) -> None:
    run(tmp_path, case("a", "wrong"), CHECKED, stages=("check",))
    run(tmp_path, case("a"), CHECKED, pattern="a", stages=("check",))
    run(tmp_path, case("b"), CHECKED, pattern="b", stages=("check",))
    merged = run(tmp_path, case("c"), CHECKED, seed=1, stages=("check",))
    parts = [(row["whole"], row["seed"], row["filter"]) for row in merged["check"]["rows"]]
    assert parts == [(True, 0, ""), (True, 1, ""), (False, 0, "a"), (False, 0, "b")]
    merged = run(tmp_path, case("a"), CHECKED, stages=("check",))
    assert [row["seed"] for row in merged["check"]["rows"]] == [0, 1]


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


@pytest.mark.parametrize(("kind", "content"), [("ncu", "launches"), ("resources", "kernels")])
def test_kernels_that_could_not_be_looked_at_leave_what_is_known(
    tmp_path: Path, kind: str, content: str
) -> None:
    run(tmp_path, record(kind, "x", **{content: [{"kernel": "forward"}]}))
    merged = run(tmp_path, record(kind, "x", "skipped", reason="less than 25 s were left"))
    assert merged[kind]["x"][content] == [{"kernel": "forward"}]
    merged = run(tmp_path, record(kind, "y", "skipped", reason="ncu is not on the PATH"))
    assert "ncu is not on the PATH" in merged[kind]["y"]["reason"]
