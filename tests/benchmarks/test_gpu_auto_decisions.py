"""Only what was right, and can be had again, is stored to be shipped."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import auto_decisions
from benchmarks.gpu import stored as stored_results
from benchmarks.gpu.results import Document, collect
from benchmarks.gpu.settings import Settings

Record = dict[str, Any]


def records_of(commit: str = "abc", **asked: Any) -> list[Record]:
    environment = {"device": "A GPU", "commit": commit}
    return [
        {"kind": "options", "name": "options", "options": Settings(**asked).options},
        {"kind": "environment", "name": "environment", "environment": environment},
    ]


def document(commit: str = "abc", **asked: Any) -> Document:
    return collect(records_of(commit, **asked))


def stored(
    folder: Path, winners: dict[int, str], *records: Record, commit: str = "abc"
) -> dict[int, str]:
    """Winners by size that are stored after a run with these."""
    entries = [
        {"problem": {"hidden_size": size}, "winner": winner} for size, winner in winners.items()
    ]
    source = folder / "new.json"
    source.write_text(json.dumps({"schema": 1, "decisions": entries}))
    new, merged = merged_by(folder, *records, commit=commit)
    path, count = auto_decisions.store(source, new, merged, folder)
    assert path.name == "gpu_a-gpu_decisions.json"
    found = json.loads(path.read_text())
    assert found["schema"] == 1
    assert len(found["decisions"]) == count
    return winners_in(folder)


def winners_in(folder: Path) -> dict[int, str]:
    found = json.loads((folder / "gpu_a-gpu_decisions.json").read_text())
    return {e["problem"]["hidden_size"]: e["winner"] for e in found["decisions"]}


def merged_by(folder: Path, *records: Record, **asked: Any) -> tuple[Document, Document]:
    """A run's own document, and what is stored after it."""
    found = [*records_of(**asked), *records]
    new = collect(found)
    return new, stored_results.store(new, found, folder, lambda text: None)[1]


def case(status: str, backend: str = "triton") -> Record:
    params = {"backend": backend, "precision": "fp16"}
    return {"kind": "case", "name": f"{backend}, a", "status": status, "params": params}


def test_runs_of_one_commit_are_kept_together(tmp_path: Path) -> None:
    stored(tmp_path, {32: "cudnn"})
    stored(tmp_path, {64: "triton"})
    assert stored(tmp_path, {32: "triton"}) == {32: "triton", 64: "triton"}


def test_decisions_of_another_commit_go(tmp_path: Path) -> None:
    stored(tmp_path, {32: "cudnn", 64: "triton"})
    assert stored(tmp_path, {32: "triton"}, commit="def") == {32: "triton"}


def test_what_an_earlier_run_found_wrong_is_not_stored(tmp_path: Path) -> None:
    merged_by(tmp_path, case("wrong"))
    assert stored(tmp_path, {32: "cudnn", 64: "triton"}) == {32: "cudnn"}
    merged_by(tmp_path, case("ok"))  # it is right now
    assert stored(tmp_path, {64: "triton"}) == {32: "cudnn", 64: "triton"}


def test_a_run_without_decisions_takes_out_those_whose_winner_it_finds_wrong(
    tmp_path: Path,
) -> None:
    stored(tmp_path, {32: "cudnn", 64: "triton"})
    other = merged_by(tmp_path, case("wrong"), defines=("A=1",))
    assert auto_decisions.prune(*other, tmp_path) == 0  # an experiment says nothing of the commit
    assert auto_decisions.prune(*merged_by(tmp_path, case("wrong")), tmp_path) == 1
    assert winners_in(tmp_path) == {32: "cudnn"}
    assert auto_decisions.prune(*merged_by(tmp_path), tmp_path) == 0


CELL = {"kind": "cell", "name": "c", "status": "wrong", "cell": {}}
# The baseline, to which `auto` goes back in any case.
OF_TORCH = {"cudnn": {"status": "error"}, "auto": {"status": "error", "chosen": "cudnn"}}


@pytest.mark.parametrize(
    "failure",
    [
        case("wrong"),
        {**case("crashed"), "kind": "behaviour"},
        {**CELL, "peers": {"triton": {"status": "wrong"}, **OF_TORCH}},
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
    [case("wrong", "auto"), {"kind": "stage", "name": "check", "status": "error", "seconds": 1.0}],
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
    assert "A=1" in auto_decisions.why_not(document(defines=("A=1",)))
    assert "abc-dirty" in auto_decisions.why_not(document("abc-dirty"))
    assert "--commit" in auto_decisions.why_not(document("unknown"))
