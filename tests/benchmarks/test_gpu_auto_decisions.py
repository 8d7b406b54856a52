"""Only what was right, and can be had again, is stored to be shipped."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import auto_decisions
from benchmarks.gpu.results import Document, collect
from benchmarks.gpu.settings import Settings

Record = dict[str, Any]


def document(commit: str = "abc", **asked: Any) -> Document:
    environment = {"device": "A GPU", "commit": commit}
    return collect(
        [
            {"kind": "options", "name": "options", "options": Settings(**asked).options},
            {"kind": "environment", "name": "environment", "environment": environment},
        ]
    )


def stored(
    folder: Path, winners: dict[int, str], *records: Record, commit: str = "abc"
) -> dict[int, str]:
    """Winners by size that are stored after a run with these."""
    entries = [
        {"problem": {"hidden_size": size}, "winner": winner} for size, winner in winners.items()
    ]
    source = folder / "new.json"
    source.write_text(json.dumps({"schema": 1, "decisions": entries}))
    path, count = auto_decisions.store(source, document(commit), records, folder)
    assert path.name == "gpu_a-gpu_decisions.json"
    found = json.loads(path.read_text())
    assert found["schema"] == 1
    assert len(found["decisions"]) == count
    return {e["problem"]["hidden_size"]: e["winner"] for e in found["decisions"]}


def case(status: str, backend: str = "triton") -> Record:
    return {"kind": "case", "name": "a", "status": status, "params": {"backend": backend}}


def test_runs_of_one_commit_are_kept_together(tmp_path: Path) -> None:
    stored(tmp_path, {32: "cudnn"})
    stored(tmp_path, {64: "triton"})
    assert stored(tmp_path, {32: "triton"}) == {32: "triton", 64: "triton"}


def test_decisions_of_another_commit_go(tmp_path: Path) -> None:
    stored(tmp_path, {32: "cudnn", 64: "triton"})
    assert stored(tmp_path, {32: "triton"}, commit="def") == {32: "triton"}


CELL = {"kind": "cell", "name": "c", "status": "wrong"}


@pytest.mark.parametrize(
    "failure",
    [
        case("wrong"),
        {**case("crashed"), "kind": "behaviour"},
        {**CELL, "peers": {"triton": {"status": "wrong"}, "cudnn": {"status": "ok"}}},
        {**CELL, "status": "crashed", "subject": "triton"},
        {"kind": "incomplete", "name": "triton", "status": "error"},
    ],
    ids=["case", "behaviour", "peer", "crash", "crashed too often"],
)
def test_a_winner_that_failed_is_not_stored(tmp_path: Path, failure: Record) -> None:
    stored(tmp_path, {128: "triton"})
    assert stored(tmp_path, {32: "cudnn", 64: "triton"}, failure) == {32: "cudnn"}


@pytest.mark.parametrize(
    "failure",
    [case("wrong", "auto"), {"kind": "stage", "name": "check", "status": "error"}],
    ids=["auto", "stage"],
)
def test_nothing_is_stored_where_nobody_can_be_trusted(tmp_path: Path, failure: Record) -> None:
    assert stored(tmp_path, {32: "cudnn"}, failure) == {}


def test_a_damaged_file_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "gpu_a-gpu_decisions.json").write_text("{")
    assert stored(tmp_path, {32: "cudnn"}) == {32: "cudnn"}
    assert (tmp_path / "gpu_a-gpu_decisions.json.unreadable1").read_text() == "{"


def test_what_nobody_can_have_again_is_not_stored() -> None:
    assert auto_decisions.why_not(document()) == ""
    assert "mine.py" in auto_decisions.why_not(document(plugin="mine.py"))
    assert "abc-dirty" in auto_decisions.why_not(document("abc-dirty"))
    assert "--commit" in auto_decisions.why_not(document("unknown"))
